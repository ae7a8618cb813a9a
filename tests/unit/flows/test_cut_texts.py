"""What `plan` says of texts that end in the middle, before and after the stages have run."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import cut_texts
from flows.cut_texts import cut_warnings
from models.data.corpus import write_examples
from models.errors import ArtifactError
from models.schema import Example, Message


class Context(SimpleNamespace):
    """A stage context of two folders and one param."""

    def out(self, *parts: str) -> Path:
        return Path(self.root, *parts)

    def inputs(self, *_parts: str) -> dict[str, SimpleNamespace]:
        if self.made is None:
            raise ArtifactError("not there yet")
        return {str(i): SimpleNamespace(meta=meta) for i, meta in enumerate(self.made)}


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`context(most=…, made=…, lengths=…, cut=…)`: four bytes a token."""
    monkeypatch.setattr(cut_texts, "corpus_size", lambda _ctx: SimpleNamespace(bytes_per_token=4.0))

    def make(*, most: int, made: list[dict[str, int]] | None = None, lengths: tuple[int, ...] = (), cut: int | None = None):
        corpus = tmp_path / "prepare" / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        if lengths:
            rows = [Example(str(i), "x", (Message("user", "q"),), "a" * length) for i, length in enumerate(lengths)]
            write_examples(corpus / "train.jsonl", rows)
        if cut is not None:
            stats = {"splits": {"train": {"rows": 1500, "cut": cut}}}
            (corpus / "stats.json").write_text(json.dumps(stats), encoding="utf-8")
        params = SimpleNamespace(teach=SimpleNamespace(responses=SimpleNamespace(max_new_tokens=most)))
        return Context(root=tmp_path, made=made, params=params)

    return make


def test_nothing_is_said_where_nothing_is_cut_or_known(context) -> None:
    assert cut_warnings(context(most=48)) == []
    assert cut_warnings(context(most=48, lengths=(40, 192), cut=0)) == []
    assert cut_warnings(context(most=48, made=[{"unfinished": 0, "responses": 9}])) == []


def test_before_answers_exist_the_ground_truths_tell(context) -> None:
    (line,) = cut_warnings(context(most=48, lengths=(40, 193, 400)))
    assert line.startswith("2 of 3 ground truths looked at have more than 48 tokens")
    assert line.endswith("Raise `teach.responses.max_new_tokens` (48) where answers should be whole.")


def test_answers_that_exist_are_counted_and_so_are_cut_ground_truths(context) -> None:
    made = [{"unfinished": 1200, "responses": 1500}, {"unfinished": 3, "responses": 1500}]
    truths, answers = cut_warnings(context(most=48, made=made, lengths=(400,), cut=1400))
    assert truths.startswith("1,400 of 1,500 ground truths are cut by their reader (`corpus.sets[].response_chars`)")
    assert answers.startswith("1,203 of 3,000 answers were cut")
