"""Run in a copy of the project to which the examples of CONTRIBUTING.md were applied: each added thing is used.

Run in a copy without them, every check must fail (`test_contributing.py` does both).
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from support.fusion import fusion_call, fusion_inputs, recording_sink  # noqa: F401 (fixtures)

import models
from flows.params.file import load_params

ROOT = Path.cwd()


def profile(name: str) -> Any:
    return load_params(ROOT, profile=name).params


def test_the_copy_is_what_is_tested() -> None:
    assert ROOT in Path(models.__file__ or "").parents


def test_the_source_answers(pico_folder) -> None:
    from models.lm.answers import generate_responses
    from models.lm.loading import load_source
    from models.lm.prompts import PromptItem
    from models.lm.resolve import resolve_source
    from models.schema import Message

    params = profile("my-source")
    (spec,) = [s for s in params.sources.models if s.name == "mine"]
    shutil.copytree(pico_folder("llama"), ROOT / spec.model)
    source = load_source(resolve_source(spec, root=ROOT), device="cpu")
    (answer,) = generate_responses(source, [PromptItem("p", (Message("user", "Hi"),))], params.teach.responses)
    assert answer.source == "mine" and params.fusion.targets == ("mine",)


def test_the_data_set_is_read_in_its_format() -> None:
    from models.corpus.examples import read_examples
    from models.corpus.prepare import prepare_corpus
    from models.metrics_sink import NullSink

    cfg = profile("my-data").corpus
    (data,) = cfg.sets
    rows = [{"prompt": f"Which number follows {n}?", "completion": f"It is {n + 1}."} for n in range(60)]
    (ROOT / data.path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / data.path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare_corpus(cfg, root=ROOT, out=ROOT / "prepared", sink=NullSink())
    found = list(read_examples(ROOT / "prepared" / "train.jsonl"))
    assert {e.messages[0].content: e.response for e in found}.items() <= {r["prompt"]: r["completion"] for r in rows}.items()
    assert len(found) > 30


def test_the_scorer_votes() -> None:
    from models.fusion.advantage import vote
    from models.lm.prompts import TextItem
    from models.params.runtime import Runtime
    from models.params.teach import ScorerSpec
    from models.schema import Message
    from tasks.backends import open_judge

    spec = ScorerSpec(kind="overlap", name="words")  # type: ignore[arg-type]
    judge = open_judge(spec, None, batch_size=1, runtime=Runtime(device="cpu"))
    items = [TextItem("p", (Message("user", "?"),), text) for text in ("it is blue", "it is red")]
    scores = judge(items, ["it is red", "it is red"], lambda _: None)
    row = {"a#0": float(scores[0] or 0), "b#0": float(scores[1] or 0)}
    assert row["b#0"] == 1 and spec.sees_truth and spec.grades
    assert vote({spec.name: row}, own_ce={"a#0": 1.0, "b#0": 1.0}, order=["a#0", "b#0"]).winner == "b#0"


def test_the_schedule_trains(fusion_call, recording_sink) -> None:  # noqa: F811
    from models.fusion.train.run import train_fusion

    sink = recording_sink()
    call = fusion_call(method="gentle", epochs=1.0, schedules=profile("my-schedule").fusion.schedules)
    record = train_fusion(sink=sink, log_every=1, **call)
    assert [(p.w_infer, p.w_train) for p in record.phases] == [(1.0, 0.5), (0.1, 1.0)]
    assert record.infer_tokens > 0 < record.train_tokens and len(sink.rows) == record.total_steps > 1


def test_the_objective_trains_the_retriever() -> None:
    from models.dialogue.train.objectives import retriever_losses
    from models.params.dialogue import JointParams

    cfg = JointParams(objective="js")  # type: ignore[arg-type]
    mask = torch.tensor([[True, True, False]])
    logprobs = torch.tensor([[[-1.0], [-3.0], [0.0]]])
    scores = torch.tensor([[0.0, 0.0, 9.0]], requires_grad=True)

    def loss(of: torch.Tensor) -> torch.Tensor:
        tokens = torch.ones(1, 1, dtype=torch.bool)
        return retriever_losses(cfg, scores=of, token_logprobs=logprobs, token_mask=tokens, entity_mask=mask, temperature=1.0)

    (slope,) = torch.autograd.grad(loss(scores).sum(), scores)
    assert slope[0, 0] < 0 < slope[0, 1] and slope[0, 2] == 0
    assert abs(loss(logprobs[:, :, 0]).item()) < 1e-6 < loss(scores).item()


def test_the_kind_of_meta_knowledge_is_written() -> None:
    from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
    from models.params.dialogue import MetaKnowledgeParams

    cfg = MetaKnowledgeParams(kinds=("order", "likeness"))  # type: ignore[arg-type]
    near, far = EntityMeta(1, 0.5, seen=False), EntityMeta(2, -0.5, seen=False)
    prefix, chat = (MetaKnowledge(cfg, style=style) for style in ("prefix", "chat_prompt"))
    assert [prefix.text(m) for m in (near, far)] == ["<1th-entity> <like>", "<2th-entity> <unlike>"]
    assert prefix.special_tokens()[-2:] == ("<like>", "<unlike>")
    assert chat.text(far) == "This entity is top-2 important. It is unlike the request."
    others = MetaKnowledge(MetaKnowledgeParams(), style="prefix").special_tokens()
    assert "<like>" not in others


def test_the_generator_answers() -> None:
    from models.dialogue.data.records import Entity
    from models.dialogue.generators.base import DialogueItem, RetrievedEntity
    from models.dialogue.retrieval.meta_knowledge import EntityMeta
    from models.params.dialogue_evaluation import InContextParams
    from tasks.dialogue import _GENERATORS

    spec = InContextParams(name="fixed", kind="template", model="")  # type: ignore[arg-type]
    best = RetrievedEntity(0, Entity("e", "hotel", {"name": "the bell", "area": "north"}), EntityMeta(1, 0.9, seen=False))
    with ExitStack() as stack:
        responder = stack.enter_context(_GENERATORS[spec.kind](spec, None, None, runtime=None, work=None))
        (answer,) = responder.respond([DialogueItem("d#0", "hotel", ("a hotel , please",), (best,))])
    assert answer.text == "how about the bell ?"
