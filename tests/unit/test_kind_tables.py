"""Each `kind` that params may name has its row in the table that acts on it: a name without a row would fail at run time."""

from typing import Any, get_args

import pytest

from models.corpus import formats
from models.dialogue.data import prepare
from models.dialogue.retrieval.meta_knowledge import KINDS
from models.dialogue.train.objectives import TARGETS
from models.fusion.schedule import preset_weights
from models.fusion.scorers import TEXT_SCORERS
from models.params import corpus, dialogue, dialogue_evaluation, dialogues, fusion, teach
from tasks import dialogue as dialogue_tasks

# Names that the code treats apart, as they need more than a row: two marginals; scorers with models, checks, sources' own scores.
MARGINALS = {"mml", "emdr2"}
WITH_MORE = {"confidence", "check", "embedding", "reward_model", "judge"}


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (corpus.RecordFormat, formats._FORMATS),
        (dialogues.DialogueFormat, prepare._READERS),
        (teach.ScorerKind, teach._TRAITS),
        (teach.ScorerKind, TEXT_SCORERS.keys() | WITH_MORE),
        (dialogue.MetaKind, KINDS),
        (dialogue.Objective, TARGETS.keys() | MARGINALS),
        (dialogue_evaluation.GeneratorKind, dialogue_tasks._GENERATORS),
    ],
)
def test_every_name_has_a_row(names: Any, rows: Any) -> None:
    assert set(get_args(names)) == set(rows)


def test_every_preset_has_phases() -> None:
    assert all(preset_weights(method, replay=0.1, simul_weight=1.0) for method in fusion.METHODS)


def test_every_style_of_meta_knowledge_has_words_for_every_value() -> None:
    for kind in KINDS.values():
        assert kind.prefix.keys() == kind.prompt.keys() == kind.chat.keys() and kind.negative in kind.prefix
