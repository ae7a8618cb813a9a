"""Orchestration and command line: flows chain cached tasks; `python -m flows --help` is the way in."""
