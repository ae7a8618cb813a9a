"""Training: fusion of a target, pico language models and reward models, metrics sink."""
