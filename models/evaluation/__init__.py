"""Held-out scores with intervals."""
