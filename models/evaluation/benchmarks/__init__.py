"""Standard benchmarks through lm-evaluation-harness: its tasks, prompts and metrics on our models."""
