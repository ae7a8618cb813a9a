"""A project folder of its own, and whole commands in fresh processes there."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("params.yaml", "profiles", "dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore", "flows", "tasks", "models")
METHODS = ("sft", "profuser")
VARIANTS = ("none", "prompt")
_FOREIGN = ("PREFECT_", "MLFLOW_", "FUSEDIAL_", "DVC_", "GIT_", "OMP_", "PYTEST_", "HF_")
_AUTHOR = {f"GIT_{who}_{what}": "e2e@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Record:
    """One finished step in the cache: rewritten whenever its body runs again."""

    kind: str
    written_ns: int
    artifact: str
    meta: Mapping[str, Any]


class Sandbox:
    """A project folder; `profile: smoke`, two methods and two variants stand in its params.yaml."""

    def __init__(self, root: Path, *, api: str) -> None:
        self.root, self._api = root, api

    @classmethod
    def from_repository(cls, root: Path, *, api: str) -> "Sandbox":
        """Make a project with the repository's code, params and stages, and nothing that was ever computed."""
        root.mkdir(parents=True)
        for name in PARTS:
            source = REPOSITORY / name
            _ = shutil.copytree(source, root / name) if source.is_dir() else shutil.copy2(source, root / name)
        (root / ".dvc").mkdir()
        shutil.copy2(REPOSITORY / ".dvc" / "config", root / ".dvc" / "config")
        shutil.copytree(REPOSITORY / ".dvc" / "plots", root / ".dvc" / "plots")
        made = cls(root, api=api)
        made.choose("methods", *METHODS)
        made.choose("variants", *VARIANTS)
        made.edit("params.yaml", "profile: embedded\n", "profile: smoke\n")
        return made

    def copy(self, root: Path) -> "Sandbox":
        """Copy everything, hard links among the files kept; MLflow's absolute places follow."""
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)
        with sqlite3.connect(root / "mlflow.db") as database:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(self.root), str(root)))
        return Sandbox(root, api=self._api)

    def choose(self, what: str, *names: str) -> None:
        """Set `methods` or `variants` in params.yaml."""
        path = self.root / "params.yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        chosen = [f"{what}: [{', '.join(names)}]" if line.startswith(f"{what}:") else line for line in lines]
        path.write_text("\n".join(chosen) + "\n", encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place in a file that reads `old`."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} must hold {old!r} once, but holds it {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")

    # --- commands --------------------------------------------------------------------------------------------------------

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of commands: nothing of the surrounding project, one thread, a wide terminal."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {
            **kept,
            **_AUTHOR,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "FUSEDIAL_ROOT": str(self.root),
            "PREFECT_API_URL": self._api,
            "DVC_SITE_CACHE_DIR": str(self.root / ".cache" / "dvc-site"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "240",
            **changes,
        }

    def run(self, *words: str, **changes: str) -> Done:
        """Run a command in the folder to its end."""
        done = subprocess.run(
            words, cwd=self.root, env=self.environment(**changes), capture_output=True, text=True, timeout=900, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def flows(self, *words: str, **changes: str) -> Done:
        """Run `python -m flows …` to its end."""
        return self.run(sys.executable, "-m", "flows", *words, **changes)

    def must(self, *words: str) -> Done:
        """Run `python -m flows …`, which must succeed."""
        done = self.flows(*words)
        assert done.code == 0, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start `python -m flows …` in a process group of its own."""
        command = [sys.executable, "-m", "flows", *words]
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment(), stdout=nowhere, stderr=nowhere, start_new_session=True
        )

    # --- what is there ---------------------------------------------------------------------------------------------------

    def records(self) -> dict[str, Record]:
        """Return the finished steps by cache key (a failure is kept too, under a shorter random name)."""
        found = {}
        for path in (self.root / ".cache" / "results").glob("?" * 64):
            written = path.stat().st_mtime_ns
            try:
                data = json.loads(json.loads(path.read_text(encoding="utf-8"))["result"])["data"]
            except ValueError:  # being written
                continue
            found[path.name] = Record(data["kind"], written, data["sha256"], data["meta"])
        return found

    def ran_since(self, before: Mapping[str, Record]) -> Counter[str]:
        """Return how many steps of each kind finished since `before`, repetitions included."""
        now = self.records()
        return Counter(r.kind for key, r in now.items() if key not in before or before[key].written_ns != r.written_ns)

    def out(self, *parts: str) -> Path:
        """Return a place in the outputs of the profile."""
        return self.root.joinpath("artifacts", "smoke", *parts)

    def manifests(self, *parts: str) -> dict[str, str]:
        """Return the manifests (file names and digests) below a place in the outputs."""
        place = self.out(*parts)
        return {
            p.parent.relative_to(place).as_posix(): p.read_text(encoding="utf-8") for p in sorted(place.rglob("manifest.json"))
        }

    def fused(self, method: str) -> Path:
        """Return the folder of a fused model."""
        (folder,) = self.out("fuse", method).glob("*/model")
        return folder

    def forget(self, *stages: str) -> None:
        """Delete the outputs of stages and all caches; what the other stages made is still there, as after `dvc pull`."""
        shutil.rmtree(self.root / ".cache")
        for stage in stages:
            shutil.rmtree(self.out(stage))


def tamper(path: Path, *, break_link: bool) -> None:
    """Change a byte of a published file: of all its hard links, or of this name alone."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if break_link:
        path.unlink()
    else:
        path.chmod(0o644)
    path.write_bytes(content)
