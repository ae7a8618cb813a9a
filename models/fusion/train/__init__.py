"""Training of the target on two modes."""
