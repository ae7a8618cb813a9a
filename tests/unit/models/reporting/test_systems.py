"""Names of systems, and the source that is also the target."""

from dataclasses import replace

from models.evaluation.scores import System, TableRow
from models.reporting.systems import system_names, without_twins

_ONE, _OTHER = System("profuser", "method", "scholar"), System("profuser", "method", "solver")
_SOURCE, _UNTRAINED = System("scholar", "source"), System("scholar", "untrained", "scholar")


def test_a_method_names_its_target_only_where_there_are_several() -> None:
    assert system_names([_SOURCE, _UNTRAINED, _ONE]) == {
        _SOURCE: "scholar",
        _UNTRAINED: "scholar (untrained)",
        _ONE: "profuser",
    }
    assert system_names([_ONE, _OTHER]) == {_ONE: "profuser → scholar", _OTHER: "profuser → solver"}


def test_the_source_that_is_the_target_is_shown_once() -> None:
    row = TableRow(_SOURCE, "all", "accuracy", 0.5, 0.4, 0.6, 10)
    twin, solver = replace(row, system=_UNTRAINED), replace(row, system=System("solver", "source"))
    assert without_twins([row, twin, solver]) == [twin, solver]
    assert without_twins([row, solver]) == [row, solver]
    # Other figures under the same name are no twin: nothing is hidden.
    assert without_twins([row, replace(twin, value=0.4)]) == [row, replace(twin, value=0.4)]
