"""Backends of sources and judges as one kind of function each: a model in this process, or an OpenAI-compatible endpoint."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import BackendError
from models.fusion.http_source import http_signals
from models.fusion.scorers import TEXT_SCORERS, SentenceEncoder, embedding_scores, judge_scores, load_sentence_encoder
from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.teacher_forcing import source_score, teacher_force
from models.lm.http import OpenAiClient
from models.lm.loading import load_codec, pick_devices
from models.lm.prompts import Overflow, TextItem, source_response_lead
from models.lm.reward_model import LoadedRewardModel, load_reward_model, reward_scores
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec, SignalParams
from models.schema import ResolvedSource, SourceScore
from models.tokenization.chat import template_digest
from models.tokenization.codec import TokenCodec
from tasks.loaded_models import POOL, check_unchanged, source_in_use, source_record
from tasks.workspace import project_root


def endpoint(name: str, *, runtime: Runtime, model: str = "") -> OpenAiClient:
    """Return a client for the endpoint `name`; its key is FUSEDIAL_KEY_<NAME> or OPENAI_API_KEY.

    Raises:
        BackendError: `runtime.endpoints` has no such name.
    """
    url = runtime.endpoints.get(name)
    if url is None:
        known = ", ".join(sorted(runtime.endpoints)) or "none"
        raise BackendError(
            f"`runtime.endpoints` must name the server of `{name}`, but has {known}. Add `-S runtime.endpoints.{name}=http://…`."
        )
    variable = "FUSEDIAL_KEY_" + name.upper().replace("-", "_").replace(".", "_")
    key = os.environ.get(variable) or os.environ.get("OPENAI_API_KEY") or ""
    return OpenAiClient(url, model=model or name, api_key=key, timeout_s=runtime.timeout_s, concurrency=runtime.concurrency)


Force = Callable[[Sequence[TextItem], int | None, Callable[[int], None]], Iterator[tuple[SampleSignals, SourceScore]]]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A source ready to be teacher-forced: `force(items, top_k, on_progress)` yields signals and score in input order."""

    source: ResolvedSource
    vocab_size: int
    force: Force

    def spec(self, *, corpus_digest: str, top_k: int, kind: str) -> SignalSpec:
        """Describe signals of this source: readers refuse a store made with another tokenizer, template or corpus."""
        return SignalSpec(
            source=self.source.name,
            model_digest=self.source.digest,
            tokenizer_digest=self.source.tokenizer_digest,
            template_digest=template_digest(self.source.chat_template),
            corpus_digest=corpus_digest,
            top_k=top_k,
            vocab_size=self.vocab_size,
            kind=kind,  # type: ignore[arg-type]
        )


@contextmanager
def open_teacher(cfg: SignalParams, folder: Path, *, overflow: Overflow, runtime: Runtime) -> Iterator[Teacher]:
    """Open the source in `folder` by the backend that `cfg` asks for.

    Raises:
        BackendError: The backend is `http`, and `runtime.endpoints` does not name the source.
    """
    if cfg.backend == "transformers":
        with source_in_use(folder, runtime=runtime) as loaded:

            def in_process(
                items: Sequence[TextItem], top_k: int | None, moved: Callable[[int], None]
            ) -> Iterator[tuple[SampleSignals, SourceScore]]:
                for forced in teacher_force(
                    loaded, items, top_k=top_k, batch_tokens=cfg.batch_tokens, overflow=overflow, on_progress=moved
                ):
                    yield forced.signals, forced.score

            yield Teacher(loaded.source, loaded.codec.vocab_size, in_process)
        return
    source = source_record(folder)
    codec = load_codec(source)
    with endpoint(source.name, runtime=runtime) as client:

        def over_http(
            items: Sequence[TextItem], top_k: int | None, moved: Callable[[int], None]
        ) -> Iterator[tuple[SampleSignals, SourceScore]]:
            signals = http_signals(client, items, source=source, codec=codec, top_k=top_k, overflow=overflow, on_progress=moved)
            for item, one in zip(items, signals, strict=True):
                yield one, _score(one, item.response, source, codec)

        yield Teacher(source, codec.vocab_size, over_http)


def _score(signals: SampleSignals, text: str, source: ResolvedSource, codec: TokenCodec) -> SourceScore:
    encoded = codec.encode_responses([text], lead=source_response_lead(source, codec))[0]
    return source_score(signals, num_bytes=encoded.num_bytes, lossless=encoded.lossless)


Judge = Callable[[Sequence[TextItem], Sequence[str], Callable[[int], None]], Sequence[float | None]]


def open_judge(scorer: ScorerSpec, folder: Path | None, *, batch_size: int, runtime: Runtime) -> Judge:
    """Return a function (answers, ground truths, on_progress) → one score per answer, higher is better; None = ungraded.

    A model is loaded when the function is called, so that of several judges one at a time is in memory.
    """
    if scorer.kind in TEXT_SCORERS:
        score = TEXT_SCORERS[scorer.kind]
        return lambda items, truths, _: score(items, truths)
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
