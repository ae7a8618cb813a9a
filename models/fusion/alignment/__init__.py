"""Alignment of the winning source's signals to the target's tokens."""
