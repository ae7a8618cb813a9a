"""Tasks of the dialogue agent on held-out dialogues: retrieval, answers, and the comparison of all systems."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from models.params.dialogue import MetaKnowledgeParams
from models.params.dialogue_evaluation import DialogueEvaluationParams, GeneratorKind, InContextParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.backends import endpoint
from tasks.caching import Work, step
from tasks.loaded_models import loading, release_models, source_in_use, use_threads
from tasks.tracking import RunSink, StageRun
from tasks.workspace import project_root

if TYPE_CHECKING:
    from models.dialogue.agent.agent import DialogueAgent
    from models.dialogue.generators.base import Responder
    from models.dialogue.generators.in_context import InContext
    from models.evaluation.dialogue.run import HeldOut
    from models.evaluation.dialogue.system import DialogueSystem

ROWS, SCORES = "rows.jsonl", "dialogue_scores.json"
JOINT, WARM = "joint", "warm_start"


@step("floor-retrieval")
def floor_retrieval(
    cfg: DialogueEvaluationParams, data: Artifact, *, floor: str, kind: str, condensed: bool, num: int, work: Work
) -> Mapping[str, Any]:
    """Write the rows of an untrained retriever: `bm25` or `frequency`."""
    from models.corpus.text import RULES
    from models.evaluation.dialogue.baselines import Bm25, Frequency
    from models.evaluation.dialogue.scores import write_rows
    from models.evaluation.dialogue.ties import tied_with_last

    held_out = _held_out(cfg, data, kind=kind, condensed=condensed)
    make = {"bm25": Bm25, "frequency": Frequency}[floor]
    ranker = make(held_out.kb, attributes=cfg.value_attributes, rule=RULES[cfg.text_rule])
    hits = ranker.rank(held_out.contexts, num, within=held_out.within)
    rows = [[row for row, _ in hits.of(query)] for query in range(len(held_out.turns))]
    tied = tied_with_last(ranker.dense_scores(held_out.contexts), rows, within=held_out.within)
    return {"rows": write_rows(work.out / ROWS, held_out.score(held_out.retrieved(hits), tied=tied)), "name": floor}


@step("floor-responses")
def floor_responses(
    cfg: DialogueEvaluationParams, data: Artifact, *, floor: str, kind: str, condensed: bool, work: Work
) -> Mapping[str, Any]:
    """Write the rows of responses that no generator made: `null` says what training says most, `copy_first` the first entity."""
    from models.corpus.text import RULES
    from models.dialogue.data.records import read_turns
    from models.evaluation.dialogue.baselines import Frequency
    from models.evaluation.dialogue.run import constant_responses, copied_responses
    from models.evaluation.dialogue.scores import Retrieved, write_rows

    held_out = _held_out(cfg, data, kind=kind, condensed=condensed)
    count = len(held_out.turns)
    found: list[list[Retrieved]] = [[] for _ in held_out.turns]
    if floor == "null":
        texts = constant_responses(read_turns(data.path / "train.jsonl"), count)
    else:
        ranker = Frequency(held_out.kb, attributes=cfg.value_attributes, rule=RULES[cfg.text_rule])
        hits = ranker.rank(held_out.contexts, 1, within=held_out.within)
        found = held_out.retrieved(hits)
        texts = copied_responses(hits, count, held_out.kb, attributes=cfg.value_attributes)
    return {"rows": write_rows(work.out / ROWS, held_out.score_texts(found, texts)), "name": floor}


@step("retriever-evaluation")
def retriever_evaluation(
    cfg: DialogueEvaluationParams,
    data: Artifact,
    *,
    retriever: Artifact,
    folder: str,
    index: Artifact,
    kind: str,
    condensed: bool,
    num: int,
    by_cosine: bool,
    runtime: Runtime,
    work: Work,
) -> Mapping[str, Any]:
    """Write the rows of a trained retriever without a generator; `by_cosine`: without the lexical evidence of its score."""
    from models.dialogue.retrieval.embedding import embed_contexts
    from models.dialogue.retrieval.encoder import Retriever
    from models.dialogue.retrieval.hybrid import score_parts, vectors_of
    from models.dialogue.retrieval.kb_index import open_kb_index
    from models.evaluation.dialogue.scores import write_rows
    from models.lm.loading import pick_device

    held_out = _held_out(cfg, data, kind=kind, condensed=condensed)
    with loading():
        use_threads(runtime)
        device = pick_device(runtime.device)
        encoder = Retriever.load(retriever.path / folder, device=device)
    found = open_kb_index(index.path, encoder, held_out.kb, verified=True, device=device)
    found = vectors_of(found) if by_cosine else found
    contexts = held_out.contexts
    hits = found.search(embed_contexts(encoder, contexts), num, within=held_out.within, contexts=contexts)
    rows = held_out.score(held_out.retrieved(hits, score_parts(found, contexts, hits)))
    return {"rows": write_rows(work.out / ROWS, rows), "name": folder.partition("/")[0]}


@step("dialogue-evaluation")
def dialogue_evaluation(
    cfg: DialogueEvaluationParams,
    data: Artifact,
    *,
    agent: Artifact,
    index: Artifact,
    kind: str,
    condensed: bool,
    num: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write the rows of a trained agent: retrieved entities, response, statistics of every held-out turn."""
    held_out = _held_out(cfg, data, kind=kind, condensed=condensed)
    trained = _agent(agent, index, held_out, cfg=cfg, num=num, runtime=runtime)
    with RunSink(run, runtime=runtime, label=f"answer {agent.meta['name']}") as sink:
        return _answered(trained, trained.responder, held_out, num_read=int(agent.meta["num_retrieved"]), sink=sink, work=work)


@step("in-context-evaluation", retries=2)
def in_context_evaluation(
    spec: InContextParams,
    cfg: DialogueEvaluationParams,
    data: Artifact,
    *,
    agent: Artifact,
    index: Artifact,
    model: Artifact | None,
    style: str,
    kind: str,
    condensed: bool,
    num: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write the rows of a generator that reads entities, meta knowledge and demonstrations in its prompt."""
    from models.dialogue.data.records import read_turns
    from models.dialogue.generators.demonstrations import DemonstrationPool
    from models.dialogue.generators.in_context import ChatPrompt, InContext
    from models.dialogue.retrieval.meta_knowledge import MetaKnowledge

    held_out = _held_out(cfg, data, kind=kind, condensed=condensed)
    trained = _agent(agent, index, held_out, cfg=cfg, num=num, runtime=runtime)
    meta = MetaKnowledge(MetaKnowledgeParams(kinds=trained.meta.kinds), style=_CHAT_STYLES[style], edges=trained.meta.edges)
    pool = DemonstrationPool(read_turns(data.path / "train.jsonl"), retrieve=trained.retrieve_turns)
    prompts = InContext(
        ChatPrompt(meta),
        pool=pool if spec.demonstrations else None,
        demonstrations=spec.demonstrations,
        max_prompt_tokens=spec.max_prompt_tokens,
        max_new_tokens=spec.max_new_tokens,
    )
    opened = _GENERATORS[spec.kind](spec, model, prompts, runtime=runtime, work=work)
    with RunSink(run, runtime=runtime, label=f"answer {spec.name}") as sink, opened as responder:
        return _answered(trained, responder, held_out, num_read=int(agent.meta["num_retrieved"]), sink=sink, work=work)


@step("dialogue-comparison")
def dialogue_comparison(
    cfg: DialogueEvaluationParams,
    systems: tuple[Mapping[str, str], ...],
    *,
    rows: tuple[Artifact, ...],
    data: Artifact,
    kind: str,
    work: Work,
) -> Mapping[str, Any]:
    """Write dialogue_scores.json: the results table with intervals, and the paired differences the claims rest on."""
    from models.corpus.text import RULES
    from models.dialogue.data.knowledge_base import KnowledgeBase
    from models.dialogue.data.records import KB
    from models.evaluation.bootstrap import Resampling
    from models.evaluation.dialogue.comparison import aggregate, claim_pairs, paired, read_columns
    from models.evaluation.dialogue.run import TurnScorer, entity_list_of
    from models.evaluation.dialogue.scores import read_rows

    found = {_system(s): read_rows(a.path / ROWS) for s, a in zip(systems, rows, strict=True)}
    scores = read_columns(found, count_api=cfg.count_api)
    entities = entity_list_of(data.path, cfg, kind=kind, root=project_root())
    notes = TurnScorer(entities, KnowledgeBase.load(data.path / KB), rule=RULES[cfg.text_rule]).notes
    how = Resampling(samples=cfg.bootstrap_samples, confidence=cfg.confidence, seed=cfg.seed)
    table = aggregate(scores, resampling=how, notes=notes)
    content = {
        "confidence": cfg.confidence,
        "table": [row.to_json() for row in table],
        "comparisons": [c.to_json() for c in paired(scores, claim_pairs(list(scores)), resampling=how)],
    }
    (work.out / SCORES).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"systems": len(systems), "rows": len(table)}


# How the styles of a trained generator are written for one that reads prompts (Table 12 of MK-TOD).
_CHAT_STYLES: Mapping[str, Any] = {"none": "none", "prefix": "chat_prefix", "prompt": "chat_prompt"}


def _system(row: Mapping[str, str]) -> "DialogueSystem":
    from models.evaluation.dialogue.system import DialogueSystem

    return DialogueSystem.from_json(row)


def _held_out(cfg: DialogueEvaluationParams, data: Artifact, *, kind: str, condensed: bool) -> "HeldOut":
    from models.evaluation.dialogue.run import HeldOut

    return HeldOut(data.path, cfg, kind=kind, condensed=condensed, root=project_root())


def _agent(
    agent: Artifact, index: Artifact, held_out: "HeldOut", *, cfg: DialogueEvaluationParams, num: int, runtime: Runtime
) -> "DialogueAgent":
    """Load a trained agent that retrieves `num` entities from a finished index."""
    from models.dialogue.agent.loading import load_agent
    from models.lm.loading import pick_device

    with loading():
        use_threads(runtime)
        return load_agent(
            agent.path,
            held_out.kb,
            index_folder=index.path,
            verified=True,
            device=pick_device(runtime.device),
            num_retrieved=num,
            num_beams=cfg.num_beams,
            batch_size=cfg.batch_size,
        )


@contextmanager
def _causal(
    spec: InContextParams, model: Artifact | None, prompts: "InContext", *, runtime: Runtime, work: Work
) -> "Iterator[Responder]":
    from models.dialogue.generators.causal import CausalResponder

    if model is None:
        raise ValueError(f"generator {spec.name} of kind causal needs the folder of its model")
    folder = model.path / "model" if (model.path / "model").is_dir() else model.path
    with source_in_use(folder, runtime=runtime) as loaded:
        yield CausalResponder(loaded, prompts)
    del loaded
    release_models()


@contextmanager
def _openai(
    spec: InContextParams, model: Artifact | None, prompts: "InContext", *, runtime: Runtime, work: Work
) -> "Iterator[Responder]":
    from models.dialogue.generators.openai import AnswerCache, OpenAiResponder

    with endpoint(spec.name, runtime=runtime, model=spec.model) as client, AnswerCache(work.resume) as cache:
        yield OpenAiResponder(client, prompts, cache=cache, requests_per_minute=spec.requests_per_minute)


# Kind of generator → what opens it; connections, models and files of finished answers are closed in the end.
_GENERATORS: "Mapping[GeneratorKind, Callable[..., AbstractContextManager[Responder]]]" = {
    "causal": _causal,
    "openai": _openai,
}


def _answered(
    agent: "DialogueAgent", responder: "Responder", held_out: "HeldOut", *, num_read: int, sink: RunSink, work: Work
) -> Mapping[str, Any]:
    """Retrieve, answer, score; the generator reads the best `num_read` entities, recall looks at all that were retrieved."""
    from models.dialogue.generators.base import total_cuts
    from models.evaluation.dialogue.run import describe, items_of
    from models.evaluation.dialogue.scores import write_rows
    from models.lm.chat_reply import count_problems

    found = agent.retrieve(held_out.contexts, within=held_out.within)
    items = items_of(held_out.turns, found, num_retrieved=num_read)
    total = len(items)
    answers = responder.respond(items, on_progress=lambda done: sink.progress(done, total, unit="turns"))
    rows = held_out.score([describe(these, agent) for these in found], answers, num_read=num_read)
    count = write_rows(work.out / ROWS, rows)
    cuts = total_cuts(answers)
    return {
        "rows": count,
        "prompt_tokens": sum(a.num_prompt_tokens for a in answers),
        "response_tokens": sum(a.num_tokens for a in answers),
        "cut_demonstrations": cuts.demonstrations,
        "cut_entities": cuts.entities,
        "problems": count_problems(a.problem for a in answers),
    }
