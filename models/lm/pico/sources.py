"""Training of the embedded sources, each on its own mix of the world's families, and of the embedded reward model."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from models.corpus.examples import read_examples
from models.errors import SourceError
from models.lm.loading import pick_device
from models.lm.pico.models import CONTEXT_LENGTH, build_pico_model, build_pico_reward_model
from models.lm.pico.reward_training import PairSets, RewardTrainingSummary, encode_pairs, train_reward_model
from models.lm.pico.training import TrainingRow, TrainingSummary, train_causal_lm
from models.metrics_sink import MetricsSink
from models.params.corpus import WorldParams
from models.params.runtime import Runtime
from models.params.sources import PicoSpec, PicoTraining, RewardModelSpec, SourceSpec
from models.schema import Example
from models.tokenization.chat import render_prompt, resolve_template, response_lead
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer
from models.world.instructions import source_examples


def train_pico_source(
    spec: SourceSpec,
    training: PicoTraining,
    pretrain_dir: Path,
    *,
    tokenizer_dir: Path,
    world: WorldParams | None = None,
    runtime: Runtime,
    out: Path,
    sink: MetricsSink,
) -> TrainingSummary:
    """Train one embedded source on its mix of families and save model and tokenizer to `out`.

    Args:
        spec: The source; its `pico` recipe decides architecture, size, mix and steps.
        training: Optimiser settings.
        pretrain_dir: Folder with one examples file per family.
        tokenizer_dir: Tokenizer folder of `train_tokenizer`.
        world: What `pretrain_dir` was made from; for a source with rows of its own, which are generated again from it.
        runtime: Device. Always one thread: train several models in parallel instead.
        out: Folder to write.
        sink: Receives the loss and the progress.

    Raises:
        SourceError: The source has no recipe, its mix names a family without rows, or its rows cannot be generated.
    """
    if spec.pico is None:
        raise SourceError(f"Source `{spec.name}` must be `embedded` to be trained here, but is {spec.model}.")
    pico = spec.pico
    tokenizer = load_tokenizer(str(tokenizer_dir), source=spec.name)
    template = resolve_template(spec.chat_template, tokenizer, source=spec.name)
    codec = TokenCodec(tokenizer, source=spec.name, chat_template=template, date=spec.template_date)
    mix = {family: weight for family, weight in pico.mix.items() if weight > 0}
    rows = {family: encode_rows(_family_rows(pretrain_dir, family, spec, world), codec, template) for family in mix}
    order = mixed_order(
        {family: len(part) for family, part in rows.items()}, mix, shape=(pico.steps, training.batch_size), seed=pico.seed
    )
    with one_thread():
        model = build_pico_model(pico, codec)
        summary = train_causal_lm(
            model,
            list(chain.from_iterable(rows.values())),
            order=order,
            training=training,
            device=pick_device(runtime.device),
            sink=sink,
        )
    torch.nn.Module.to(model, "cpu")
    model.save_pretrained(out)
    codec.tokenizer.save_pretrained(out)
    return summary


def train_pico_reward_model(
    spec: RewardModelSpec,
    training: PicoTraining,
    pairs: PairSets,
    *,
    tokenizer_dir: Path,
    runtime: Runtime,
    out: Path,
    sink: MetricsSink,
) -> RewardTrainingSummary:
    """Train the embedded reward model on preference pairs and save model and tokenizer to `out`.

    Args:
        spec: Size, steps and seed.
        training: Optimiser settings.
        pairs: Pairs from rules and from the sources' answers, and how they are mixed.
        tokenizer_dir: Tokenizer folder of `train_tokenizer`; its chat template formats the pairs.
        runtime: Device. Always one thread: train several models in parallel instead.
        out: Folder to write.
        sink: Receives loss, accuracy and the progress.

    Raises:
        SourceError: There is no pair.
    """
    tokenizer = load_tokenizer(str(tokenizer_dir), source=spec.name)
    codec = TokenCodec(tokenizer, source=spec.name)
    template = resolve_template(None, tokenizer, source=spec.name)
    groups = pairs.groups()
    if not groups:
        raise SourceError(f"Reward model `{spec.name}` must have preference pairs, but the world has none.")
    rows = encode_pairs(
        [pair for group in groups.values() for pair in group.pairs], tokenizer, template=template, context_length=CONTEXT_LENGTH
    )
    counts = {name: len(group.pairs) for name, group in groups.items()}
    weights = {name: group.weight for name, group in groups.items()}
    order = mixed_order(counts, weights, shape=(spec.steps, training.batch_size), seed=spec.seed)
    with one_thread():
        model = build_pico_reward_model(spec, codec)
        summary = train_reward_model(model, rows, order=order, training=training, device=pick_device(runtime.device), sink=sink)
    torch.nn.Module.to(model, "cpu")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return summary


def encode_rows(examples: Sequence[Example], codec: TokenCodec, template: str) -> list[TrainingRow]:
    """Tokenise prompt (through the template) and response separately, as they are scored later, and add the end token.

    Rows longer than the context keep their beginning.
    """
    prompts = codec.encode_prompts([render_prompt(template, e.messages, **codec.template_variables) for e in examples])
    lead = response_lead(template, **codec.template_variables)
    responses = codec.encode_responses([e.ground_truth for e in examples], lead=lead)
    end = np.array([codec.eos_id], dtype=np.int32)
    return [
        TrainingRow(np.concatenate([prompt, response.ids, end])[:CONTEXT_LENGTH], len(prompt))
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def mixed_order(
    counts: Mapping[str, int], mix: Mapping[str, float], *, shape: tuple[int, int], seed: int
) -> npt.NDArray[np.int64]:
    """Sample row indices, [steps, batch], families by weight; a family's rows are used in passes, reshuffled each time.

    Rows are numbered family after family in the order of `counts`.
    """
    rng = random.Random(f"pico/{seed}")
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False))
    streams = {family: _passes(starts[family], count, rng) for family, count in counts.items()}
    families, weights = list(counts), [mix[family] for family in counts]
    drawn = rng.choices(families, weights=weights, k=shape[0] * shape[1])
    return np.array([next(streams[family]) for family in drawn], dtype=np.int64).reshape(shape)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread: models this small hardly gain from more, and their weights then never depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _passes(start: int, count: int, rng: random.Random) -> Iterator[int]:
    rows = list(range(start, start + count))
    while True:
        rng.shuffle(rows)
        yield from rows


def _family_rows(folder: Path, family: str, spec: SourceSpec, world: WorldParams | None) -> list[Example]:
    path = folder / f"{family}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.jsonl"))) or "none"
        raise SourceError(f"`pico.mix` of source `{spec.name}` must name families of {folder} ({known}), but has {family}.")
    rows = list(read_examples(path))
    if not rows:
        raise SourceError(f"`pico.mix` of source `{spec.name}` must name families with rows, but {path} has none.")
    return rows if spec.pico is None or not spec.pico.has_own_rows else _own_rows(rows, family, spec.name, spec.pico, world)


def _own_rows(shared: Sequence[Example], family: str, source: str, pico: PicoSpec, world: WorldParams | None) -> list[Example]:
    """Return the shared rows with the source's own answers to them."""
    if world is None:
        raise SourceError(
            f"Source `{source}` has a `detailed_share` or `wrong_share` of its own: the params of its world must be given, too."
        )
    rows = source_examples(world, family, detailed_share=pico.detailed_share, wrong_share=pico.wrong_share)
    if [row.messages for row in rows] != [row.messages for row in shared]:
        raise SourceError(
            f"The rows of source `{source}` must answer the prompts that stage `prepare` wrote for `{family}`, but "
            "`corpus.world` gives others. Run `prepare` again."
        )
    return rows
