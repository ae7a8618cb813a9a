"""What the generators of the three families produce: a prompt with two styles of answering it."""

from dataclasses import dataclass

from models.schema import Check


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of the embedded world.

    Attributes:
        prompt: The user's words, at most about 60 bytes.
        key: What is asked, whatever the phrasing: a fact, the operands, the slots.
        simple: Short answer, the style the embedded sources mostly learn.
        detailed: Ground-truth answer: it shows its working or adds context.
        answer: What a correct response holds, and `check` how that is judged.
        distractors: Wrong counterparts of `answer`, for the preference pairs.
    """

    prompt: str
    key: str
    simple: str
    detailed: str
    answer: str
    check: Check
    distractors: tuple[str, ...]
