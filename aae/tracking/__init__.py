"""Experiment tracking: MLflow's store, the runs in it, and the spool for when it is away."""
