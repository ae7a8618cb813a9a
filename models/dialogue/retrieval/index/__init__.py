"""The FAISS index over the entities."""
