"""Experiment tracking: MLflow's store, its runs, and the spool for times when it is unreachable."""
