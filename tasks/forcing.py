"""Teacher forcing by either backend: a model in this process, or a server that returns `prompt_logprobs`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.fusion.scoring import TextItem, force_texts, source_score
from models.fusion.signal import SampleSignals, SignalSpec
from models.generation.http_teacher import http_signals
from models.generation.loading import load_codec
from models.generation.prompts import Overflow, lead_of
from models.params.runtime import Runtime
from models.params.teach import SignalParams
from models.schema import ResolvedSource, SourceScore
from models.tokenization.chat import template_digest
from models.tokenization.codec import TokenCodec
from tasks.endpoints import endpoint
from tasks.resident import source_in_use, source_record

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
                for forced in force_texts(
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
    encoded = codec.encode_responses([text], lead=lead_of(source, codec))[0]
    return source_score(signals, num_bytes=encoded.num_bytes, lossless=encoded.lossless)
