import shlex
from pathlib import Path

from flows.context import StageContext
from flows.params_file import load_params
from flows.results_files import overrides

ROOT = Path(__file__).resolve().parents[3]


def context(*options: str) -> StageContext:
    return StageContext(root=ROOT, params=load_params(ROOT, profile="real-mwoz", overrides=options).params)


def test_a_profile_as_it_stands_needs_no_option():
    assert overrides(context()) == "" == overrides(context("runtime.threads=1", "tracking.log_every=9"))


def test_the_options_told_lead_to_the_same_params():
    given = ("variants=[none,prompt]", "retriever.warm_start.seed=2", "dialogue.joint.retriever_lr=1e-5", "dialogue.seed=2")
    made = context(*given)
    told = shlex.split(overrides(made))
    assert told[::2] == ["-S"] * 4 and told[1::2] != list(given)
    assert context(*told[1::2]).params == made.params
