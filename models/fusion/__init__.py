"""Wing one, ProFuser: signals, alignment to the target, advantage, schedule, losses, training."""
