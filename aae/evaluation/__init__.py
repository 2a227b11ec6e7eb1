"""The evaluation of a model: all measures, the tests behind the verdict, and the judge."""
