"""Systems of the dialogue evaluation: one identity each, and stored rows that read back."""

import pytest

from models.evaluation.dialogue.system import DialogueSystem

# Identity, stored row {name, kind, meta_knowledge, retriever}, label, key, folder.
SYSTEMS = [
    (DialogueSystem("prompt", "variant", "prompt"), ("prompt", "variant", "prompt", ""), "prompt", "prompt", "variant-prompt"),
    (
        DialogueSystem("prompt", "retriever"),
        ("prompt (best retriever)", "retriever", "", "prompt"),
        "prompt (best retriever)",
        "prompt (best retriever)",
        "retriever-prompt",
    ),
    (
        DialogueSystem("prompt", "unseen", test="100 distractors apart"),
        ("prompt, 100 distractors apart", "unseen", "", "prompt"),
        "prompt, 100 distractors apart",
        "prompt, 100 distractors apart",
        "unseen-prompt-100-distractors-apart",
    ),
    (
        DialogueSystem("fused", "in_context", "none", "prompt"),
        ("fused", "in_context", "none", "prompt"),
        "fused, none",
        "fused + none",
        "in_context-fused-none",
    ),
    (
        DialogueSystem("warm_start", "warm_start"),
        ("warm_start", "warm_start", "", ""),
        "warm start",
        "warm_start",
        "warm_start-warm_start",
    ),
    (
        DialogueSystem("warm_start", "dense"),
        ("warm_start, cosine alone", "dense", "", "warm_start"),
        "warm start, cosine alone",
        "warm_start, cosine alone",
        "dense-warm_start",
    ),
    (DialogueSystem("bm25", "floor"), ("bm25", "floor", "", ""), "BM25", "bm25", "floor-bm25"),
]


@pytest.mark.parametrize(("system", "stored", "label", "key", "folder"), SYSTEMS)
def test_names_of_every_kind(system: DialogueSystem, stored: tuple[str, ...], label: str, key: str, folder: str) -> None:
    assert system.to_json() == dict(zip(("name", "kind", "meta_knowledge", "retriever"), stored, strict=True))
    assert DialogueSystem.from_json(system.to_json()) == system
    assert (system.label, system.key, system.folder) == (label, key, folder)
