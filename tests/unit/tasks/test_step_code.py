"""Identity rules of a step's code, on a small project written into a folder."""

import types
from pathlib import Path

import pytest

from tasks import code_closure, step_code

STEP = '''
from models.lib import used
from tasks.tracking import sink

LIMIT = 3

def helper(x):
    return x + LIMIT

def neighbour(x):
    """Not used by the step."""
    return x * 2

def work(x):
    """The step."""
    from models.deep import inner
    return inner(used(helper(x)))
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "models/__init__.py": "",
        "models/lib.py": "from models.lower import low\n\ndef used(x):\n    return low(x)\n",
        "models/lower.py": "def low(x):\n    return x\n",
        "models/deep.py": "def inner(x):\n    return x\n",
        "models/unrelated.py": "def other():\n    return 1\n",
        "tasks/__init__.py": "",
        "tasks/tracking.py": "def sink():\n    return 1\n",
        "tasks/steps.py": STEP,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(
        step_code, "code_digest", lambda roots, without: code_closure.code_digest(roots, without=without, root=tmp_path)
    )
    return tmp_path


def digest(project: Path) -> str:
    path = project / "tasks" / "steps.py"
    code = compile(path.read_text(), str(path), "exec")
    function = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == "work")
    return step_code.step_code_digest(types.FunctionType(function, {"__name__": "steps_under_test"}, "work"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/lib.py", "low(x)\n", "low(x) + 1\n"),
        ("models/lower.py", "return x", "return -x"),
        ("models/deep.py", "return x", "return x + 2"),
        ("tasks/steps.py", "x + LIMIT", "x - LIMIT"),
        ("tasks/steps.py", "LIMIT = 3", "LIMIT = 4"),
        ("tasks/steps.py", "inner(used", "inner(1 + used"),
    ],
)
def test_an_edit_the_step_reaches_changes_its_identity(project: Path, file: str, old: str, new: str) -> None:
    before = digest(project)
    edit(project / file, old, new)
    assert digest(project) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/unrelated.py", "return 1", "return 2"),
        ("tasks/tracking.py", "return 1", "return 2"),
        ("tasks/steps.py", "x * 2", "x * 3"),
        ("tasks/steps.py", "The step.", "The very step."),
        ("models/lib.py", "def used", "# a comment\ndef used"),
    ],
)
def test_other_edits_do_not(project: Path, file: str, old: str, new: str) -> None:
    before = digest(project)
    edit(project / file, old, new)
    assert digest(project) == before


def test_a_nested_function_has_no_identity() -> None:
    def nested() -> None: ...

    with pytest.raises(TypeError, match="top level"):
        step_code.step_code_digest(nested)


def test_what_records_runs_enters_no_identity() -> None:
    tracking = {f"tasks.{path.stem}" for path in Path(step_code.__file__).parent.glob("tracking*.py")}
    assert len(tracking) >= 3
    assert tracking <= step_code.INFRASTRUCTURE
