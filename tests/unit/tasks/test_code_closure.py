import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.code_closure import PACKAGES, PROJECT_ROOT, closure, code_digest, module_digest, module_path

FILES = {
    "models/__init__.py": '"""Top."""\n',
    "models/a.py": "from models.sub import inner, VALUE\n\n\ndef late():\n    import models.b as b\n    return b\n",
    "models/b.py": "X = 1\n",
    "models/c.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from models.b import X\nelse:\n    X = 2\n",
    "models/d.py": (
        "class K:\n    try:\n        from models.b import X\n    except* OSError:\n        from models import c\n"
        "match 1:\n    case 1:\n        import models.sub.deep.leaf\n"
    ),
    "models/sub/__init__.py": "VALUE = 1\n",
    "models/sub/inner.py": "from . import sibling\nfrom ..b import X\n",
    "models/sub/sibling.py": "",
    "models/sub/deep/__init__.py": "from models import c\n",
    "models/sub/deep/leaf.py": "",
    "tasks/__init__.py": "",
    "tasks/t.py": "from models import *\nimport numpy.random\nimport models_other\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        # function-level import, submodule by `from`, relative imports, packages on the way; VALUE is no module
        ("models.a", ["models", "models.a", "models.b", "models.sub", "models.sub.inner", "models.sub.sibling"]),
        ("models.c", ["models", "models.c"]),  # TYPE_CHECKING is not followed
        ("models.d", ["models", "models.b", "models.c", "models.d", "models.sub", "models.sub.deep", "models.sub.deep.leaf"]),
        ("models.sub", ["models", "models.sub"]),
        ("tasks.t", ["models", "tasks", "tasks.t"]),  # foreign packages and `*` add nothing
    ],
)
def test_closure_by_hand(tree: Path, root: str, expected: list[str]) -> None:
    assert list(closure([root], root=tree)) == expected


def test_closure_of_several_roots_is_the_union(tree: Path) -> None:
    both = closure(["models.c", "models.sub.inner"], root=tree)
    assert set(both) == set(closure(["models.c"], root=tree)) | set(closure(["models.sub.inner"], root=tree))
    assert closure([], root=tree) == ()


def test_cyclic_imports_end(tree: Path) -> None:
    (tree / "models/b.py").write_text("import models.a\n")
    assert "models.b" in closure(["models.a"], root=tree)


def test_unknown_modules_are_errors_with_the_place(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"'models\.nothing' must be a module of"):
        closure(["models.nothing"], root=tree)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        module_path("numpy", root=tree)
    (tree / "models/b.py").write_text("\nimport models.gone\n")
    with pytest.raises(ModuleNotFoundError, match=r"models\.gone.*b\.py:2"):
        closure(["models.b"], root=tree)


def test_module_path_of_module_and_package(tree: Path) -> None:
    assert module_path("models.a", root=tree) == tree / "models/a.py"
    assert module_path("models.sub", root=tree) == tree / "models/sub/__init__.py"


BASE = 'def f(x):\n    """Doc."""\n    return x + 1\n\n\nclass K:\n    """Doc."""\n'


@pytest.mark.parametrize(
    "edited",
    [
        'def f(x):\n    """Another doc."""\n    return x + 1\n\n\nclass K:\n    """Doc."""\n',
        "def f(x):\n    return x + 1\n\n\nclass K:\n    pass\n",
        '"""Module doc."""\n# comment\n\ndef f(x):  # why\n    # more\n    return (\n        x + 1\n    )\nclass K:\n    pass\n',
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tree: Path, edited: str) -> None:
    (tree / "models/b.py").write_text(BASE)
    before = code_digest(["models.a"], root=tree)
    (tree / "models/b.py").write_text(edited)
    assert code_digest(["models.a"], root=tree) == before


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("x + 1", "x + 2"),
        BASE.replace("x + 1", "x + 1.0"),
        BASE.replace("f(x)", "f(x, y=1)"),
        BASE.replace("class K", "class L"),
        BASE + "assert True\n",
        BASE + "'''not a docstring'''\n",
    ],
)
def test_every_code_edit_counts_even_behind_a_late_import(tree: Path, edited: str) -> None:
    (tree / "models/b.py").write_text(BASE)
    before = code_digest(["models.a"], root=tree)
    (tree / "models/b.py").write_text(edited)
    assert code_digest(["models.a"], root=tree) != before


def test_digest_ignores_modules_outside_the_closure_and_sees_renames(tree: Path) -> None:
    before = code_digest(["models.a"], root=tree)
    (tree / "models/c.py").write_text("Y = 3\n")
    assert code_digest(["models.a"], root=tree) == before
    (tree / "models/sub/sibling.py").rename(tree / "models/sub/brother.py")
    (tree / "models/sub/inner.py").write_text("from . import brother\nfrom ..b import X\n")
    assert code_digest(["models.a"], root=tree) != before


def test_a_module_that_becomes_a_package_is_followed(tree: Path) -> None:
    (tree / "models/b.py").unlink()
    (tree / "models/b").mkdir()
    (tree / "models/b/__init__.py").write_text("from models.b import new\n")
    (tree / "models/b/new.py").write_text("X = 1\n")
    assert "models.b.new" in closure(["models.a"], root=tree)


def test_digest_is_the_same_in_another_process() -> None:
    code = "from tasks.code_closure import code_digest; import sys; sys.stdout.write(code_digest(['flows.params.file']))"
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == code_digest(["flows.params.file"])


@pytest.mark.parametrize("root", ["flows.params.file", "tasks.artifact", "models.fusion.signals.store"])
def test_closure_holds_everything_a_real_import_loads(root: str) -> None:
    code = f"import sys, {root}; sys.stdout.write('\\n'.join(m for m in sys.modules if m.split('.')[0] in {PACKAGES!r}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert root in loaded
    assert loaded <= set(closure([root]))


def test_the_params_files_stay_out_of_models() -> None:
    """The library's digests must not follow the root of the params: one section per import."""
    assert "flows" not in closure(["models.params.fusion"])
    assert "models.params.evaluation" not in closure(["models.params.fusion"])


def test_a_second_look_at_the_whole_project_is_fast() -> None:
    files = [p for package in PACKAGES for p in (PROJECT_ROOT / package).rglob("*.py")]
    names = [".".join(p.relative_to(PROJECT_ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files]
    for name in names:
        module_digest(name)
    begin = time.perf_counter()
    for name in names:
        module_digest(name)
    assert time.perf_counter() - begin < 1.0  # milliseconds; the bound only catches a lost cache
