"""What a module, a definition or a step reaches, on small projects written into a folder: every rule once."""

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from tasks.code_identity import INFRASTRUCTURE, PACKAGES, PROJECT_ROOT, module_path, package_files, reach, step_code_digest

FILES = {
    "models/__init__.py": '"""Top."""\n__version__ = 1\n',
    "models/a.py": "from models.sub import inner, VALUE\n\n\ndef late():\n    import models.b as b\n    return b\n",
    "models/b.py": "X = 1\n",
    "models/c.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from models.b import X\nelse:\n    X = 2\n",
    "models/d.py": (
        "class K:\n    try:\n        from models.b import X\n    except* OSError:\n        from models import c\n"
        "match 1:\n    case 1:\n        import models.sub.deep.leaf\n"
    ),
    "models/sub/__init__.py": "VALUE = 1\n",
    "models/sub/inner.py": "from . import sibling\nfrom ..b import X\n",
    "models/sub/sibling.py": "Y = 1\n",
    "models/sub/deep/__init__.py": "from models import c\n",
    "models/sub/deep/leaf.py": "Z = 1\n",
    "models/bare/__init__.py": '"""A package file without code."""\n',
    "models/bare/page.py": "P = 1\n",
    "tasks/__init__.py": "",
    "tasks/t.py": "from models import *\nimport numpy.random\nimport models_other\n",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # an import in a function, a submodule by `from`, relative imports, packages on the way; VALUE is no module
        ("models.a", ["models", "models.a", "models.b", "models.sub", "models.sub.inner", "models.sub.sibling"]),
        ("models.c", ["models", "models.c"]),  # TYPE_CHECKING is not followed
        ("models.d", ["models", "models.b", "models.c", "models.d", "models.sub", "models.sub.deep", "models.sub.deep.leaf"]),
        ("models.sub", ["models", "models.sub"]),
        ("models.bare.page", ["models", "models.bare.page"]),  # without code there is nothing to depend on
        ("tasks.t", ["models", "tasks.t"]),
    ],
)
def test_modules_reached_by_imports(tree: Path, start: str, expected: list[str]) -> None:
    assert list(reach(start, root=tree).code) == expected


def test_other_packages_are_listed_apart(tree: Path) -> None:
    assert reach("tasks.t", root=tree).packages == {"numpy", "models_other"}


def test_an_excluded_module_excludes_what_only_it_reaches(tree: Path) -> None:
    assert list(reach("models.a", without=frozenset({"models.sub.inner"}), root=tree).code) == [
        "models", "models.a", "models.b", "models.sub",
    ]  # fmt: skip


def test_cyclic_imports_end(tree: Path) -> None:
    write(tree, {"models/b.py": "import models.a\n"})
    assert "models.b" in reach("models.a", root=tree).code


def test_a_module_that_becomes_a_package_is_followed(tree: Path) -> None:
    (tree / "models/b.py").unlink()
    write(tree, {"models/b/__init__.py": "from models.b import new\n", "models/b/new.py": "X = 1\n"})
    assert "models.b.new" in reach("models.a", root=tree).code


def test_unknown_modules_and_names_are_errors_with_the_place(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"'models\.nothing' must be a module of"):
        reach("models.nothing", root=tree)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        module_path("numpy", root=tree)
    with pytest.raises(NameError, match=r"`gone` must be bound at the top level of .*t\.py"):
        reach("tasks.t:gone", root=tree)
    write(tree, {"models/b.py": "\nimport models.gone\n"})
    with pytest.raises(ModuleNotFoundError, match=r"models\.gone.*b\.py:2"):
        reach("models.b", root=tree)


def test_module_path_of_module_and_package(tree: Path) -> None:
    assert module_path("models.a", root=tree) == tree / "models/a.py"
    assert module_path("models.sub", root=tree) == tree / "models/sub/__init__.py"


def test_the_other_files_of_a_package_belong_to_it(tree: Path) -> None:
    before = reach("models.bare.page", root=tree).digest
    write(tree, {"models/bare/page.html.j2": "<p>"})
    assert package_files("models.bare", root=tree) == [tree / "models/bare/page.html.j2"]
    assert package_files("models.bare.page", root=tree) == []
    between = reach("models.bare.page", root=tree).digest
    write(tree, {"models/bare/page.html.j2": "<b>"})
    assert len({before, between, reach("models.bare.page", root=tree).digest}) == 3


BASE = 'def f(x):\n    """Doc."""\n    return x + 1\n\n\nclass K:\n    """Doc."""\n'


@pytest.mark.parametrize(
    "edited",
    [
        'def f(x):\n    """Another doc."""\n    return x + 1\n\n\nclass K:\n    """Doc."""\n',
        "def f(x):\n    return x + 1\n\n\nclass K:\n    pass\n",
        '"""Module doc."""\n# comment\n\ndef f(x):  # why\n    # more\n    return (\n        x + 1\n    )\nclass K:\n    pass\n',
        BASE + "if typing.TYPE_CHECKING:\n    from models.c import X\n",
        BASE.replace("return", "if TYPE_CHECKING:\n        import numpy\n    return"),
    ],
)
def test_what_never_runs_does_not_count(tree: Path, edited: str) -> None:
    write(tree, {"models/b.py": BASE})
    before = reach("models.a", root=tree).digest
    write(tree, {"models/b.py": edited})
    assert reach("models.a", root=tree).digest == before


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("x + 1", "x + 2"),
        BASE.replace("x + 1", "x + 1.0"),
        BASE.replace("f(x)", "f(x, y=1)"),
        BASE.replace("class K", "class L"),
        BASE + "assert True\n",
        BASE + "'''not a docstring'''\n",
        BASE + "if TYPE_CHECKING:\n    pass\nelse:\n    Y = 1\n",
    ],
)
def test_every_other_edit_counts_even_behind_a_late_import(tree: Path, edited: str) -> None:
    write(tree, {"models/b.py": BASE})
    before = reach("models.a", root=tree).digest
    write(tree, {"models/b.py": edited})
    assert reach("models.a", root=tree).digest != before


def test_the_digest_ignores_modules_that_are_not_reached_and_sees_renames(tree: Path) -> None:
    before = reach("models.a", root=tree).digest
    write(tree, {"models/c.py": "Y = 3\n"})
    assert reach("models.a", root=tree).digest == before
    (tree / "models/sub/sibling.py").rename(tree / "models/sub/brother.py")
    write(tree, {"models/sub/inner.py": "from . import brother\nfrom ..b import X\n"})
    assert reach("models.a", root=tree).digest != before


# What `work` reaches in its own module and in others of tasks/ (H = the helper or constant in question, at 1), by trap.
TRAPS = {
    "body": "H = 1\ndef work(x):\n    return H\n",
    "constant of a helper": "H = 1\ndef helper():\n    return H\ndef work(x):\n    return helper()\n",
    "nested definition": "H = 1\ndef work(x):\n    def inner():\n        return lambda: H\n    return inner\n",
    "decorator": "def deco(f):\n    return [f, 1]\n@deco\ndef work(x): ...\n",
    "argument of a decorator": "from tasks.caching import step\nH = 1\n@step(H)\ndef work(x): ...\n",
    "default": "H = 1\ndef work(x=H): ...\n",
    "keyword default": "H = 1\ndef work(*, x=H): ...\n",
    "annotation": "class H:\n    a = 1\ndef work(x: H): ...\n",
    "text annotation": "class H:\n    a = 1\ndef work(x: 'list[H]') -> None: ...\n",
    "text return annotation": "class H:\n    a = 1\ndef work(x) -> 'H | None': ...\n",
    "annotated local": "class H:\n    a = 1\ndef work(x):\n    y: 'H' = x\n",
    "annotated constant": "H: int = 1\ndef work(x):\n    return H\n",
    "read as global": "H = 1\ndef work(x):\n    global H\n    H += x\n",
    "bound by global": "def setter():\n    global H\n    H = 1\ndef work(x):\n    return H\n",
    "class body": "H = 1\nclass K:\n    a = H\ndef work(x):\n    return K\n",
    "base class": "class H:\n    a = 1\nclass K(H): ...\ndef work(x):\n    return K\n",
    "method": "H = 1\nclass K:\n    def m(self):\n        return H\ndef work(x):\n    return K().m()\n",
    "defined under if": "if sys.platform:\n    H = 1\nelse:\n    H = 2\ndef work(x):\n    return H\n",
    "defined under try": "try:\n    import fast as H\nexcept ImportError:\n    H = 1\ndef work(x):\n    return H\n",
    "defined twice": "def h():\n    return 1\ndef h():\n    return 2\ndef work(x):\n    return h()\n",
    "added to": "H = []\nH += [1]\ndef work(x):\n    return H\n",
    "filled by a call": "H = []\nH.append(1)\ndef work(x):\n    return H\n",
    "filled by an item": "H = {}\nH['a'] = 1\ndef work(x):\n    return H\n",
    "patched": "import models.lib\nmodels.lib.LIMIT = 1\ndef work(x): ...\n",
    "patched together with a name": "import models.lib\nH = models.lib.LIMIT = 1\ndef work(x): ...\n",
    "two names in one assignment": "G, (H, *R) = 2, (1, 3)\ndef work(x):\n    return R\n",
    "two targets": "G = H = 1\ndef work(x):\n    return H\n",
    "walrus": "G = [H := 1]\ndef work(x):\n    return H\n",
    "alias": "def h():\n    return 1\nH = h\ndef work(x):\n    return H()\n",
    "lambda": "H = lambda: 1\ndef work(x):\n    return H()\n",
    "comprehension": "H = 1\ndef work(x):\n    return [H for i in x]\n",
}


def digest(root: Path, name: str = "work", file: str = "tasks/steps.py") -> str:
    code = compile((root / file).read_text(), str(root / file), "exec")
    function = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == name)
    return step_code_digest(types.FunctionType(function, {"__name__": "steps_under_test"}, name), root=root)


def edited(root: Path, file: str, old: str, new: str) -> bool:
    """Whether the edit changes the identity of the step."""
    before, path = digest(root), root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    return digest(root) != before


@pytest.mark.parametrize("trap", TRAPS)
def test_a_helper_counts_wherever_its_name_is_used(tmp_path: Path, trap: str) -> None:
    write(tmp_path, {"models/__init__.py": "", "models/lib.py": "LIMIT = 3\n", "tasks/steps.py": TRAPS[trap]})
    assert edited(tmp_path, "tasks/steps.py", "1", "9")


STEP = '''
from models.lib import used
from models.unused import other
from tasks.near import LIMIT, neighbour
from tasks.tracking import sink

def helper(x):
    """A helper."""
    return x + LIMIT

def unused(x):
    return neighbour(x)

def work(x):
    """The step."""
    from models.deep import inner
    return inner(used(helper(x)))
'''
PROJECT = {
    "models/__init__.py": "",
    "models/lib.py": "from models.lower import low\n\ndef used(x):\n    return low(x)\n\ndef unused(x):\n    return 7\n",
    "models/lower.py": "def low(x):\n    return x\n",
    "models/deep.py": "def inner(x):\n    return x\n",
    "models/unused.py": "def other():\n    return 1\n",
    "tasks/__init__.py": "",
    "tasks/near.py": "from models.unused import other\nBASE = 3\nLIMIT = BASE\n\ndef neighbour(x):\n    return other() * 5\n",
    "tasks/tracking.py": "def sink():\n    return 1\n",
    "tasks/steps.py": STEP,
}


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("models/lib.py", "low(x)\n", "low(x) + 1\n", True),
        ("models/lib.py", "return 7", "return 8", True),  # a module of models/ counts as a whole
        ("models/lower.py", "return x", "return -x", True),
        ("models/deep.py", "return x", "return x + 2", True),
        ("tasks/steps.py", "x + LIMIT", "x - LIMIT", True),
        ("tasks/steps.py", "inner(used", "inner(1 + used", True),
        ("tasks/near.py", "BASE = 3", "BASE = 4", True),  # what a name imported from tasks/ is made from
        ("tasks/near.py", "LIMIT = BASE", "LIMIT = BASE\nBASE.x = 1", True),  # what runs when it is imported
        ("tasks/__init__.py", "", "print(1)\n", True),
        ("tasks/steps.py", "from models.lib import used", "from models.lib import *\nused = 1", True),
        ("tasks/steps.py", "from models.lib import used", "import models.lib as used", True),
        ("tasks/near.py", "* 5", "* 6", False),
        ("models/unused.py", "return 1", "return 2", False),
        ("tasks/tracking.py", "return 1", "return 2", False),
        ("tasks/steps.py", "neighbour(x)", "neighbour(-x)", False),
        ("tasks/steps.py", "The step.", "The very step.", False),
        ("tasks/steps.py", "A helper.", "The helper.", False),
        ("models/lib.py", "def used", "# a comment\ndef used", False),
    ],
)
def test_what_enters_the_identity_of_a_step(tmp_path: Path, file: str, old: str, new: str, counts: bool) -> None:
    write(tmp_path, PROJECT)
    assert edited(tmp_path, file, old, new) == counts


@pytest.mark.parametrize(
    ("line", "use", "whole"),
    [
        ("from tasks.near import LIMIT as L", "L", False),
        ("from tasks.near import *", "LIMIT", True),  # which names it binds is not read: all of it counts
        ("import tasks.near as near", "near.LIMIT", True),  # so is which attribute is taken
        ("import tasks.near", "tasks.near.LIMIT", True),
        ("from tasks import near", "near.LIMIT", True),
        ("from . import near", "near.LIMIT", True),
        ("from .near import LIMIT", "LIMIT", False),
        ("from tasks.again import LIMIT", "LIMIT", False),  # handed on by another module
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_every_form_of_import(tmp_path: Path, line: str, use: str, whole: bool, inside: bool) -> None:
    start = f"def work(x):\n    {line}\n    return {use}\n" if inside else f"{line}\ndef work(x):\n    return {use}\n"
    write(tmp_path, PROJECT | {"tasks/again.py": "from tasks.near import LIMIT, neighbour\n", "tasks/steps.py": start})
    before = reach("tasks.steps:work", root=tmp_path).digest
    write(tmp_path, {"tasks/near.py": PROJECT["tasks/near.py"].replace("* 5", "* 6")})
    between = reach("tasks.steps:work", root=tmp_path).digest
    write(tmp_path, {"tasks/near.py": PROJECT["tasks/near.py"].replace("* 5", "* 6").replace("= 3", "= 4")})
    assert (between != before) == whole
    assert reach("tasks.steps:work", root=tmp_path).digest != between


def test_all_that_an_import_loads_is_reached_when_nothing_is_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, PROJECT)
    assert "models.unused" in reach("tasks.steps", by_name=False, root=tmp_path).code
    assert "models.unused" not in reach("tasks.steps:work", root=tmp_path).code


def test_a_nested_function_has_no_identity() -> None:
    def nested() -> None: ...

    with pytest.raises(TypeError, match="top level"):
        step_code_digest(nested)


def test_infrastructure_names_modules_and_all_of_tracking() -> None:
    assert all(module_path(name).is_file() for name in INFRASTRUCTURE)
    tracking = {f"tasks.{path.stem}" for path in module_path("tasks").parent.glob("tracking*.py")}
    assert len(tracking) >= 3
    assert tracking <= INFRASTRUCTURE


def test_the_digest_is_the_same_in_another_process() -> None:
    code = "from tasks.code_identity import reach; import sys; sys.stdout.write(reach('flows.params.file').digest)"
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == reach("flows.params.file").digest


@pytest.mark.parametrize("module", ["flows.params.file", "tasks.artifact", "models.fusion.signals.store"])
def test_everything_that_an_import_loads_is_reached(module: str) -> None:
    code = f"import sys, {module}; sys.stdout.write('\\n'.join(m for m in sys.modules if m.split('.')[0] in {PACKAGES!r}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in ran.stdout.split() if module_path(name).name != "__init__.py"}
    assert module in loaded
    assert loaded <= reach(module, by_name=False).code.keys()


def test_one_section_of_the_params_reaches_no_other() -> None:
    reached = reach("models.params.fusion").code
    assert not {"models.params.root", "models.params.evaluation"} & reached.keys()


def test_a_second_look_at_the_whole_project_is_fast() -> None:
    files = [p for package in PACKAGES for p in (PROJECT_ROOT / package).rglob("*.py")]
    names = [".".join(p.relative_to(PROJECT_ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files]
    everything = set(names)
    for name in names:
        reach(name, without=frozenset(everything - {name}))
    begin = time.perf_counter()
    for name in names:
        reach(name, without=frozenset(everything - {name}))
    assert time.perf_counter() - begin < 1.0  # 0.1 s; the bound only catches a lost cache
