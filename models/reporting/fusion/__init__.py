"""The fusion half's page."""
