"""Scores of retrievers and response generators."""
