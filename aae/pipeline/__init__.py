"""What every stage needs around its work: arguments, parameters, errors, tracking, snapshots."""
