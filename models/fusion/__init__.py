"""Signals, advantage, alignment to the target, schedule and loss of the fusion (ProFuser)."""
