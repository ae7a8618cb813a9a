"""What both wings' trainings share: Trainer, its arguments, learning rates, report window, checkpoints, locks, history."""
