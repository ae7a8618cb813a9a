"""Library or by hand, measured: `python -m benchmarks.libraries` (docs/decisions/0007; `pip install ijson` adds its row).

Real MultiWOZ and SMD (data/README.md). Both sides must give the same result. Times are CPU milliseconds, medians of five rounds.
"""

import importlib.util
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ahocorasick import Automaton
from scipy.stats import bootstrap

from benchmarks.timing import paired
from models.corpus.rows import read_array
from models.dialogue.data.readers import multiwoz, smd
from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.records import Turn
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.evaluation.bootstrap import Resampling, ratio_intervals
from models.evaluation.dialogue.entity_f1 import SubstringIndex
from models.evaluation.dialogue.scores import DialogueRow, Retrieved
from models.params.dialogues import DialoguesParams
from models.records import from_row, to_row

DATA = Path(__file__).resolve().parent.parent / "data" / "external" / "tod"
_PREFIX = 3


class PrefixIndex:
    """What SubstringIndex was before: values by their first characters and length."""

    def __init__(self, values: list[str]) -> None:
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._lengths: dict[str, set[int]] = {}
        for number, value in enumerate(values):
            self._numbers[value] = (*self._numbers.get(value, ()), number)
            self._lengths.setdefault(value[:_PREFIX], set()).add(len(value))

    def occurring(self, text: str) -> set[int]:
        found: set[int] = set()
        for start in range(len(text)):
            for size in range(1, _PREFIX + 1):
                for length in self._lengths.get(text[start : start + size], ()):
                    found.update(self._numbers.get(text[start : start + length], ()))
        return found


class WordAutomaton:
    """Whole words by an automaton: values between blanks."""

    def __init__(self, values: Mapping[str, int]) -> None:
        self._automaton = Automaton()
        for value, number in values.items():
            self._automaton.add_word(f" {value} ", (number, len(value.split())))
        self._automaton.make_automaton()

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        words, at, ends = text.split(), 0, {}
        for place, word in enumerate(words, start=1):
            at += len(word) + 1
            ends[at] = place
        found = self._automaton.iter(f" {' '.join(words)} ")
        return [(ends[end] - size, ends[end], number) for end, (number, size) in found]


def compare(name: str, hand: Callable[[], Any], library: Callable[[], Any], *, equal: bool = True) -> None:
    if equal:
        assert hand() == library(), name
    ours, theirs, ratio = paired(hand, library)
    print(f"{name:60s} by hand {1e3 * ours:8.1f}, library {1e3 * theirs:8.1f}, by hand / library {ratio:6.2f}")


def values_of(kind: str, source: DialogueSource) -> None:
    turns = [turn for split in ("valid", "test") for turn in source.turns(split)]  # type: ignore[arg-type]
    values = [value.lower() for value in source.values if value]
    by_prefix, automaton = PrefixIndex(values), SubstringIndex(values)
    texts = [turn.response for turn in turns]
    compare(
        f"{kind}: values anywhere in {len(texts):,} responses",
        lambda: [by_prefix.occurring(text) for text in texts],
        lambda: [automaton.occurring(text) for text in texts],
    )
    finder = ValueFinder()
    for value in (v for entity in source.entities for v in entity.attributes.values()):
        if found := matchable(value):
            finder.add(found)
    words = WordAutomaton({value: number for number, value in enumerate(finder)})
    texts = [matchable(text) for turn in turns for text in (*turn.context, turn.response)]
    compare(
        f"{kind}: values as whole words in {len(texts):,} utterances",
        lambda: [sorted(finder.spans(text)) for text in texts],
        lambda: [sorted(words.spans(text)) for text in texts],
    )


def arrays(folder: Path) -> None:
    if importlib.util.find_spec("ijson") is None:
        print("JSON arrays: skipped, `pip install ijson`")
        return
    import ijson

    with zipfile.ZipFile(DATA / "multiwoz" / "raw" / "convlab2" / "multiwoz21_test.json.zip") as archive:
        dialogues = list(json.loads(archive.read(archive.namelist()[0])).values())
    path = folder / "array.json"
    path.write_text(json.dumps(dialogues), encoding="utf-8")

    def streamed() -> Iterator[Any]:
        with path.open("rb") as file:
            yield from ijson.items(file, "item", use_float=True)

    name = f"JSON array, {path.stat().st_size >> 20} MiB, one by one"
    assert list(streamed()) == [row for _, row in read_array(path)]
    compare(name, lambda: sum(1 for _ in read_array(path)), lambda: sum(1 for _ in streamed()))


def records() -> None:
    turn = Turn("d#3", "d", 3, "hotel", ("i want a hotel",) * 7, "the inn", "response", ("north",), ("e1",), ("e1", "e2"))
    statistics = {f"metric {i}": (1.0,) * 10 for i in range(8)}
    found = tuple(Retrieved(f"e{i}", 0.5 - i / 10, "meta") for i in range(7))
    row = DialogueRow("d#3", "d", "hotel", "response", True, False, found, "ref", "resp", statistics)
    for record in (turn, row):
        name, many = type(record).__name__, [record] * 1000
        compare(
            f"1,000 × {name} to JSON rows", lambda many=many: list(map(asdict, many)), lambda many=many: list(map(to_row, many))
        )
        assert from_row(type(record), json.loads(json.dumps(to_row(record)))) == record


def intervals() -> None:
    rng, how = np.random.default_rng(0), Resampling(samples=2000)
    sizes = rng.integers(1, 50, 500).astype(float)
    columns = rng.random((500, 20)) * sizes[:, None]

    def scipy() -> None:
        for column in columns.T:
            bootstrap(
                (column, sizes),
                lambda a, b, axis: a.sum(axis) / b.sum(axis),
                paired=True,
                vectorized=True,
                n_resamples=2000,
                method="percentile",
                rng=0,
            )

    name = "bootstrap of 20 ratios of sums over 500 examples"
    compare(name, lambda: ratio_intervals(columns, sizes, resampling=how), scipy, equal=False)  # other draws


def main() -> None:
    random.seed(0)
    if not DATA.exists():
        print(f"skipped: {DATA} not there (data/README.md)")
        return
    for kind, reader in (("multiwoz", multiwoz), ("smd", smd)):
        setting = "condensed" if kind == "smd" else "large_scale"
        cfg = DialoguesParams.model_validate({"kind": kind, "path": str(DATA / kind / "raw"), "setting": setting})
        values_of(kind, reader.read(cfg, root=Path()))
    with tempfile.TemporaryDirectory() as folder:
        arrays(Path(folder))
    records()
    intervals()


if __name__ == "__main__":
    main()
