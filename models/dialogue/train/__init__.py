"""Training of retriever and generator."""
