"""Readers of published data sets and of data of one's own."""
