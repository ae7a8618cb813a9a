"""Small language and reward models that are trained from scratch for the embedded world."""
