"""Evaluation of one model on held-out examples: likelihood of the ground truth, correctness and reward of greedy answers."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from models.evaluation.fusion.correctness import is_correct
from models.evaluation.fusion.scores import ScoreRow
from models.fusion.teacher_forcing import teacher_force
from models.lm.answers import generate_responses
from models.lm.loading import LoadedSource
from models.lm.prompts import Overflow, PromptItem, TextItem
from models.params.evaluation import EvaluationParams
from models.params.teach import ResponseParams
from models.schema import Example, Response

AnswerScorer = Callable[[Sequence[TextItem], Sequence[str]], Sequence[float | None]]
"""Prompts with the answers to be scored, with the ground truths → one score each; None where there is none."""

_WINDOW = 1024  # examples in memory; long enough to bucket by length


def evaluate_model(
    source: LoadedSource,
    examples: Iterable[Example],
    cfg: EvaluationParams,
    *,
    scorers: Mapping[str, AnswerScorer],
    overflow: Overflow = "truncate_left",
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[ScoreRow]:
    """Score one model, example by example, in order; write the rows with `scores.write_scores`.

    The ground truth, where there is one, is teacher-forced under the model's own template (for bits per byte). With
    `cfg.answers` the model also answers greedily; the answer is judged by the example's check and by the scorers.

    Args:
        source: The model: a source, the untrained target or a fused model.
        examples: Held-out examples (`pick_examples` applies `cfg.limit`); read a window at a time.
        cfg: Lengths and batch sizes.
        scorers: Name → scorer of answers; none leaves `rewards` empty.
        overflow: How to treat a prompt that is too long for the context.
        on_progress: Called with the number of finished examples after each window.

    Yields:
        One row per example, in input order.

    Raises:
        DataError: An example has a check but no answer, or does not fit the context.
        NumericsError: A cross-entropy or a score is not finite.
    """
    done = 0
    for window in _windows(examples):
        rows = _likelihoods(source, window, cfg, overflow)
        if cfg.answers:
            answers = _answers(source, window, cfg, overflow)
            rows = with_rewards([_judged(*parts) for parts in zip(rows, window, answers, strict=True)], window, scorers)
        yield from rows
        done += len(window)
        if on_progress is not None:
            on_progress(done)


def _windows(examples: Iterable[Example]) -> Iterator[list[Example]]:
    rest = iter(examples)
    while window := list(islice(rest, _WINDOW)):
        yield window


def _likelihoods(source: LoadedSource, window: Sequence[Example], cfg: EvaluationParams, overflow: Overflow) -> list[ScoreRow]:
    items = [TextItem(e.id, e.messages, e.response, e.ended) for e in window if e.response is not None]
    forced = iter(teacher_force(source, items, top_k=None, batch_tokens=cfg.batch_tokens, overflow=overflow))
    rows = []
    for e in window:
        if e.response is None:
            rows.append(ScoreRow(e.id, e.family, None, num_bytes=0, num_tokens=0, lossless=True))
            continue
        score = next(forced).score
        rows.append(ScoreRow(e.id, e.family, score.nll, score.num_bytes, score.num_tokens, score.lossless))
    return rows


def _answers(source: LoadedSource, window: Sequence[Example], cfg: EvaluationParams, overflow: Overflow) -> list[Response]:
    greedy = ResponseParams(max_new_tokens=cfg.max_new_tokens, temperature=0.0, num_samples=1, batch_size=cfg.batch_size)
    return generate_responses(source, [PromptItem(e.id, e.messages) for e in window], greedy, overflow=overflow)


def with_rewards(
    rows: Sequence[ScoreRow],
    examples: Sequence[Example],
    scorers: Mapping[str, AnswerScorer],
    *,
    see_truth: Collection[str] = (),
) -> list[ScoreRow]:
    """Return the rows of a model's answers with what each scorer says of them; one scorer after another reads all answers.

    Args:
        rows: What the model answered to `examples`, in their order.
        examples: The examples.
        scorers: Name → scorer of answers.
        see_truth: Those of them that compare with the ground truth: they say nothing of examples without one.

    Raises:
        NumericsError: A score is not finite.
    """
    items = [TextItem(e.id, e.messages, row.text or "") for e, row in zip(examples, rows, strict=True)]
    references = [e.response or "" for e in examples]
    rewards: list[dict[str, float]] = [{} for _ in items]
    for name, score in scorers.items():
        asked = [i for i, e in enumerate(examples) if e.response is not None or name not in see_truth]
        values = score([items[i] for i in asked], [references[i] for i in asked]) if asked else ()
        for i, value in zip(asked, values, strict=True):
            if value is not None:
                rewards[i][name] = float(value)
    return [replace(row, rewards=graded) for row, graded in zip(rows, rewards, strict=True)]


def _judged(row: ScoreRow, example: Example, answer: Response) -> ScoreRow:
    return replace(row, correct=is_correct(example, answer.text), text=answer.text, finish=answer.finish)
