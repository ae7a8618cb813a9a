"""Ablations: a plan of regimes, arms and seeds, run item by item, and what it shows."""
