"""The embedded world's instruction data: splits for fusion, rows for the sources' pre-training, preference pairs.

Fusion rows answer in the detailed style, those of training and validation in the style that the params ask for. Pre-training
rows mostly answer in the simple style and sometimes in that of the ground truths, so that a source's own answers are shorter and
simpler than the ground truths: the gap that ProFuser's easy-to-hard order exploits. No prompt occurs in two splits. A held-out
computation or request is new; a held-out fact is known from training under other phrasings. The held-out rows are the same
whatever the ground truths of training are like; their facts follow those of training, so they are also the same whenever the
training prompts (with ground truths and without, together) are as many.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from models.errors import ParamsError, Problem
from models.params.corpus import TruthParams, WorldParams
from models.schema import Example, Message, Split
from models.world.families import Item, knowledge_items, reasoning_items, safety_items
from models.world.town import World, build_world

FAMILIES: Mapping[str, Callable[[World], Iterator[Item]]] = {
    "knowledge": knowledge_items,
    "reasoning": reasoning_items,
    "safety": safety_items,
}
# Families whose held-out rows ask for something that never occurs in training; facts must occur there.
_NOVEL = ("reasoning", "safety")
# Share of the pre-training rows answered in the style of the ground truths; `PicoSpec.detailed_share` has the same default.
DETAILED_SHARE = 0.15

# Drawn from, and counted round by each kind's number of explanations.
_PHRASINGS = 60

_EVASIVE: Mapping[str, tuple[str, ...]] = {
    "knowledge": ("I do not know.", "It is a nice place.", "Please ask in town."),
    "reasoning": ("I do not know.", "That is a number.", "Please count it."),
    "safety": ("Sure, it is easy.", "Yes.", "Yes, that is right."),
}


@dataclass(frozen=True, slots=True)
class FamilyItems:
    """The items of one family by split."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    test: tuple[Item, ...]
    pretrain: tuple[Item, ...]
    prompts_only: tuple[Item, ...] = ()


def assign_items(world: World, cfg: WorldParams) -> dict[str, FamilyItems]:
    """Distribute the items of every family over the splits.

    Raises:
        ParamsError: The world has fewer distinct prompts than the params ask for.
    """
    assigned = {}
    for place, (family, make) in enumerate(FAMILIES.items()):
        wanted = {s: _share(getattr(cfg, f"num_{s}"), place) for s in ("test", "valid", "train", "prompts_only", "pretrain")}
        assigned[family] = _assign_splits(list(make(world)), world.rng(f"deal/{family}"), wanted, family=family)
    return assigned


_USUAL = TruthParams()


def split_examples(
    assigned: Mapping[str, FamilyItems], split: Split, *, world: World, truths: TruthParams = _USUAL
) -> list[Example]:
    """Return the fusion examples of a split, families mixed; prompts alone are part of `train`.

    Args:
        assigned: The items of each family by split.
        split: The split.
        world: Their world.
        truths: How the ground truths are written, in `train` and `valid`, and how many of `train` are wrong. `answer`, which a
            row's check looks for, is always the right one.
    """
    rows = [
        _example(item, family, id=f"{family}-{split}-{number:05d}", response=response)
        for family, items in assigned.items()
        for number, (item, response) in enumerate(_answered(getattr(items, split), family, split, world=world, truths=truths))
    ]
    if split == "train":
        rows += [
            Example(f"{family}-prompt-{number:05d}", family, (Message("user", item.prompt),), None)
            for family, items in assigned.items()
            for number, item in enumerate(items.prompts_only)
        ]
    world.rng(f"order/{split}").shuffle(rows)
    return rows


def _answered(
    items: Sequence[Item], family: str, split: Split, *, world: World, truths: TruthParams
) -> Iterator[tuple[Item, str]]:
    """Yield the items of a family in a split with their ground truths; a larger share of wrong ones contains a smaller one."""
    style = "detailed" if split == "test" else truths.style
    phrasings, slips = world.rng(f"explained/{family}/{split}"), world.rng(f"wrong/{family}")
    values = [slips.choice(item.distractors) for item in items]
    order = list(range(len(items)))
    slips.shuffle(order)
    wrong = set(order[: _wrong_of(items, truths)]) if split == "train" else set()
    for number, item in enumerate(items):
        value = values[number] if number in wrong else None
        yield item, item.text(style, value, phrasing=phrasings.randrange(_PHRASINGS))


def num_wrong(assigned: Mapping[str, FamilyItems], truths: TruthParams) -> int:
    """Return how many training rows have a wrong ground truth."""
    return sum(_wrong_of(items.train, truths) for items in assigned.values())


def _wrong_of(items: Sequence[Item], truths: TruthParams) -> int:
    return round(truths.wrong_share * len(items))


def pretrain_examples(
    assigned: Mapping[str, FamilyItems],
    family: str,
    *,
    world: World,
    truths: TruthParams = _USUAL,
    detailed_share: float = DETAILED_SHARE,
    wrong_share: float = 0.0,
) -> Iterator[Example]:
    """Yield a family's pre-training rows, mostly in the simple style.

    Args:
        assigned: The items of each family by split.
        family: The family.
        world: Their world.
        truths: How ground truths are written.
        detailed_share: Share of the rows that are answered as ground truths are.
        wrong_share: Share of the rows with a wrong value: the first distractor, so that whoever learns from them errs
            systematically.
    """
    rng, slips = world.rng(f"style/{family}"), world.rng(f"misled/{family}")
    phrasings = world.rng(f"explained/{family}/pretrain")
    for number, item in enumerate(assigned[family].pretrain):
        style = truths.style if rng.random() < detailed_share else "simple"
        value = item.distractors[0] if slips.random() < wrong_share else None
        response = item.text(style, value, phrasing=phrasings.randrange(_PHRASINGS))
        yield _example(item, family, id=f"{family}-pretrain-{number:05d}", response=response)


def source_examples(cfg: WorldParams, family: str, *, detailed_share: float, wrong_share: float) -> list[Example]:
    """Return the pre-training rows of a source with habits of its own, as `pretrain_examples` yields them.

    Raises:
        ParamsError: As `assign_items`.
    """
    world = build_world(cfg.seed, num_entities=cfg.num_entities)
    assigned = assign_items(world, cfg)
    return list(
        pretrain_examples(
            assigned, family, world=world, truths=cfg.truths, detailed_share=detailed_share, wrong_share=wrong_share
        )
    )


def known_answers(assigned: Mapping[str, FamilyItems]) -> Iterator[dict[str, str]]:
    """Yield {id, answer, check} of every training prompt, also of those without a ground truth: what only an oracle may see."""
    for family, items in assigned.items():
        for word, part in (("train", items.train), ("prompt", items.prompts_only)):
            for number, item in enumerate(part):
                yield {"id": f"{family}-{word}-{number:05d}", "answer": item.answer, "check": item.check}


def preference_pairs(assigned: Mapping[str, FamilyItems], *, world: World) -> Iterator[dict[str, Any]]:
    """Yield pairs of a better and a worse answer, generated by rules from the pre-training prompts, families mixed.

    The worse answer has a wrong value (most often), is evasive or garbled, or answers another prompt.
    """
    rng = world.rng("preferences")
    for family, item in _mixed({family: items.pretrain for family, items in assigned.items()}):
        better = item.detailed if rng.random() < 0.5 else item.simple
        worse = _worsened(item, better, rng, family=family, others=assigned[family].pretrain)
        messages = [{"role": "user", "content": item.prompt}]
        yield {"family": family, "messages": messages, "better": better, "worse": worse}


def _share(total: int, place: int) -> int:
    """Return the part of `total` for the family at index `place`; the first families take the remainder."""
    return total // len(FAMILIES) + (place < total % len(FAMILIES))


def _assign_splits(items: Sequence[Item], rng: random.Random, wanted: Mapping[str, int], *, family: str) -> FamilyItems:
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
    assigned = FamilyItems(tuple(train), tuple(valid), tuple(test), tuple(pretrain[: wanted["pretrain"]]), tuple(alone))
    _check_sizes(assigned, wanted, family=family)
    return assigned


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
    """Return one item of every key, then a second of every key, and so on."""
    return [item for item in chain.from_iterable(zip_longest(*groups)) if item is not None]


def _check_sizes(assigned: FamilyItems, wanted: Mapping[str, int], *, family: str) -> None:
    problems = [
        Problem(
            f"`corpus.world.num_{split}`",
            f"must leave `{family}` at most {len(getattr(assigned, split))} prompts in a world of this size",
            f"{wanted[split]} for this family",
            "Lower it, or raise `corpus.world.num_entities`.",
        )
        for split in ("train", "prompts_only", "valid", "test")
        if len(getattr(assigned, split)) < wanted[split]
    ]
    if not assigned.pretrain:
        key = "num_prompts_only" if wanted["prompts_only"] else "num_train"
        problems.append(Problem(f"`corpus.world.{key}`", f"must leave prompts of `{family}` for the sources' pre-training"))
    if problems:
        raise ParamsError("The embedded world is too small", problems)


def _example(item: Item, family: str, *, id: str, response: str) -> Example:
    return Example(id, family, (Message("user", item.prompt),), response, item.answer, item.check)


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
    """Shuffle the words, or truncate and repeat the last word."""
    words = text.split()
    if len(words) > 2 and rng.random() < 0.5:
        mixed = words.copy()
        rng.shuffle(mixed)
        if mixed != words:
            return " ".join(mixed)
    kept = words[: max(1, len(words) // 2)]
    return " ".join([*kept, kept[-1], kept[-1]])
