"""The signal store: sharded, memory-mapped, nothing padded."""
