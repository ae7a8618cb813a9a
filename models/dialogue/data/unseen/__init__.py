"""Data sets about entities that no model has seen."""
