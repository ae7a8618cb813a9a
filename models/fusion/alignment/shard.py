"""Alignment of one shard: the winners' signals of both modes, from the sources' files to signals in the target's tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.fusion.alignment.target_signals import AlignedShard, AlignItem, ChatTokenizer, align_shard
from models.fusion.alignment.token_advantage import align_by_token
from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.params.alignment import AlignmentParams
from models.schema import Advantage, Example, Response
from models.tokenization.chat import template_digest
from models.tokenization.vocab_map import VocabMap

Mode = Literal["training", "inference"]
MODES: tuple[Mode, ...] = ("training", "inference")


@dataclass(frozen=True, slots=True, eq=False)
class ShardFiles:
    """The sources' outputs for one shard.

    Attributes:
        examples: The prompts, with their ground truths where they have one.
        advantages: The winners of each.
        truths: Source → folder of its signals on the ground truths.
        answers: Source → folder of its signals on those of its answers that won.
        responses: Source → its answers.
    """

    examples: Sequence[Example]
    advantages: Sequence[Advantage]
    truths: Mapping[str, Path]
    answers: Mapping[str, Path]
    responses: Mapping[str, Sequence[Response]]


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentPlan:
    """Tokenizers and vocabulary maps from every source to the target.

    Attributes:
        target: Tokenizer and template of the target.
        sources: The same of every source.
        maps: Source → vocabulary map (None where the tokenizers are equal).
        names: Target's name and the digest of its weights.
    """

    target: ChatTokenizer
    sources: Mapping[str, ChatTokenizer]
    maps: Mapping[str, VocabMap | None]
    names: tuple[str, str]


@dataclass(slots=True)
class ShardReport:
    """Counts of one mode: texts, those left out (longer than `max_length`; empty), and coverage per source.

    A prompt without a winner has no text: in inference mode by the vote, in training mode for want of a ground truth.
    """

    num_texts: int = 0
    num_without_winner: int = 0
    num_too_long: int = 0
    num_empty: int = 0
    coverage: dict[str, dict[str, int]] = field(default_factory=dict)

    def total(self) -> dict[str, int]:
        """Return all counts in one flat dict, summed over the sources."""
        summed: dict[str, int] = {}
        for counts in self.coverage.values():
            for key, value in counts.items():
                summed[key] = summed.get(key, 0) + value
        counts = {"num_texts": self.num_texts, "num_without_winner": self.num_without_winner}
        return {**counts, "num_too_long": self.num_too_long, "num_empty": self.num_empty, **summed}


def align_files(
    files: ShardFiles, plan: AlignmentPlan, cfg: AlignmentParams, *, corpus_digest: str, max_length: int, out: Path
) -> dict[str, ShardReport]:
    """Write out/training (ground truths, the Min-CE winner's signals) and out/inference (winning answers, their author's).

    Under `cfg.advantage: token` a ground truth has at each token the signals of the source that is best there.

    A text that is longer than `max_length` target tokens with its prompt is left out and counted; likewise an empty answer that
    was truncated before its first character, and a prompt without a winner in inference mode.

    Raises:
        SignalError: A store lacks a winner's signals, or belongs to another corpus or tokenizer.
    """
    reports: dict[str, ShardReport] = {}
    for mode in MODES:
        stores = _open(files.truths if mode == "training" else files.answers, plan, corpus_digest)
        made = _align(files, stores, plan, cfg, mode)
        taught = [s for s in made.samples if s.num_tokens > 0]
        fitting = [s for s in taught if _length(s) <= max_length]
        top_k = next(iter(stores.values())).spec.top_k
        spec = _aligned_spec(plan, corpus_digest=corpus_digest, top_k=top_k)
        write_shard(out / mode, 0, spec, fitting)
        reports[mode] = ShardReport(
            num_texts=len(made.samples),
            num_without_winner=len(files.examples) - len(made.samples),
            num_too_long=len(taught) - len(fitting),
            num_empty=len(made.samples) - len(taught),
            coverage={name: c.as_dict() for name, c in sorted(made.coverage.items())},
        )
    return reports


def _align(
    files: ShardFiles, stores: Mapping[str, SignalStore], plan: AlignmentPlan, cfg: AlignmentParams, mode: Mode
) -> AlignedShard:
    if mode == "training" and cfg.advantage == "token":
        contests = list(_contests(files, stores))
        return align_by_token(contests, target=plan.target, sources=plan.sources, maps=plan.maps, cfg=cfg)
    return align_shard(list(_items(files, stores, mode)), target=plan.target, sources=plan.sources, maps=plan.maps, cfg=cfg)


def _open(folders: Mapping[str, Path], plan: AlignmentPlan, corpus_digest: str) -> dict[str, SignalStore]:
    return {
        name: SignalStore.open(
            folder,
            expect={
                "source": name,
                "corpus_digest": corpus_digest,
                "tokenizer_digest": plan.sources[name].codec.digest,
                "template_digest": template_digest(plan.sources[name].template),
            },
        )
        for name, folder in folders.items()
    }


def _items(files: ShardFiles, stores: Mapping[str, SignalStore], mode: Mode) -> Iterator[AlignItem]:
    answers: dict[tuple[str, str, int | None], Response] = {
        (r.source, r.id, r.sample): r for rows in files.responses.values() for r in rows
    }
    for example, advantage in zip(files.examples, files.advantages, strict=True):
        winner = advantage.train_winner if mode == "training" else advantage.infer_winner
        if winner is None:
            continue
        if mode == "inference":
            answer = answers[winner, example.id, advantage.infer_sample]
            text, ended = answer.text, answer.ended
        else:
            text, ended = example.ground_truth, example.ended
        yield AlignItem(example.messages, text, source=winner, signals=stores[winner][example.id], ended=ended)


def _contests(files: ShardFiles, stores: Mapping[str, SignalStore]) -> Iterator[list[AlignItem]]:
    """Yield every source's signals on each ground truth, the Min-CE winner's first: it wins ties."""
    for example, advantage in zip(files.examples, files.advantages, strict=True):
        if advantage.train_winner is None:
            continue
        order = dict.fromkeys((advantage.train_winner, *advantage.train_scores))
        text, ended = example.ground_truth, example.ended
        yield [AlignItem(example.messages, text, source=s, signals=stores[s][example.id], ended=ended) for s in order]


def _length(sample: SampleSignals) -> int:
    return len(sample.token_ids) + (0 if sample.prompt_ids is None else len(sample.prompt_ids))


def _aligned_spec(plan: AlignmentPlan, *, corpus_digest: str, top_k: int) -> SignalSpec:
    name, digest = plan.names
    return SignalSpec(
        source=name,
        model_digest=digest,
        tokenizer_digest=plan.target.codec.digest,
        template_digest=template_digest(plan.target.template),
        corpus_digest=corpus_digest,
        top_k=top_k,
        vocab_size=plan.target.codec.vocab_size,
        kind="aligned",
    )
