"""The dialogue agent: retrieve, say what is known, answer."""
