"""README.md and docs/*.md: commands, options, targets, links, keys, functions, tests and error messages they name exist."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from flows.cli import app
from flows.params.file import load_params
from flows.params.schema import all_keys
from flows.pipeline import COMPOSITES
from flows.results_files import documents, renew_tables
from flows.stages import STAGES
from models.params.dialogue import VARIANTS
from models.params.fusion import METHODS

ROOT = Path(__file__).resolve().parents[2]
# docs/params.md is generated and compared elsewhere.
DOCUMENTS = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "params.md")]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
RESULT_PAGES = sorted((ROOT / "docs" / "results").glob("*.md"))
# Those that the tutorial and CONTRIBUTING.md have their readers write count as well.
WRITTEN = {"mine", *re.findall(r"^# profiles/([\w-]+)\.yaml$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)}
PROFILES = {p.stem for p in (ROOT / "profiles").glob("*.yaml")} | WRITTEN
PLACEHOLDERS = {"NAME", "KEY", "…"}
HOSTS = re.compile(
    r"pypi\.|pythonhosted|download\.pytorch|pytorch\.org|conda\.|anaconda|huggingface\.co|hf\.co|ghcr\.io|docker\.io", re.I
)
MACHINE_PATHS = re.compile(r"(?<![\w./<])/(?:work|home|root|tmp|Users|mnt|opt|usr|var)(?:/|\b)|[A-Z]:\\")
CODE_PACKAGES = ("flows", "tasks", "models")


@cache
def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def code_of(document: Path) -> Iterator[str]:
    """Commands and names: every line of shell blocks (continued lines joined), and inline code."""
    text = text_of(document)
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        if language == "bash":
            yield from re.sub(r"\\\n\s*", " ", body).splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    # Two backticks quote code that holds one.
    for double, single in re.findall(r"``\s?(.+?)\s?``|`([^`]+)`", prose, re.S):
        yield " ".join((double or single).split())


def commands(document: Path, start: str) -> Iterator[list[str]]:
    for line in code_of(document):
        found = re.search(rf"(?:^|\s|;|&&)({re.escape(start)}(?:\s.*)?)$", line)
        if found:
            yield shlex.split(found.group(1).split(" && ")[0], comments=True)


def documented(start: str) -> list[tuple[str, list[str]]]:
    pages = (*DOCUMENTS, *DECISIONS, *RESULT_PAGES, ROOT / "CONTRIBUTING.md")
    rows = [(page.name, words) for page in pages for words in commands(page, start)]
    unique = {(name, tuple(words)): words for name, words in rows}
    return [(name, words) for (name, _), words in unique.items()]


def check_flows_command(words: list[str]) -> str | None:
    """Say what is wrong with the words behind `python -m flows`, or None."""
    if not words:
        return None
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    command = group.commands.get(words[0])
    if command is None:
        return f"no sub-command `{words[0]}`"
    by_flag = {flag: p for p in command.params for flag in p.opts}
    places, at = [p for p in command.params if p.param_type_name == "argument"], 0
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("-"):
            option = by_flag.get(word)
            if option is None:
                return f"`{words[0]}` has no option `{word}`"
            value = None if getattr(option, "is_flag", False) else next(rest, None)
            wrong = check_value(option.name or "", value) if not getattr(option, "is_flag", False) else None
        elif at < len(places):
            wrong, at = check_value(places[at].name or "", word), at + 1
        else:
            return f"`{words[0]}` takes no argument `{word}`"
        if wrong:
            return wrong
    return None


def check_value(name: str, value: str | None) -> str | None:
    if value is None:
        return f"`{name}` needs a value"
    known = {
        "stage": {*COMPOSITES, "ablation", *(s.name for s in STAGES)},
        "what": set(COMPOSITES),
        "variant": {*VARIANTS},
        "profile": PROFILES,
        "method": {*METHODS},
    }.get(name)
    if known is not None and value not in known | PLACEHOLDERS:
        return f"`{value}` is no {name} ({sorted(known)})"
    return None


@pytest.mark.parametrize(("document", "words"), documented("python -m flows"))
def test_flows_commands_exist(document: str, words: list[str]) -> None:
    assert check_flows_command(words[3:]) is None, f"{document}: {' '.join(words)}"


def test_no_document_shows_a_chat_with_models_that_cannot_answer() -> None:
    shown = [words for _, words in documented("python -m flows chat")]
    assert shown and not [words for words in shown if "smoke" in words]


def test_the_check_finds_mistakes() -> None:
    assert check_flows_command(["run", "pipeline", "--profile", "smoke", "-S", "a=1"]) is None
    wrong = [["rum"], ["run", "teech"], ["run", "fuse", "--methods", "sft"], ["plan", "--profile", "smok"], ["stages", "teach"]]
    assert all(check_flows_command(words) for words in wrong)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize(("document", "words"), documented("make"))
def test_make_targets_exist(document: str, words: list[str]) -> None:
    named = [word.rstrip(").,") for word in words[1:] if not word.startswith("-") and "=" not in word]
    assert set(named) <= targets(), f"{document}: {' '.join(words)}"


def test_continuous_integration_runs_what_the_readme_tells_a_newcomer_to_run() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make demo", "make test"]
    assert "```bash\nmake demo\nmake test\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_and_all_sub_commands_are_documented() -> None:
    readme = {words[1] for words in commands(ROOT / "README.md", "make") if len(words) > 1}
    assert {"demo", "test"} <= readme
    named = {words[3] for _, words in documented("python -m flows") if len(words) > 3}
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert set(group.commands) <= named


@pytest.mark.parametrize("document", [*DOCUMENTS, *DECISIONS, *RESULT_PAGES], ids=lambda p: p.name)
def test_relative_links_resolve(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        place, _, anchor = target.partition("#")
        file = (document.parent / place).resolve() if place else document
        if "://" in target or not file.exists():
            broken.append(target)
        elif anchor and anchor not in anchors(file):
            broken.append(target)
    assert not broken


def anchors(document: Path) -> set[str]:
    """GitHub's names of the headings."""
    prose = re.sub(r"^```.*?^```", "", text_of(document), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, *DECISIONS, *RESULT_PAGES], ids=lambda p: p.name)
def test_no_machine_path_and_no_registry_host(document: Path) -> None:
    assert not MACHINE_PATHS.findall(text_of(document))
    assert not HOSTS.findall(text_of(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_params_keys_exist(document: Path) -> None:
    known = set(all_keys()) | {key.rsplit(".", 1)[0] for key in all_keys()}
    sections = {key.split(".")[0].removesuffix("[]") for key in known}
    named = [code.split(":")[0] for code in code_of(document)]
    keys = [n for n in named if re.fullmatch(r"[a-z_]+(\[\])?(\.[a-z_]+(\[\])?)+", n) and n.split(".")[0] in sections]
    suffixes = {"json", "jsonl", "csv", "html", "md", "yaml", "log", "db"}
    unknown = {k for k in keys if k.split(".")[-1] not in suffixes and k not in known and k.removesuffix("[]") not in known}
    assert not unknown


# What the code is like today; the log tells what it was like.
CURRENT = [p for p in (*DOCUMENTS, *DECISIONS, *RESULT_PAGES, ROOT / "CONTRIBUTING.md") if p.name != "log.md"]
TREES = ("flows", "tasks", "models", "tests", "benchmarks", "profiles", "docs")
_MODULE = re.compile(rf"(?:{'|'.join(CODE_PACKAGES)}|benchmarks)(?:\.\w+)+(?::[\w.]+)?")
_FILE = re.compile(rf"(?:{'|'.join(TREES)})/[\w./-]*")
_TEST = re.compile(r"((?:tests/)?(?:unit|property|integration|e2e)/[\w/]+\.py|…)::(\w+)")


def missing_names(code: str) -> list[str]:
    """Return the modules, functions, files and folders that a piece of inline code names but the project has not."""
    words = [word.strip("(),;") for word in code.split("::")[0].split()]
    missing = [word for word in words if _MODULE.fullmatch(word) and not defined(*word.partition(":")[::2])]
    missing += [word for word in words if re.fullmatch(r"\w+\.py", word) and not any(ROOT.glob(f"[fmt]*/**/{word}"))]
    return missing + [word for word in words if _FILE.fullmatch(word) and not (ROOT / word).exists()]


@pytest.mark.parametrize("document", CURRENT, ids=lambda p: p.name)
def test_functions_modules_and_files_exist(document: Path) -> None:
    missing = [name for code in code_of(document) if code not in WRITTEN_FILES for name in missing_names(code)]
    assert not missing


WRITTEN_FILES = {f"profiles/{name}.yaml" for name in WRITTEN}


def defined(module: str, name: str) -> bool:
    """Whether a module or package is there and, if a name is given, defines it: a function, class, constant, or a class's own."""
    place = ROOT.joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not file.is_file():
        return False
    body: list[ast.stmt] = ast.parse(text_of(file)).body
    for part in filter(None, name.split(".")):
        found = [node for node in body if part in names_of(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_the_check_finds_what_is_missing() -> None:
    there = ["models.fusion", "models.fusion.losses:fusion_loss", "models.fusion.losses:FusionLoss.kl_sum", "flows/teach.py --x"]
    assert not [name for code in there for name in missing_names(code)]
    gone = [
        "models.training.loop",
        "models.fusion.losses:lost",
        "models.fusion.losses:FusionLoss.lost",
        "see models/losses.py",
        "lost.py",
    ]
    assert all(missing_names(code) for code in gone)


@pytest.mark.parametrize("document", CURRENT, ids=lambda p: p.name)
def test_tests_that_documents_name_exist(document: Path) -> None:
    file, missing = "", []
    for place, test in (pair for code in code_of(document) for pair in _TEST.findall(code)):
        file = file if place == "…" else place.removeprefix("tests/")
        source = ROOT / "tests" / file
        if not source.is_file() or f"def {test}(" not in text_of(source):
            missing.append(f"{file}::{test}")
    assert not missing


def test_papers_name_a_test_for_their_equations() -> None:
    assert sum(len(_TEST.findall(code)) for code in code_of(ROOT / "docs" / "papers.md")) > 30


@pytest.mark.parametrize("number", range(5))
def test_diffs_of_contributing_fit_the_code(number: int) -> None:
    """Whoever changes the lines around them updates the example; what they add is tried by the integration test."""
    diffs = re.findall(r"^```diff\n(.*?)^```", text_of(ROOT / "CONTRIBUTING.md"), re.M | re.S)
    assert len(diffs) == 5
    command = ["git", "apply", "--check", "-"]
    done = subprocess.run(command, cwd=ROOT, input=diffs[number], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def messages() -> list[str]:
    """First cells of the tables in troubleshooting.md that quote a message of ours."""
    text = text_of(ROOT / "docs" / "troubleshooting.md")
    cells = re.findall(r"^\| (?:log: )?(`[^|]+`) ?(?:\||with |followed )", text, re.M)
    found = [quoted for cell in cells for quoted in re.findall(r"`([^`]+)`", cell)]
    return [message for message in found if not message.startswith(FOREIGN)]


# Said by Prefect, or no message.
FOREIGN = ("Timed out while attempting", "dvc exp show", "smoke", "missing", "prompt_too_long")


@cache
def literals() -> str:
    """Every string constant of the three packages; parts of an f-string stand alone."""
    found = []
    for package in CODE_PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            found += [
                n.value for n in ast.walk(ast.parse(text_of(file))) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
    return "\0".join(found)


@pytest.mark.parametrize("message", messages())
def test_quoted_messages_stand_in_the_code(message: str) -> None:
    parts = [part.strip(" ") for part in message.split("…")]
    missing = [part for part in parts if re.search(r"\w", part) and part not in literals()]
    assert not missing


def test_the_model_that_the_tutorial_loads_is_the_smoke_target() -> None:
    target = load_params(ROOT, profile="smoke").params.fusion.targets[0]
    assert f"artifacts/smoke/fuse/profuser/{target}/model" in text_of(ROOT / "docs" / "tutorial.md")


def test_the_readme_stays_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 200


def test_every_result_is_shown_and_every_table_is_current() -> None:
    """Each block is closed, asks for rows that there are, and holds what `python -m flows results` would write today."""
    texts = [text_of(path) for path in documents(ROOT)]
    opened = [name for text in texts for name in re.findall(r"<!-- results:([a-z0-9-]+)", text)]
    assert set(opened) == {path.stem for path in (ROOT / "docs" / "results").glob("*.json")}
    assert sum(text.count("<!-- /results -->") for text in texts) == len(opened)
    assert renew_tables(ROOT, write=False) == []
