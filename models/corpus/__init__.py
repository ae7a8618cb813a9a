"""Instruction data: files, rows, formats, splits."""
