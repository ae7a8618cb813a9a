"""The dialogue half's page."""
