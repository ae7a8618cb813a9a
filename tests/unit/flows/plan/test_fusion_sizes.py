"""What `plan` says of texts that end in the middle, before and after the stages have run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split, WhitespaceSplit

from flows.params.file import load_params
from flows.plan import fusion_sizes
from flows.plan.fusion_sizes import _measure, corpus_size, cut_warnings, folder_size
from models.corpus.examples import write_examples
from models.errors import ArtifactError
from models.params.fusion import FusionParams
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
    monkeypatch.setattr(fusion_sizes, "corpus_size", lambda _ctx: SimpleNamespace(bytes_per_token=4.0))

    def make(
        *,
        most: int,
        made: list[dict[str, int]] | None = None,
        lengths: tuple[int, ...] = (),
        cut: int | None = None,
        methods: tuple[str, ...] = ("sft", "profuser"),
    ):
        corpus = tmp_path / "prepare" / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        if lengths:
            rows = [Example(str(i), "x", (Message("user", "q"),), "a" * length) for i, length in enumerate(lengths)]
            write_examples(corpus / "train.jsonl", rows)
        if cut is not None:
            stats = {"splits": {"train": {"rows": 1500, "cut": cut}}}
            (corpus / "stats.json").write_text(json.dumps(stats), encoding="utf-8")
        teach = SimpleNamespace(responses=SimpleNamespace(max_new_tokens=most))
        params = SimpleNamespace(teach=teach, methods=methods, fusion=FusionParams(targets=("x",)))
        return Context(root=tmp_path, made=made, params=params)

    return make


def test_nothing_is_said_where_nothing_is_cut_or_known(context) -> None:
    assert cut_warnings(context(most=48)) == []
    assert cut_warnings(context(most=48, lengths=(40, 192), cut=0)) == []
    assert cut_warnings(context(most=48, made=[{"unfinished": 0, "responses": 9}])) == []


def test_before_answers_exist_the_ground_truths_tell(context) -> None:
    (line,) = cut_warnings(context(most=48, lengths=(40, 193, 400)))
    assert line.startswith("2 of 3 sampled ground truths have more than 48 tokens")
    assert line.endswith("Raise `teach.responses.max_new_tokens` (48) where answers should be whole.")


def test_answers_that_exist_are_counted_and_so_are_cut_ground_truths(context) -> None:
    made = [{"unfinished": 1200, "responses": 1500}, {"unfinished": 3, "responses": 1500}]
    truths, answers = cut_warnings(context(most=48, made=made, lengths=(400,), cut=1400))
    assert truths.startswith("1,400 of 1,500 ground truths are cut by their reader (`corpus.sets[].response_chars`)")
    assert answers.startswith("1,203 of 3,000 answers were cut")


def test_cut_answers_do_not_matter_where_no_method_learns_from_them(context) -> None:
    made = [{"unfinished": 1500, "responses": 1500}]
    (truths,) = cut_warnings(context(most=1, made=made, cut=1400, methods=("sft", "fusellm")))
    assert "ground truths" in truths


ROWS = [("one two three", "four five"), ("a much longer prompt than the one before it", "yes")]


def corpus(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    for split, rows in (("train", ROWS), ("valid", ROWS[:1]), ("test", ROWS[:1])):
        lines = [
            json.dumps({"id": f"{split}{i}", "messages": [{"role": "user", "content": p}], "response": r, "family": "t"})
            for i, (p, r) in enumerate(rows)
        ]
        (place / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def tokenizer(*, letters: bool) -> Tokenizer:
    made = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = Split("", "isolated") if letters else WhitespaceSplit()
    return made


def test_lengths_are_those_of_the_tokenizer_that_makes_most_tokens(tmp_path: Path) -> None:
    words, letters = tokenizer(letters=False), tokenizer(letters=True)
    size = _measure(corpus(tmp_path), bytes_per_token=4.0, tokenizers=[words, letters], extra_bytes=0)
    total = sum(len(p) + len(r) for p, r in ROWS)
    assert size.bytes_per_token == pytest.approx(total / (total + len(ROWS)), rel=1e-6), "a line break joins the two"
    longest = max(len(p) + len(r) + 1 for p, r in ROWS)
    assert size.longest_row == longest
    assert size.longest_prompt == max(len(p) for p, _ in ROWS)
    assert size.longest_tokens(1000) == longest + 1
    assert size.longest_tokens(20) == 20


def test_without_a_tokenizer_the_bytes_are_divided(tmp_path: Path) -> None:
    size = _measure(corpus(tmp_path), bytes_per_token=4.0, tokenizers=[], extra_bytes=0)
    assert size.bytes_per_token == 4.0 and size.longest_row is None
    assert size.longest_tokens(1000) == -(-size.longest_bytes // 4) + 1


@pytest.mark.parametrize(
    ("family", "gated", "eager_heads"), [("llama", True, 0), ("mistral", True, 0), ("gpt_neox", False, 0), ("mpt", False, 4)]
)
def test_what_a_layer_keeps_depends_on_the_architecture(
    pico_folder: Callable[..., Path], family: str, gated: bool, eager_heads: int
) -> None:
    size = folder_size(pico_folder(family), dtype="float32")
    assert (size.gated, size.eager_heads) == (gated, eager_heads)


def test_explained_ground_truths_are_planned_longer_before_they_are_written(tmp_path: Path) -> None:
    sizes = {}
    for profile in ("noisy-truths", "detailed-truths"):
        params = load_params(Path(__file__).parents[4], profile=profile).params
        sizes[profile] = corpus_size(Context(root=tmp_path, made=None, params=params))  # type: ignore[arg-type]
    short, explained = sizes.values()
    assert (short.num_train, explained.num_train) == (1456, 1456)
    assert 3 < explained.response_bytes / short.response_bytes < 5
    assert explained.longest_bytes < 2 * short.longest_bytes


def test_a_limit_of_the_training_rows_is_planned_before_they_are_read(tmp_path: Path) -> None:
    hint = "planning.corpus={num_train: 1000, num_prompts_only: 400, num_test: 50, prompt_bytes: 40, response_bytes: 60}"
    files = "corpus={kind: files, sets: [{name: a, path: a.jsonl}], train_limit: %s}"
    counts = {}
    for limit in (250, 5000):
        params = load_params(Path(__file__).parents[4], profile="smoke", overrides=[hint, files % limit]).params
        size = corpus_size(Context(root=tmp_path, made=None, params=params))  # type: ignore[arg-type]
        counts[limit] = (size.num_train, size.num_prompts_only, size.num_test)
    assert counts == {250: (250, 100, 50), 5000: (1000, 400, 50)}
