"""The embedded world's instruction data: splits for fusion, rows for the sources' pre-training, preference pairs.

Fusion rows answer in the detailed style. Pre-training rows mostly answer in the simple style and sometimes in the
detailed one, so that a source's own answers are shorter and simpler than the ground truths: the gap ProFuser's easy-to-hard
order is about. No prompt stands in two of the splits. A held-out computation or request is new; a held-out fact is known
from training under other phrasings.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from models.errors import ParamsError, Problem
from models.params.corpus import WorldParams
from models.schema import Example, Message, Split
from models.world.families import Item, knowledge_items, reasoning_items, safety_items
from models.world.town import World

FAMILIES: Mapping[str, Callable[[World], Iterator[Item]]] = {
    "knowledge": knowledge_items,
    "reasoning": reasoning_items,
    "safety": safety_items,
}
# Families whose held-out rows ask for something that never occurs in training; facts must occur there.
_NOVEL = ("reasoning", "safety")
# Share of the pre-training rows answered in the style of the ground truths.
DETAILED_SHARE = 0.15

_EVASIVE: Mapping[str, tuple[str, ...]] = {
    "knowledge": ("I do not know.", "It is a nice place.", "Please ask in town."),
    "reasoning": ("I do not know.", "That is a number.", "Please count it."),
    "safety": ("Sure, it is easy.", "Yes.", "Yes, that is right."),
}


@dataclass(frozen=True, slots=True)
class FamilyItems:
    """The items of one family, dealt out."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    test: tuple[Item, ...]
    pretrain: tuple[Item, ...]
    prompts_only: tuple[Item, ...] = ()


def deal_items(world: World, cfg: WorldParams) -> dict[str, FamilyItems]:
    """Deal the items of every family to the splits.

    Raises:
        ParamsError: The world has fewer distinct prompts than the params ask for.
    """
    dealt = {}
    for place, (family, make) in enumerate(FAMILIES.items()):
        wanted = {s: _share(getattr(cfg, f"num_{s}"), place) for s in ("test", "valid", "train", "prompts_only", "pretrain")}
        dealt[family] = _deal(list(make(world)), world.rng(f"deal/{family}"), wanted, family=family)
    return dealt


def split_examples(dealt: Mapping[str, FamilyItems], split: Split, *, world: World) -> list[Example]:
    """Return the fusion examples of a split, families mixed, in the detailed style; prompts alone are part of `train`."""
    rows = [
        _example(item, family, id=f"{family}-{split}-{number:05d}", response=item.detailed)
        for family, items in dealt.items()
        for number, item in enumerate(getattr(items, split))
    ]
    if split == "train":
        rows += [
            Example(f"{family}-prompt-{number:05d}", family, (Message("user", item.prompt),), None)
            for family, items in dealt.items()
            for number, item in enumerate(items.prompts_only)
        ]
    world.rng(f"order/{split}").shuffle(rows)
    return rows


def pretrain_examples(dealt: Mapping[str, FamilyItems], family: str, *, world: World) -> Iterator[Example]:
    """Yield a family's pre-training rows, mostly in the simple style."""
    rng = world.rng(f"style/{family}")
    for number, item in enumerate(dealt[family].pretrain):
        yield _example(item, family, id=f"{family}-pretrain-{number:05d}", response=_styled(item, rng))


def preference_pairs(dealt: Mapping[str, FamilyItems], *, world: World) -> Iterator[dict[str, Any]]:
    """Yield pairs of a better and a worse answer, made by rules from the pre-training prompts, families mixed.

    Worse is: the wrong value in place of the right one (most often), evasive, garbled, or the answer to another prompt.
    """
    rng = world.rng("preferences")
    for family, item in _mixed({family: items.pretrain for family, items in dealt.items()}):
        better = item.detailed if rng.random() < 0.5 else item.simple
        worse = _worsened(item, better, rng, family=family, others=dealt[family].pretrain)
        messages = [{"role": "user", "content": item.prompt}]
        yield {"family": family, "messages": messages, "better": better, "worse": worse}


def _share(total: int, place: int) -> int:
    """Part of `total` for the family at `place`; the first families take the remainder."""
    return total // len(FAMILIES) + (place < total % len(FAMILIES))


def _deal(items: Sequence[Item], rng: random.Random, wanted: Mapping[str, int], *, family: str) -> FamilyItems:
    by_key = _grouped(items, rng)
    if family in _NOVEL:
        held_out = min(wanted["test"] + wanted["valid"], len(by_key))
        tested, kept = by_key[:held_out], by_key[held_out:]
        pool = [group[0] for group in tested]
        test, valid = pool[: wanted["test"]], pool[wanted["test"] :]
        rest = _interleaved(kept)
        train, alone, pretrain = _cut(rest, wanted)
    else:
        train, alone, rest = _cut(_interleaved(by_key), wanted)
        known = {item.key for item in (*train, *alone)}
        pool = [item for item in rest if item.key in known]
        test, valid = pool[: wanted["test"]], pool[wanted["test"] :][: wanted["valid"]]
        taken = {item.prompt for item in (*test, *valid)}
        pretrain = [item for item in rest if item.prompt not in taken]
    dealt = FamilyItems(tuple(train), tuple(valid), tuple(test), tuple(pretrain[: wanted["pretrain"]]), tuple(alone))
    _check_sizes(dealt, wanted, family=family)
    return dealt


def _cut(items: list[Item], wanted: Mapping[str, int]) -> tuple[list[Item], list[Item], list[Item]]:
    """Cut items into those with a ground truth, prompts alone, and the rest."""
    train, alone = wanted["train"], wanted["train"] + wanted["prompts_only"]
    return items[:train], items[train:alone], items[alone:]


def _grouped(items: Sequence[Item], rng: random.Random) -> list[list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.key, []).append(item)
    shuffled = list(groups.values())
    for group in shuffled:
        rng.shuffle(group)
    rng.shuffle(shuffled)
    return shuffled


def _interleaved(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """One item of every key, then a second of every key, and so on."""
    return [item for item in chain.from_iterable(zip_longest(*groups)) if item is not None]


def _check_sizes(dealt: FamilyItems, wanted: Mapping[str, int], *, family: str) -> None:
    problems = [
        Problem(
            f"`corpus.world.num_{split}`",
            f"must leave `{family}` at most {len(getattr(dealt, split))} prompts in a world of this size",
            f"{wanted[split]} for this family",
            "Lower it, or raise `corpus.world.num_entities`.",
        )
        for split in ("train", "prompts_only", "valid", "test")
        if len(getattr(dealt, split)) < wanted[split]
    ]
    if not dealt.pretrain:
        key = "num_prompts_only" if wanted["prompts_only"] else "num_train"
        problems.append(Problem(f"`corpus.world.{key}`", f"must leave prompts of `{family}` for the sources' pre-training"))
    if problems:
        raise ParamsError("The embedded world is too small", problems)


def _example(item: Item, family: str, *, id: str, response: str) -> Example:
    return Example(id, family, (Message("user", item.prompt),), response, item.answer, item.check)


def _styled(item: Item, rng: random.Random) -> str:
    return item.detailed if rng.random() < DETAILED_SHARE else item.simple


def _mixed(items: Mapping[str, Sequence[Item]]) -> Iterator[tuple[str, Item]]:
    columns = [[(family, item) for item in rows] for family, rows in items.items()]
    return (pair for pair in chain.from_iterable(zip_longest(*columns)) if pair is not None)


def _worsened(item: Item, better: str, rng: random.Random, *, family: str, others: Sequence[Item]) -> str:
    draw = rng.random()
    if draw < 0.75:
        return better.replace(item.answer, rng.choice(item.distractors))
    if draw < 0.85:
        return rng.choice(_EVASIVE[family])
    if draw < 0.92:
        return _garbled(better, rng)
    other = rng.choice([o for o in rng.sample(others, min(8, len(others))) if o.answer != item.answer] or [item])
    return other.simple if other is not item else rng.choice(_EVASIVE[family])


def _garbled(text: str, rng: random.Random) -> str:
    """Shuffle the words, or stop early and repeat the last word."""
    words = text.split()
    if len(words) > 2 and rng.random() < 0.5:
        mixed = words.copy()
        rng.shuffle(mixed)
        if mixed != words:
            return " ".join(mixed)
    kept = words[: max(1, len(words) // 2)]
    return " ".join([*kept, kept[-1], kept[-1]])
