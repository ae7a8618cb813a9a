import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import SourceError
from models.lm.resolve import resolve_source
from models.lm.source_file import read_source, source_identity, write_source
from models.params.sources import SourceSpec


@pytest.fixture
def source(pico_folder):
    return resolve_source(SourceSpec(name="owl", model=str(pico_folder("llama")), chat_template="plain"), root=Path())


def test_round_trip_keeps_a_folder_elsewhere(source, tmp_path):
    assert write_source(tmp_path, source) == tmp_path / "source.json"
    assert read_source(tmp_path) == source
    assert [p.name for p in tmp_path.iterdir()] == ["source.json"]


def test_source_beside_its_files_moves_with_them(source, tmp_path):
    here = replace(source, location=str(tmp_path / "a"))
    (tmp_path / "a").mkdir()
    write_source(tmp_path / "a", here)
    assert str(tmp_path) not in (tmp_path / "a" / "source.json").read_text()
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert read_source(tmp_path / "b") == replace(source, location=str(tmp_path / "b"))


def test_source_in_the_project_is_the_same_record_in_every_clone(source, tmp_path):
    for clone in ("one", "two"):
        (tmp_path / clone / "record").mkdir(parents=True)
        inside = replace(source, location=str(tmp_path / clone / "data" / "model"))
        write_source(tmp_path / clone / "record", inside, root=tmp_path / clone)
        assert read_source(tmp_path / clone / "record", root=tmp_path / clone) == inside
    one, two = ((tmp_path / c / "record" / "source.json").read_bytes() for c in ("one", "two"))
    assert one == two
    with pytest.raises(SourceError, match=r"records a path relative to the project .*, but no project root is given"):
        read_source(tmp_path / "one" / "record")


def test_hub_name_stays(source, tmp_path):
    hub = replace(source, location="org/model", revision="abc")
    write_source(tmp_path, hub)
    assert read_source(tmp_path).location == "org/model"


def test_broken_records_are_named(source, tmp_path):
    with pytest.raises(SourceError, match=r"source\.json must hold a resolved source, but cannot be read"):
        read_source(tmp_path)
    row = json.loads(write_source(tmp_path, source).read_text())
    del row["digest"]
    (tmp_path / "source.json").write_text(json.dumps(row))
    with pytest.raises(SourceError, match=r"source\.json must have the fields"):
        read_source(tmp_path)


def test_what_a_source_is_does_not_depend_on_where_it_lies(source):
    assert source_identity(source) == source_identity(replace(source, location="/elsewhere"))
    assert source_identity(source) != source_identity(replace(source, digest="other"))
    hub = replace(source, revision="abc", location="org/one")
    assert source_identity(hub) != source_identity(replace(hub, location="org/two"))
