"""A tiny town for the tests of joint training: entities, dialogues about them, an untrained retriever. Load it by its path."""

import json
from pathlib import Path
from typing import Any

FOODS = ("thai", "greek", "indian", "french", "korean", "welsh")
T5 = {"vocab_size": 320, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
AREAS = ("north", "south", "east", "west")
NAMES = (
    "anchor",
    "bridge",
    "castle",
    "dolphin",
    "eagle",
    "fountain",
    "garden",
    "harbour",
    "island",
    "jasmine",
    "kettle",
    "lantern",
)


def make_kb(num: int = 12) -> list[Any]:
    """Entities with a name and a phone of their own; food and area repeat."""
    from models.dialogue.data.records import Entity

    return [
        Entity(
            f"e{i:02}",
            "restaurant",
            {"name": NAMES[i % 12], "food": FOODS[i % 6], "area": AREAS[(i // 3) % 4], "phone": f"55{i:02}"},
        )
        for i in range(num)
    ]


def make_turns(kb: list[Any], *, num: int, seed: int, session: int = 5) -> list[Any]:
    """Turns that ask for one entity by food and area; the response gives its name and phone."""
    import numpy as np

    from models.dialogue.data.records import Turn

    rng = np.random.default_rng(seed)
    turns = []
    for i in range(num):
        entity = kb[int(rng.integers(len(kb)))]
        a = entity.attributes
        others = [kb[int(j)].id for j in rng.permutation(len(kb)) if kb[int(j)] is not entity][: session - 1]
        ids = sorted([entity.id, *others])
        turns.append(
            Turn(
                id=f"d{seed}-{i}#0",
                dialogue=f"d{seed}-{i}",
                turn=0,
                domain="restaurant",
                context=(f"i want {a['food']} food in the {a['area']}",),
                response=f"try the {a['name']} , phone {a['phone']}",
                gold_values=(a["name"], a["phone"]),
                gold_entities=(entity.id,),
                kb=tuple(ids),
            )
        )
    return turns


def write_data(folder: Path, *, num_train: int = 40, num_valid: int = 10, kb_size: int = 12) -> Path:
    """Write a dialogue artifact."""
    from models.dialogue.data.records import write_kb, write_turns
    from models.dialogue.data.requests.lexicon import RequestLexicon

    folder.mkdir(parents=True, exist_ok=True)
    kb = make_kb(kb_size)
    write_kb(folder / "kb.jsonl", kb)
    for seed, (split, num) in enumerate({"train": num_train, "valid": num_valid, "test": 4}.items()):
        write_turns(folder / f"{split}.jsonl", make_turns(kb, num=num, seed=seed))
    values = sorted({v for e in kb for v in e.attributes.values()})
    (folder / "values.json").write_text(json.dumps(values))
    RequestLexicon(("food", "area")).write(folder)
    (folder / "stats.json").write_text("{}")
    return folder


def write_warm(folder: Path, data: Path, **params: Any) -> Path:
    """Write an untrained retriever as a warm start; dropout is on."""
    from models.dialogue.data.records import read_kb, read_turns
    from models.dialogue.retrieval.encoder import build_retriever
    from models.dialogue.retrieval.entity_text import entity_text
    from models.params.retriever import RetrieverParams

    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.1}
    cfg = RetrieverParams(**({"pico": pico, "max_context_tokens": 32, "max_entity_tokens": 32} | params))
    texts = [t.context[-1] for t in read_turns(data / "train.jsonl")] + [entity_text(e) for e in read_kb(data / "kb.jsonl")]
    build_retriever(cfg, texts=texts, root=folder).save(folder / "retriever")
    return folder


def dialogue_params(**joint: Any) -> Any:
    """Small sizes; `k`, `generator`, `meta_knowledge`, `seed` set other fields, the rest go to `joint`."""
    from models.params.dialogue import DialogueParams

    k, seed = joint.pop("k", 3), joint.pop("seed", 1)
    generator = {"pico": T5, "max_context_tokens": 24, "max_entity_tokens": 40, "max_response_tokens": 16}
    generator |= joint.pop("generator", {})
    defaults = {
        "steps": 8,
        "batch_size": 8,
        "micro_batch_size": 4,
        "retriever_lr": 1e-3,
        "generator_lr": 3e-3,
        "every_evaluation": 4,
        "every_checkpoint": 4,
        "validation_limit": 4,
        "refresh": {"every_steps": 3},
    }
    meta = joint.pop("meta_knowledge", {})
    return DialogueParams(num_retrieved=k, generator=generator, joint=defaults | joint, meta_knowledge=meta, seed=seed)


def make_call(
    root: Path, name: str, *, data: Path, warm: Path, variant: str = "prompt", setting: str = "large_scale", **params: Any
):
    """Return all arguments of `train_dialogue` but cfg, index and sink, and these two; dropout is on."""
    from models.params.index import IndexParams
    from models.params.runtime import Runtime

    params["generator"] = {"pico": T5 | {"dropout": 0.1}} | params.get("generator", {})
    call = {
        "variant": variant,
        "setting": setting,
        "data": data,
        "warm": warm,
        "root": root,
        "runtime": Runtime(device="cpu", threads=1),
        "out": root / name / "out",
        "resume_dir": root / name / "resume",
    }
    return {"cfg": dialogue_params(**params), "index": IndexParams(), **call}


class RecordingSink:
    """Keeps what is logged; metrics of one step are put together."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}

    def log(self, metrics: Any, *, step: int) -> None:
        self.rows.setdefault(step, {}).update(metrics)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        pass
