"""Typed parameters, one module per section; import the section you need, never the package."""
