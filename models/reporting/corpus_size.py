"""A corpus in numbers, as the estimates of `plan` need it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """The corpus in numbers; lengths are means.

    Attributes:
        num_train: Training prompts.
        num_test: Held-out prompts.
        prompt_bytes: UTF-8 bytes of a prompt.
        response_bytes: UTF-8 bytes of a ground-truth response.
        bytes_per_token: Of the tokenizers; about 4 for English with 32k entries, 1 to 3 for small vocabularies.
        num_valid: Validation prompts, which the sources are scored on.
        longest_bytes: UTF-8 bytes of the longest prompt with its response; None = unknown.
        longest_row: The same in tokens, where it has been counted.
        longest_prompt: Tokens of the longest prompt, where they have been counted.
        extra_bytes: What `prepare` writes besides: rows that embedded sources are trained on.
    """

    num_train: int
    num_test: int
    prompt_bytes: float
    response_bytes: float
    bytes_per_token: float = 4.0
    num_valid: int = 0
    longest_bytes: float | None = None
    longest_row: int | None = None
    longest_prompt: int | None = None
    extra_bytes: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt, rounded up."""
        return -int(-self.prompt_bytes // self.bytes_per_token)

    @property
    def response_tokens(self) -> int:
        """Tokens of a response, rounded up, with the end token."""
        return -int(-self.response_bytes // self.bytes_per_token) + 1

    def answer_tokens(self, max_new_tokens: int) -> int:
        """Tokens of a model's answer: as long as the ground truth, unless cut."""
        return min(self.response_tokens, max_new_tokens)

    def longest_tokens(self, max_length: int) -> int:
        """Tokens of the longest row, at most `max_length`."""
        if self.longest_row is not None:
            return min(max_length, self.longest_row + 1)
        if self.longest_bytes is None:
            return max_length
        return min(max_length, -int(-self.longest_bytes // self.bytes_per_token) + 1)
