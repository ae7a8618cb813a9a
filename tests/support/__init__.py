"""What several tests need: a small town, trainings made small, scripted servers."""
