"""How many tokens a text has for a model whose tokenizer is not here."""

import logging
from collections.abc import Callable

CountText = Callable[[str], int]
_log = logging.getLogger(__name__)


def bytes_as_tokens(text: str) -> int:
    """Estimate the tokens of a text: one for each 4 bytes, rounded up."""
    return -(-len(text.encode()) // 4)


def text_counter(model: str) -> CountText:
    """Return tiktoken's count where it is installed and knows the model, else `bytes_as_tokens`.

    tiktoken fetches the vocabulary of a model once (TIKTOKEN_CACHE_DIR keeps it); without a network the estimate serves.
    """
    try:
        import tiktoken

        encoding = tiktoken.encoding_for_model(model)
    except (ImportError, KeyError):
        return bytes_as_tokens
    except OSError as err:  # of requests: the vocabulary cannot be fetched
        _log.warning("the vocabulary of %s cannot be fetched (%s): tokens are estimated, 4 bytes each", model, type(err).__name__)
        return bytes_as_tokens
    return lambda text: len(encoding.encode_ordinary(text))
