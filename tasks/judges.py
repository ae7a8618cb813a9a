"""The voters of RM_Vote as one kind of function: reward models (loaded while they judge), judges behind endpoints, likeness."""

from collections.abc import Callable, Sequence
from pathlib import Path

from models.fusion.rewards import LoadedRewardModel, TextItem, load_reward_model, reference_scores, reward_scores
from models.generation.judge import judge_scores
from models.generation.loading import pick_devices
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec
from tasks.endpoints import endpoint
from tasks.resident import POOL, check_unchanged, source_record

Judge = Callable[[Sequence[TextItem], Sequence[str], Callable[[int], None]], Sequence[float | None]]


def open_judge(scorer: ScorerSpec, folder: Path | None, *, batch_size: int, runtime: Runtime) -> Judge:
    """Return a function (answers, ground truths, on_progress) → one score per answer, higher is better; None = ungraded.

    A model is loaded when the function is called, so that of several judges one at a time is in memory.
    """
    if scorer.kind == "reference":
        return lambda items, truths, _: reference_scores(items, truths)
    if scorer.kind == "judge":

        def ask(items: Sequence[TextItem], _: Sequence[str], moved: Callable[[int], None]) -> list[float | None]:
            with endpoint(scorer.name, runtime=runtime, model=scorer.model) as client:
                return judge_scores(client, items, max_tokens=scorer.max_tokens, on_progress=moved)

        return ask
    if folder is None:
        raise ValueError(f"scorer {scorer.name} of kind reward_model needs the folder of its model")
    place = folder

    def judge(items: Sequence[TextItem], _: Sequence[str], moved: Callable[[int], None]) -> Sequence[float | None]:
        record = source_record(place)

        def load(device: str) -> LoadedRewardModel:
            check_unchanged(record)
            return load_reward_model(record, device=device)

        with POOL.using(record.digest + record.location, load, devices=pick_devices(runtime.device)) as model:
            return reward_scores(model, items, batch_size=batch_size, on_progress=moved)

    return judge
