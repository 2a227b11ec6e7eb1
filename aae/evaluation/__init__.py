"""How good a model is: every measure, the tests behind the verdict, and the judge of images."""
