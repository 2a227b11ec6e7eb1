"""Many experiments on the machines of a Ray cluster."""
