"""The error of the retrieval half."""

from models.errors import FusedialError


class RetrievalError(FusedialError):
    """An index, an encoder and a knowledge base do not belong together, or cannot do what was asked."""
