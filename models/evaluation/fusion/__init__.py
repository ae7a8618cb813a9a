"""Scores of sources and fused models."""
