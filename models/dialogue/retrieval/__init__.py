"""The retriever: encoders, index, meta knowledge, objectives."""
