"""Which methods are worth trying on some data, and why the others are not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.params.fusion import FusionParams, Phase

PAPER_REPLAY, FULL_REPLAY = 0.1, 1.0
# So many winners must be checked before a share of right ones says something.
_ENOUGH_CHECKED = 30
# Modes that name the same winner as often as this, and ground truths that are not longer than this many answers: what phase 1
# teaches is what phase 2 teaches, so that replay has nothing to preserve.
_SAME_WINNER, _SAME_LENGTH = 0.95, 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the data once the sources have answered a part of it.

    Attributes:
        num_sources: Sources.
        num_truths: Training prompts with a ground truth, in the pilot.
        num_prompts_only: Training prompts without one, in the pilot.
        num_winners: Prompts of the pilot with a winner in inference mode.
        agreement: Share of prompts on which both modes name the same winner; None where no prompt has two.
        num_checked: Winners that a check judges.
        num_right: Those of them that are right.
        chance: Share of prompts with a check that a source drawn at random answers rightly; None without such prompts.
        length_ratio: Mean bytes of a ground truth over those of the sources' answers to the same prompts; None without any.
    """

    num_sources: int
    num_truths: int
    num_prompts_only: int
    num_winners: int
    agreement: float | None = None
    num_checked: int = 0
    num_right: int = 0
    chance: float | None = None
    length_ratio: float | None = None

    @property
    def right_share(self) -> float | None:
        """Share of right winners, where enough can be checked."""
        return self.num_right / self.num_checked if self.num_checked >= _ENOUGH_CHECKED else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to fuse.

    Attributes:
        name: What it is called: the method, with what is particular about it.
        method: Preset, or name of a schedule.
        settings: Dotted param → value.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """How tables call it: `profuser, replay 0.1`."""
        return ", ".join([self.method, *(f"{key.rpartition('.')[2]} {value:g}" for key, value in self.settings.items())])


def candidates(facts: Facts, cfg: FusionParams, methods: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """Return the candidates and, for each method that is left out, a sentence on why.

    Args:
        facts: The data.
        cfg: Section `fusion`: own schedules, and a value of `replay` to be tried as well.
        methods: `methods` of the profile; its own schedules among them are candidates.
    """
    found: list[Candidate] = []
    left_out: list[str] = []
    taught, trusted = bool(facts.num_truths), _winners_count(facts, left_out)
    if taught:
        found.append(Candidate("sft", "sft"))
        if facts.num_sources > 1:
            found.append(Candidate("fusellm", "fusellm"))
        else:
            left_out.append("`fusellm`: there is one source alone.")
    else:
        left_out.append("`sft`, `fusellm`, `profuser`: the pilot has no ground truths.")
    if trusted:
        found.append(Candidate("inference_only", "inference_only"))
    if taught and trusted:
        for replay in _replays(facts, cfg):
            name = f"profuser_replay_{replay:g}".replace(".", "_")
            found.append(Candidate(name, "profuser", {"fusion.replay": replay}))
        if FULL_REPLAY not in _replays(facts, cfg):
            left_out.append(
                f"`profuser` with `fusion.replay` {FULL_REPLAY:g}: both modes name the same winners, whose answers are about as "
                "long as the ground truths, so that there is little to preserve."
            )
    for name in (name for name in methods if name in cfg.schedules):
        if _has_samples(cfg.schedules[name], facts):
            found.append(Candidate(name, name))
        else:
            left_out.append(f"`{name}`: it has a phase that the pilot has no ground truths or no winners for.")
    return found, left_out


def _has_samples(phases: Sequence[Phase], facts: Facts) -> bool:
    """Say whether there is something to train on in every mode that a schedule has."""
    truths, winners = any(p.w_train for p in phases), any(p.w_infer for p in phases)
    return bool((facts.num_truths or not truths) and (facts.num_winners or not winners))


def _winners_count(facts: Facts, left_out: list[str]) -> bool:
    """Say whether winners of inference mode are worth training on; if not, note why."""
    names = "`inference_only`, `profuser`"
    if facts.num_sources < 2:
        left_out.append(f"{names}: there is one source alone, so nothing is fused.")
    elif not facts.num_winners:
        left_out.append(f"{names}: no prompt has a winner in inference mode.")
    elif facts.right_share is not None and facts.chance is not None and facts.right_share <= facts.chance:
        left_out.append(
            f"{names}: {100 * facts.right_share:.0f} % of the winners are right, no more than a source drawn at random "
            f"({100 * facts.chance:.0f} %). Look at `teach.rewards.scorers`."
        )
    else:
        return True
    return False


def _replays(facts: Facts, cfg: FusionParams) -> list[float]:
    """Return the values of `fusion.replay` to try, the paper's first."""
    same = facts.agreement is not None and facts.agreement >= _SAME_WINNER
    short = facts.length_ratio is None or facts.length_ratio < _SAME_LENGTH
    little_to_preserve = same and short and not facts.num_prompts_only
    return list(dict.fromkeys([PAPER_REPLAY, *(() if little_to_preserve else (FULL_REPLAY,)), cfg.replay]))
