"""Side-by-side measurements: ours against a peer on the same input, as ratios in one run. Never timed tests."""
