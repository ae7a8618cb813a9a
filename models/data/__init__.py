"""Reading, validating, splitting and generating data."""
