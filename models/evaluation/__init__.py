"""Scores with intervals: accuracy, bits per byte, reward, paired differences."""
