"""Plans of ablations (`profiles/ablations/*.yaml`): regimes × arms × seeds, and what is compared."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from models.params.base import MAX_SEED, Name, Section

UNTRAINED, BEST_SOURCE = "untrained", "best_source"
BASELINES = (UNTRAINED, BEST_SOURCE)
"""What every run scores next to its arm; comparisons may name them like arms."""

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]
Settings = dict[str, Any]
"""Dotted param → value."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Regime(Section):
    """A situation in which the arms are compared: data and sources."""

    profile: Name = Field(description="Profile it stands on.")
    set: Settings = Field(default_factory=dict, description="Params over the profile: dotted key → value.")


class Arm(Section):
    """One way to fuse."""

    method: str = Field(description="Preset, or name of `fusion.schedules`.")
    set: Settings = Field(default_factory=dict, description="Params over the regime's: dotted key → value.")
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="Some of the plan's seeds; null = all.")
    regimes: tuple[str, ...] | None = Field(None, min_length=1, description="Some of the plan's regimes; null = all.")
    grid: dict[str, tuple[Any, ...]] | None = Field(
        None, description="Values to choose from on the validation split: dotted key → values; null = the plan's `grid`."
    )


class AblationPlan(Section):
    """Every arm in every regime with every seed, as one run of the fusion half each."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)] = Field(
        description="Outputs go to `artifacts/ablation-<name>/`, figures to `docs/results/ablation-<name>.json`."
    )
    seeds: tuple[Seed, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="Seeds; differences are paired by them.")
    vary: tuple[str, ...] = Field(
        ("corpus.world.seed", "fusion.seed"), min_length=1, description="Params that get the seed as their value."
    )
    set: Settings = Field(default_factory=dict, description="Params of all regimes and arms: dotted key → value.")
    regimes: dict[Label, Regime] = Field(min_length=1, description="Regimes by name.")
    arms: dict[Label, Arm] = Field(min_length=1, description="Arms by name.")
    compare: tuple[tuple[str, str], ...] = Field(
        (), description=f"Pairs [a, b]: a − b in every regime that has both. Names of arms, `{UNTRAINED}`, `{BEST_SOURCE}`."
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="Values every arm may choose from, in each regime, with the arm's first seed: dotted key → values.",
    )
    choose_by: Literal["accuracy", "bits_per_byte", "reward"] = Field(
        "accuracy",
        description="Figure on the validation split by which `grid` is decided; accuracy and bits per byte break ties. `reward`: "
        "the mean of the scorers that see no ground truth.",
    )
    seconds_per_run: float | None = Field(None, gt=0, description="Estimate of one run, until some are measured; null = unknown.")

    @model_validator(mode="after")
    def _names_are_known(self) -> "AblationPlan":
        faults = [*_twice("seeds", self.seeds), *_twice("vary", self.vary)]
        taken = [name for name in BASELINES if name in self.arms]
        faults += [f"`arms.{name}` must have another name: every run scores `{name}` anyway" for name in taken]
        for name, arm in self.arms.items():
            faults += _outside(f"arms.{name}.seeds", arm.seeds or (), self.seeds, "seeds")
            faults += _outside(f"arms.{name}.regimes", arm.regimes or (), tuple(self.regimes), "regimes")
            faults += _twice(f"arms.{name}.seeds", arm.seeds or ())
        for where, grid in (("grid", self.grid), *((f"arms.{name}.grid", arm.grid or {}) for name, arm in self.arms.items())):
            faults += [f"`{where}` must give at least one value for `{key}`" for key, values in grid.items() if not values]
        known = (*self.arms, *BASELINES)
        for i, pair in enumerate(self.compare):
            faults += _outside(f"compare[{i}]", pair, known, "arms")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Return the seeds of an arm."""
        return self.arms[arm].seeds or self.seeds

    def grid_of(self, arm: str) -> Mapping[str, tuple[Any, ...]]:
        """Return what an arm chooses from; empty where nothing is to be chosen."""
        own = self.arms[arm].grid
        return self.grid if own is None else own

    def runs_in(self, arm: str, regime: str) -> bool:
        """Whether an arm takes part in a regime."""
        return regime in (self.arms[arm].regimes or self.regimes)


def _outside(where: str, names: Iterable[object], known: tuple[object, ...], of: str) -> list[str]:
    strange = [name for name in names if name not in known]
    return [f"`{where}` must be among `{of}` ({', '.join(map(str, known))}), but has {strange}"] if strange else []


def _twice(where: str, values: tuple[object, ...]) -> list[str]:
    again = sorted({str(value) for value in values if values.count(value) > 1})
    return [f"`{where}` must be distinct, but has {again}"] if again else []
