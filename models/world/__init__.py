"""The embedded world: an invented town, its instructions and dialogues, made from a seed."""
