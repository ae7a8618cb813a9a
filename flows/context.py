"""Context of a stage body: params, paths, and its MLflow run."""

import functools
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.params.file import Override, load_params
from models.errors import SourceError
from models.lm.source_file import SOURCE_FILE
from models.params.root import Params
from models.redaction import register_address
from tasks.artifact import Artifact, adopt, adopt_all
from tasks.secrets import guard_secrets
from tasks.tracking import StageRun, parent_run, tracking_uri
from tasks.workspace import project_root

SHARED_STAGES = ("prepare", "sources", "teach")
DIALOGUE_SECTIONS = ("variants", "dialogues", "retriever", "index", "dialogue", "dialogue_evaluation")


@dataclass(frozen=True)
class StageContext:
    """One execution of the pipeline or of a stage of it.

    Attributes:
        root: Project folder.
        params: All params.
        place: Folder below artifacts/ for all outputs, where they are not those of the profile.
        shared: Folder below artifacts/ for the outputs up to `teach`, where several executions have them in common.
        experiment: MLflow experiment of the stages' runs, where it is not that of their half.
    """

    root: Path
    params: Params
    place: str = ""
    shared: str = ""
    experiment: str = ""

    @classmethod
    def load(
        cls,
        *,
        profile: str | None = None,
        overrides: Sequence[str | Override] = (),
        place: str = "",
        experiment: str = "",
    ) -> "StageContext":
        """Read params.yaml, profile and overrides of the present project.

        Raises:
            ParamsError: With every finding.
        """
        guard_secrets()
        root = project_root()
        params = load_params(root, profile=profile, overrides=overrides).params
        for address in (params.tracking.uri or "", *params.runtime.endpoints.values()):
            register_address(address)
        return cls(root=root, params=params, place=place, experiment=experiment)

    def out(self, stage: str, *parts: str) -> Path:
        """Return the DVC out of a stage, or a place in it."""
        shared = self.shared if stage in SHARED_STAGES else ""
        return self.root.joinpath("artifacts", shared or self.place or self.params.profile, stage, *parts)

    def reports(self) -> Path:
        """Return the folder of small git-versioned figures."""
        folder = self.out("reports") if self.place else self.root / "reports" / self.params.profile
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def input(self, stage: str, *parts: str) -> Artifact:
        """Return an upstream artifact, verified."""
        found = adopt(self.out(stage, *parts), stage=f"{stage} --profile {self.params.profile}")
        if stage in ("sources", "fuse"):
            self._refuse_code(found, parts)
        return found

    def inputs(self, stage: str, *parts: str) -> dict[str, Artifact]:
        """Return all artifacts below an upstream folder by relative path, verified."""
        return adopt_all(self.out(stage, *parts), stage=f"{stage} --profile {self.params.profile}")

    def _refuse_code(self, model: Artifact, parts: Sequence[str]) -> None:
        """Refuse a model whose record asks for its repository's own code, unless the params trust that very model.

        Records travel (a DVC remote, a colleague's archive): they may say what a model is, but not what may run here.
        """
        records = [json.loads(path.read_bytes()) for path in sorted(model.path.rglob(SOURCE_FILE))]
        asking = [record for record in records if record.get("trust_remote_code")]
        spec = next((s for s in self.params.sources.models if s.name == parts[-1] and parts[0] != "reward_models"), None)
        if not asking or (spec is not None and spec.trust_remote_code):
            return
        raise SourceError(
            f"`sources.models[{parts[-1]}].trust_remote_code` must be true for a model that runs its repository's own code, but "
            f"is not, while the record of artifacts/{self.params.profile}/{'/'.join(parts)} says so. "
            "Run the `sources` stage again, or set it if you trust that code."
        )

    def run(self, name: str, *, experiment: str = "fusion") -> StageRun:
        """Return the address of the MLflow run of this stage."""
        return StageRun(
            uri=tracking_uri(self.params.tracking),
            experiment=self.experiment or experiment,
            parent_id=self.parent(experiment),
            name=name,
            progress=self.params.runtime.progress,
            log_every=self.params.tracking.log_every,
        )

    def parent(self, experiment: str = "fusion") -> str:
        """Find or create the run of this pipeline execution: same params and commit, same run."""
        return _parent(self, experiment)

    @functools.cached_property
    def digest(self) -> str:
        """Identity of the params that decide results (execution choices left out)."""
        return self._identity(())

    def digest_of(self, experiment: str) -> str:
        """Return the identity of the params that decide the results of one experiment: `fusion` knows no dialogues."""
        return self._identity(DIALOGUE_SECTIONS if experiment == "fusion" else ())

    def _identity(self, without: Sequence[str]) -> str:
        kept = self.params.model_dump(mode="json", exclude={"runtime", "tracking", "planning", *without})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


# Reports and tables of figures, which a run writes itself, and documents: they decide no result.
_WRITTEN_BY_RUNS = (":(exclude,top)reports", ":(exclude,top)docs", ":(exclude,top,glob)*.md")


@functools.lru_cache
def git_commit(root: Path) -> str:
    """Return the commit, with `+` behind it where tracked files differ that decide results; `none` outside a repository."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", ".", *_WRITTEN_BY_RUNS],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return commit + ("+" if dirty else "")


_parents: dict[tuple[str, str], str] = {}


def _parent(ctx: StageContext, experiment: str) -> str:
    commit = git_commit(ctx.root)
    digest = ctx.digest_of(experiment)
    key = hashlib.sha256(f"{digest}:{commit}".encode()).hexdigest()[:32]
    place = ctx.experiment or experiment
    if (key, place) not in _parents:
        params = ctx.params.model_dump(mode="json")
        _parents[(key, place)] = parent_run(
            ctx.params.tracking,
            experiment=place,
            name=f"{ctx.place.replace('/', '-') or ctx.params.profile}-{digest[:6]}",
            key=key,
            params=params,
            tags={"git.commit": commit, "fusedial.profile": ctx.params.profile, "fusedial.params": digest},
            note=f"{_about(ctx, experiment)} (profile {ctx.params.profile}).",
        )
    return _parents[(key, place)]


def _about(ctx: StageContext, experiment: str) -> str:
    params = ctx.params
    if experiment == "fusion":
        return f"Fusion of {', '.join(s.name for s in params.sources.models)} by {', '.join(params.methods)}"
    return f"Dialogue agent on {params.dialogues.kind} ({params.dialogues.setting}): {', '.join(params.variants)}"
