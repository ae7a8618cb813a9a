"""What the logged models need of others: no import of the shipped code is left out."""

import ast
from importlib.metadata import packages_distributions, version

import pytest

from tasks.code_identity import module_path, reach
from tasks.model_logging import requirements


@pytest.mark.parametrize("module", ["tasks.dialogue_serving", "tasks.serving"])
def test_every_import_of_the_shipped_code_is_required(module: str) -> None:
    listed = {line.partition("==")[0] for line in requirements(module)}
    owners = packages_distributions()
    for name in reach(module, by_name=False).code:
        for node in ast.walk(ast.parse(module_path(name).read_text(encoding="utf-8"))):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {n.partition(".")[0] for n in named} & owners.keys() - {"models", "tasks", "flows"}:
                assert set(owners[top]) & listed, f"{name} imports {top}"


def test_the_agent_needs_its_index_and_pins_what_is_installed() -> None:
    lines = requirements("tasks.dialogue_serving")
    names = {line.partition("==")[0] for line in lines}
    assert any(line.startswith(("faiss-cpu==", "faiss-gpu==")) for line in lines)
    assert {"mlflow", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic"} <= {
        x.split("==")[0] for x in lines
    }
    assert all(version(line.split("==")[0]).partition("+")[0] == line.split("==")[1] for line in lines) and lines == sorted(
        lines, key=str.lower
    )
    assert not {"fusedial", "prefect", "dvc"} & names


def test_what_nothing_imports_may_be_added() -> None:
    assert any(line.startswith("jinja2==") for line in requirements("tasks.serving", extra=("jinja2",)))
