import os
from pathlib import Path

import pytest

from flows.params.tree import Origin
from flows.params.yaml_tree import parse_yaml, read_params_yaml
from models.errors import ParamsError


def test_every_value_remembers_its_line() -> None:
    text = "a:\n  b: 1  # one\n\n  list:\n    - x\n    - {y: 2, z: [3]}\nlong: |\n  text\nend: 1e-4\n"
    found = dict(parse_yaml(text, "p.yaml").walk())
    lines = {path: n.origin.line for path, n in found.items() if path}
    assert lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "list"): 4,
        ("a", "list", 0): 5,
        ("a", "list", 1): 6,
        ("a", "list", 1, "y"): 6,
        ("a", "list", 1, "z"): 6,
        ("a", "list", 1, "z", 0): 6,
        ("long",): 7,
        ("end",): 9,
    }
    assert found["end",].value == 1e-4
    assert found["a", "b"].origin == Origin("p.yaml", 2)


def test_scalars_are_plain_python_and_dates_stay_text() -> None:
    tree = parse_yaml("n: &n true\no: *n\nd: 2024-01-31\nh: 0x1F\ns: 'q'\nf: -1e-5\nnull_: ~\nyes_: yes\n", "p.yaml").plain()
    assert tree == {"n": True, "o": True, "d": "2024-01-31", "h": 31, "s": "q", "f": -1e-5, "null_": None, "yes_": "yes"}
    assert [type(v) for v in tree.values()] == [bool, bool, str, int, str, float, type(None), str]  # type: ignore[attr-defined]


def test_merge_keys_are_resolved() -> None:
    tree = parse_yaml("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\n", "p.yaml")
    assert tree.plain() == {"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3}}
    assert dict(tree.walk())["mine", "y"].origin.line == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  b: [1,\n", r"p\.yaml:3:1 is not valid YAML: .*line 3, column 1"),
        ("a:\n\tb: 1\n", r"p\.yaml:2:1 is not valid YAML.*Indent with spaces\."),
        ("a: 1\nb: 2\na: 3\n", r'p\.yaml:3:1 is not valid YAML: found duplicate key "a"'),
        ("a: b: c\n", r"p\.yaml:1:5 is not valid YAML"),
        ("a: 1\n--- \nb: 2\n", r"p\.yaml:2:1 .*expected a single document"),
        ("a: 1\nb: *gone\n", r"p\.yaml:2:4 .*undefined alias 'gone'"),
        ("x: 1\na: !!python/object/apply:os.system [ls]\n", r"p\.yaml:2 must not use YAML tags"),
        ("a: !mine {x: 1}\n", r"p\.yaml:1 must not use YAML tags, but is `!mine`"),
        ("a: !!binary aGk=\n", r"p\.yaml:1 must not use YAML tags"),
        ("x: 1\ntrue: 1\n", r"p\.yaml:2 must have text as key, but is True"),
    ],
)
def test_bad_yaml_says_where(text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_yaml(text, "p.yaml")


def test_file_is_read_with_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    tree = read_params_yaml(path, "p.yaml")
    assert tree.plain() == {"a": 1, "b": 2}
    assert dict(tree.walk())["b",].origin.line == 2


@pytest.mark.parametrize("content", ["", "# only a comment\n", "{}\n", "---\n"])
def test_empty_files_are_empty_mappings(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    assert read_params_yaml(path, "p.yaml").plain() == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff\n", r"p\.yaml must be UTF-8 text, but byte 3 is not"),
        (b"- a\n", r"p\.yaml:1 must be a mapping of sections, but is a list"),
        (b"text\n", r"p\.yaml:1 must be a mapping of sections, but is `text`"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        read_params_yaml(path, "p.yaml")


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling"])
def test_what_is_not_a_file_is_reported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(ParamsError, match=r"profiles/p\.yaml must be a file"):
        read_params_yaml(path, "profiles/p.yaml")
