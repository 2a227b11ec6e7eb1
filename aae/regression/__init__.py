"""The gate: does a change make a metric worse?"""
