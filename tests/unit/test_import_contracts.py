"""The import contracts leave no module out."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Those that are for MLflow; every other module of tasks must stand in the contract.
FOR_MLFLOW = {
    "database_file",
    "dialogue_serving",
    "dialogue_traces",
    "model_logging",
    "serving",
    "tracking",
    "tracking_log",
    "tracking_store",
}


def test_every_other_module_of_tasks_may_not_import_mlflow() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    listed = set(contracts["importlinter:contract:mlflow"]["source_modules"].split())
    modules = {path.stem for path in (ROOT / "tasks").glob("*.py")} - {"__init__"}
    assert listed == {"flows", *(f"tasks.{name}" for name in modules - FOR_MLFLOW)}
    assert modules >= FOR_MLFLOW
