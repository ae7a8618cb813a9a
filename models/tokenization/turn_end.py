"""Detection of a model's end-of-turn token, used for labels, scores, vocabulary maps, training and stopping of generation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The end of a turn.

    Attributes:
        label: Token that labels the end of an answer.
        ids: All equivalent tokens, the label first: the tokenizer's end of text and the stops of the checkpoint's
            generation config. Control tokens only, as ordinary ones also occur within answers; the label may be one.
        stops: Where generation ends: `ids`, and the ordinary tokens of the generation config.
        notice: Warning for the user, or "".
    """

    label: int
    ids: tuple[int, ...]
    stops: tuple[int, ...]
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The parts of a tokenizer that `find_turn_end` needs.

    Attributes:
        pieces: The entries as the vocabulary writes them.
        is_control: Whether an id is a control token: special, or added and more than blanks.
        prompts: The tokenizer of prompts, which reads control tokens.
        encode: Text → ids as part of an answer.
    """

    pieces: Sequence[str]
    is_control: Callable[[int], bool]
    prompts: Tokenizer
    encode: Callable[[str], list[int]]


def find_turn_end(texts: Sequence[str], vocabulary: Vocabulary, *, eos_id: int, stop_ids: Iterable[int], source: str) -> TurnEnd:
    """Determine how a turn ends.

    The label is the first control token that the template writes after a finished answer, ignoring blanks around it; or the
    single ordinary token that it writes; else `eos_id`. If several ordinary tokens end a turn, or precede the control token,
    no single token marks the end: the notice says so, and the label is the control token or `eos_id`.

    Args:
        texts: What the template may write (`chat.template_turn_end`), likeliest first; a later one counts only if it begins with
            a control token.
        vocabulary: The tokenizer.
        eos_id: Its end token.
        stop_ids: Further ids at which the checkpoint stops (`generation_config.eos_token_id`).
        source: Name of the source model, for the notice.
    """
    label, notice = eos_id, ""
    for number, text in enumerate(texts):
        control = _first_control(text, vocabulary)
        before = "" if control is None else control[1]
        if control is not None and not (number and before):
            label = control[0]
            notice = _notice(before + vocabulary.pieces[label], vocabulary.pieces[label], source) if before else ""
            break
        if control is None and number == 0 and text.strip():
            pieces = vocabulary.encode(text.rstrip())
            if len(pieces) == 1 and not vocabulary.is_control(pieces[0]):  # which the unknown token would be
                label = pieces[0]
            else:
                notice = _notice(text.strip(), vocabulary.pieces[eos_id], source)
            break
    known = dict.fromkeys([label, eos_id, *sorted(i for i in set(stop_ids) if 0 <= i < len(vocabulary.pieces))])
    ids = tuple(i for i in known if i in (label, eos_id) or vocabulary.is_control(i))
    return TurnEnd(label, ids, tuple(known), notice)


def _first_control(text: str, vocabulary: Vocabulary) -> tuple[int, str] | None:
    """Return the first control token of a text and what precedes it, stripped."""
    encoding = vocabulary.prompts.encode(text, add_special_tokens=False)
    for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        # The unknown token is special, too, but not what is written.
        if vocabulary.is_control(index) and text[start:end].strip() == vocabulary.pieces[index].strip():
            return index, text[:start].strip()
    return None


def _notice(written: str, label: str, source: str) -> str:
    return (
        f"The chat template of source `{source}` ends a turn with {written!r}, which is several tokens: "
        f"{label!r} is used as the label of an answer's end. Check that the tokenizer has the template's end token, "
        "or choose another `chat_template`."
    )
