"""`dialogues.requests`: how the user's wishes are read from a dialogue."""

from pydantic import Field

from models.params.base import Section

_REFUSALS = (
    "not", "no …", "don't want", "do n't want", "don't like", "do n't like", "doesn't", "does n't", "isn't", "is n't", "without",
    "except", "avoid", "anything but …", "other than …", "rather than …", "instead of …", "… is out",
)  # fmt: skip
_INDIFFERENCE = (
    "any", "anything", "anywhere", "whatever", "whichever", "don't care", "do n't care", "do not care", "doesn't matter",
    "does n't matter", "does not matter", "doesn't really matter", "don't mind", "do n't mind", "do not mind", "no preference",
    "don't have a preference", "do n't have a preference", "do not have a preference", "don't have any preference",
    "not picky", "no particular", "not important", "isn't important", "open to", "either", "regardless", "up to you",
)  # fmt: skip


class RequestParams(Section):
    """Words of the language of the dialogues; those for values are learned from the training dialogues."""

    attributes: tuple[str, ...] | None = Field(
        None,
        description="Attributes that users can ask for; null = all but names and those that identify an entity (a quarter of the "
        "entities have a value of their own).",
    )
    refusals: tuple[str, ...] = Field(
        _REFUSALS,
        description="Words that refuse a value up to four words later; with `…` behind them, the very next one; with `…` before "
        "them, the one just before.",
    )
    indifference: tuple[str, ...] = Field(
        _INDIFFERENCE,
        description="Words by which a user does not care about an attribute: the one named, else the one asked about.",
    )
    contrasts: tuple[str, ...] = Field(("but",), description="Words that end what a refusal refers to.")
    learn: bool = Field(True, description="Learn further words for values from the training dialogues.")
    count: bool = Field(
        False,
        description="Give each turn with a request the number of entities that satisfy it, as the dynamic value `fitting`. (The "
        "dynamic value `choice` is the data set's own.)",
    )
