"""The voters of RM_Vote as one kind of function: reward models (kept loaded), judges behind endpoints, reference likeness."""

from collections.abc import Callable, Sequence
from pathlib import Path

from models.fusion.rewards import LoadedRewardModel, TextItem, load_reward_model, reference_scores, reward_scores
from models.generation.judge import judge_scores
from models.generation.loading import pick_device
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec
from tasks.endpoints import endpoint
from tasks.resident import loading, source_record

Judge = Callable[[Sequence[TextItem], Sequence[str], Callable[[int], None]], Sequence[float | None]]
_resident: dict[str, LoadedRewardModel] = {}


def open_judge(scorer: ScorerSpec, folder: Path | None, *, batch_size: int, runtime: Runtime) -> Judge:
    """Return a function (answers, ground truths, on_progress) → one score per answer, higher is better; None = ungraded."""
    if scorer.kind == "reference":
        return lambda items, truths, _: reference_scores(items, truths)
    if scorer.kind == "judge":

        def ask(items: Sequence[TextItem], _: Sequence[str], moved: Callable[[int], None]) -> list[float | None]:
            with endpoint(scorer.name, runtime=runtime, model=scorer.model) as client:
                return judge_scores(client, items, max_tokens=scorer.max_tokens, on_progress=moved)

        return ask
    if folder is None:
        raise ValueError(f"scorer {scorer.name} of kind reward_model needs the folder of its model")
    model = _loaded(folder, runtime=runtime)
    return lambda items, _, moved: reward_scores(model, items, batch_size=batch_size, on_progress=moved)


def _loaded(folder: Path, *, runtime: Runtime) -> LoadedRewardModel:
    record = source_record(folder)
    with loading():
        if record.digest not in _resident:
            _resident.clear()
            _resident[record.digest] = load_reward_model(record, device=pick_device(runtime.device))
        return _resident[record.digest]
