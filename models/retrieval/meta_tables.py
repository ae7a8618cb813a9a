"""The published mappings of meta knowledge to text (Tables 10, 11 and 12 of MK-TOD), cell by cell.

Ranks run from 1 to 5; what is beyond (and the negative entity) has a cell of its own. Confidence is high, middle, low.
"""

from typing import Literal

Confidence = Literal["high", "middle", "low"]
NUM_RANKS = 5

# Table 10: prefix tokens, for T5 and for chat models alike. "1th", "2th" … are printed so.
PREFIX_ORDER = ("<1th-entity>", "<2th-entity>", "<3th-entity>", "<4th-entity>", "<5th-entity>")
PREFIX_OTHER = "<other-entity>"
PREFIX_CONFIDENCE: dict[Confidence, str] = {
    "high": "<high-confidence>",
    "middle": "<mid-confidence>",
    "low": "<low-confidence>",
}
PREFIX_SEEN, PREFIX_NEW = "<old-entity>", "<new-entity>"
PREFIX_TOKENS = (*PREFIX_ORDER, PREFIX_OTHER, *PREFIX_CONFIDENCE.values(), PREFIX_SEEN, PREFIX_NEW)

# Table 11: prompts for T5, worded to be of equal length in tokens. What is beyond rank 5 shares the negative entity's.
PROMPT_ORDER = (
    "The top-1 recalled:",
    "The top-2 recalled:",
    "The top-3 recalled:",
    "The top-4 recalled:",
    "The top-5 recalled:",
)
PROMPT_OTHER = "The negative entity recalled:"
PROMPT_CONFIDENCE: dict[Confidence, str] = {
    "high": "with high confidence:",
    "middle": "with middle confidence:",
    "low": "with low confidence:",
}
PROMPT_SEEN, PROMPT_NEW = "existed in history:", "newly recalled:"

# Table 12: sentences for chat models.
CHAT_ORDER = (
    "this entity is top-1 important.",
    "this entity is top-2 important.",
    "this entity is top-3 important.",
    "this entity is top-4 important.",
    "this entity is top-5 important.",
)
CHAT_OTHER = "this entity is not important."
CHAT_CONFIDENCE: dict[Confidence, str] = {
    "high": "It has high possibility that",
    "middle": "It has medium possibility that",
    "low": "It has low possibility that",
}
CHAT_SEEN, CHAT_NEW = "This entity has appeared before.", "This is a new entity."

# Ours: Table 12's confidence is half a sentence; without the order it ends so.
CHAT_UNRANKED = "this entity is important."

# What a chat model is told of the prefix tokens (App. B.1, in our words), a sentence for each kind.
EXPLAIN_INTRODUCTION = "Each entity below starts with tags."
EXPLAIN_SEEN = (
    f"{PREFIX_SEEN} marks an entity that the dialogue has already mentioned, {PREFIX_NEW} one that it has not mentioned yet."
)
EXPLAIN_CONFIDENCE = (
    f"{PREFIX_CONFIDENCE['high']}, {PREFIX_CONFIDENCE['middle']} and {PREFIX_CONFIDENCE['low']} say how likely it is that the "
    "entity is the one to speak of."
)
EXPLAIN_ORDER = (
    f"{PREFIX_ORDER[0]} marks the most important entity, {PREFIX_ORDER[1]} the second most important one, and so on; an entity "
    f"with {PREFIX_OTHER} is not important."
)
