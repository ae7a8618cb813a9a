from pathlib import Path

import pytest

from models.corpus.examples import offsets_path
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.records import TurnFile, read_turns, write_turns
from models.errors import ArtifactError
from models.metrics_sink import NullSink
from models.params.dialogues import DialoguesParams, TownParams


@pytest.fixture
def turns(tmp_path: Path) -> Path:
    cfg = DialoguesParams(kind="embedded", town=TownParams(num_entities=8, num_dialogues=10))
    prepare_dialogues(cfg, root=tmp_path, out=tmp_path, sink=NullSink())
    return tmp_path / "train.jsonl"


@pytest.mark.parametrize("with_offsets", [True, False])
def test_turns_by_index_are_those_of_the_file(turns: Path, with_offsets: bool) -> None:
    if not with_offsets:
        offsets_path(turns).unlink()
    expected, file = list(read_turns(turns)), TurnFile(turns)
    assert [file[i] for i in range(len(file))] == list(file) == expected
    assert file[-1] == expected[-1]
    assert file[1:4] == expected[1:4]
    with pytest.raises(IndexError):
        file[len(expected)]


def test_a_damaged_line_is_named(turns: Path) -> None:
    write_turns(turns, read_turns(turns))
    lines = turns.read_bytes().split(b"\n")
    lines[2] = b"x" * len(lines[2])
    turns.write_bytes(b"\n".join(lines))
    with pytest.raises(ArtifactError, match="line 3 is no turn"):
        TurnFile(turns)[2]
