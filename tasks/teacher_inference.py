"""Task `teacher-inference`: one source answers the prompts of one shard (inference mode, ỹ_i^j of ProFuser)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.params.runtime import Runtime
from models.params.teach import ResponseParams
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun

if TYPE_CHECKING:
    from models.lm.prompts import Overflow
    from models.schema import Split


@step("teacher-inference", retries=2)
def teacher_inference(
    cfg: ResponseParams,
    data: Artifact,
    source: Artifact,
    *,
    overflow: "Overflow",
    split: "Split",
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write responses.jsonl for the examples `start` to `stop` of a split."""
    from models.corpus.examples import read_slice, write_responses
    from models.fusion.http_source import http_responses
    from models.lm.answers import generate_responses
    from models.lm.chat_reply import count_problems
    from models.lm.loading import load_codec
    from models.lm.prompts import PromptItem
    from tasks.backends import endpoint
    from tasks.loaded_models import source_in_use, source_record

    items = [PromptItem(e.id, e.messages) for e in read_slice(data.path / f"{split}.jsonl", start, stop)]
    name = source_record(source.path).name
    with RunSink(run, runtime=runtime, label=f"{name} answers {start}-{stop}") as sink:

        def moved(done: int) -> None:
            sink.progress(done, len(items) * cfg.num_samples, unit="answers")

        if cfg.backend == "http":
            with endpoint(name, runtime=runtime) as client:
                record = source_record(source.path)
                codec = load_codec(record)
                answers = http_responses(client, items, cfg, source=record, codec=codec, overflow=overflow, on_progress=moved)
        else:
            with source_in_use(source.path, runtime=runtime) as loaded:
                answers = generate_responses(loaded, items, cfg, overflow=overflow, on_progress=moved)
    write_responses(work.out, answers)
    return {
        "source": name,
        "responses": len(answers),
        "truncated_prompts": sum(a.prompt_truncated for a in answers),
        "unfinished": sum(a.finish == "length" for a in answers),
        "tokens": sum(a.num_tokens for a in answers),
        "problems": count_problems(a.problem for a in answers),
    }
