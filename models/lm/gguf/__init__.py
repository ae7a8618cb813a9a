"""GGUF files as sources: finding them, reading their headers, converting them into model folders."""
