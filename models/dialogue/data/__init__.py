"""Task-oriented dialogues and their knowledge bases."""
