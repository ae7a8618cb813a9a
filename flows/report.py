"""Stage `report`: the result pages of both halves."""

from prefect import flow

from flows.context import StageContext
from flows.report_dialogue import report_dialogue
from flows.report_fusion import report_fusion
from flows.stages import HALVES, Half


def report_stage(ctx: StageContext, *, halves: tuple[Half, ...] = HALVES) -> None:
    """Write artifacts/<profile>/report/fusion and report/dialogue, and the tables of `dvc plots`."""
    if "fusion" in halves:
        report_fusion(ctx)
    if "dialogue" in halves:
        report_dialogue(ctx)


@flow(name="report")
def report(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Write the result pages of a profile."""
    report_stage(StageContext.load(profile=profile, overrides=overrides or ()))
