"""Estimates of memory, disk and computation of a run before it starts."""
