"""Voters that grade answers as one kind of function: reward models and encoders (loaded while they judge), endpoints, chrF."""

from collections.abc import Callable, Sequence
from pathlib import Path

from models.fusion.embedding_scores import SentenceEncoder, embedding_scores, load_sentence_encoder
from models.fusion.rewards import LoadedRewardModel, TextItem, load_reward_model, reference_scores, reward_scores
from models.generation.judge import judge_scores
from models.generation.loading import pick_devices
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec
from tasks.endpoints import endpoint
from tasks.resident import POOL, check_unchanged, source_record
from tasks.workspace import project_root

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
    if scorer.kind == "embedding":

        def compare(items: Sequence[TextItem], truths: Sequence[str], moved: Callable[[int], None]) -> Sequence[float | None]:
            def load(device: str) -> SentenceEncoder:
                key = f"teach.rewards.scorers[{scorer.name}].model"
                return load_sentence_encoder(scorer.model, revision=scorer.revision, root=project_root(), device=device, key=key)

            name = f"{scorer.model}@{scorer.revision}"
            with POOL.using(name, load, devices=pick_devices(runtime.device), keep_s=runtime.keep_models_s) as encoder:
                return embedding_scores(encoder, items, truths, batch_size=batch_size, on_progress=moved)

        return compare
    if folder is None:
        raise ValueError(f"scorer {scorer.name} of kind reward_model needs the folder of its model")
    place = folder

    def judge(items: Sequence[TextItem], _: Sequence[str], moved: Callable[[int], None]) -> Sequence[float | None]:
        record = source_record(place)

        def load(device: str) -> LoadedRewardModel:
            check_unchanged(record)
            return load_reward_model(record, device=device)

        devices, kept = pick_devices(runtime.device), runtime.keep_models_s
        with POOL.using(record.digest + record.location, load, devices=devices, keep_s=kept) as model:
            return reward_scores(model, items, batch_size=batch_size, on_progress=moved)

    return judge
