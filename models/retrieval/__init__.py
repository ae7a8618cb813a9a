"""Retrieval of entities: encoders, index, meta knowledge, and the objectives that train them (MK-TOD)."""
