"""Readers of published data sets and of user data."""
