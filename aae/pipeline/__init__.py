"""What surrounds the work of a stage: arguments, parameters, errors, tracking and snapshots."""
