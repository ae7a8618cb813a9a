"""The trained encoder–decoder."""
