"""A whole joint training in parts, for the tests of its modules. Load it by its path."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support import town


def make_folders(root: Path, **retriever: Any) -> SimpleNamespace:
    data = town.write_data(root / "data")
    return SimpleNamespace(data=data, warm=town.write_warm(root / "warm", data, **retriever))


def make_parts(
    folders: SimpleNamespace,
    *,
    variant: str = "prompt",
    condensed: bool = False,
    dropout: float = 0.0,
    positives: Sequence[int | None] = (),
    **params: Any,
) -> SimpleNamespace:
    """Everything `train_dialogue` would put together, in evaluation mode unless `dropout`; the index is made."""
    import torch

    from models.dialogue.retrieval.encoder import Retriever
    from models.dialogue.train.batches import DialogueCollator
    from models.dialogue.train.index_refresh import IndexRefresher
    from models.dialogue.train.module import DialogueModule
    from models.dialogue.train.schedule import DialogueSchedule
    from models.dialogue.train.setup import DialogueData, make_chooser, make_generator, make_meta
    from models.dialogue.train.turns import DialogueTurns, TokenRows
    from models.params.index import IndexParams

    cfg = town.dialogue_params(**params)
    data = DialogueData.read(folders.data)
    retriever = Retriever.load(folders.warm / "retriever")
    meta = make_meta(cfg, variant=variant, edges=(0.25, 0.75))
    generator = make_generator(cfg, data, meta, root=folders.data)
    refresher = IndexRefresher(retriever, data.kb, cfg=IndexParams(), device="cpu")
    refresher.refresh()
    chooser = make_chooser(cfg, data, meta, builder=generator.builder)
    schedule = DialogueSchedule(cfg.joint)
    module = DialogueModule(
        retriever,
        generator,
        cfg=cfg.joint,
        contrastive=variant == "contrastive",
        chooser=chooser,
        index=lambda: refresher.index,
        entity_ids=TokenRows(retriever.tokenise_entities([retriever.entity_text(e) for e in data.kb.entities])),
        contexts=lambda turn: data.train[turn].context,
        trains_retriever=schedule.trains_retriever,
        positives=positives,
    )
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout
    turns = DialogueTurns(data.train, data.kb, retriever=retriever, builder=generator.builder, condensed=condensed)
    collator = DialogueCollator(turns, retriever=retriever, pad_id=generator.pad_id)
    return SimpleNamespace(
        cfg=cfg, data=data, retriever=retriever, meta=meta, generator=generator, refresher=refresher, chooser=chooser,
        schedule=schedule, module=module, turns=turns, collator=collator,
    )  # fmt: skip
