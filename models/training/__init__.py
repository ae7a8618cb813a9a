"""What both wings' trainings share: trainer, checkpoints, guard, history, processes."""
