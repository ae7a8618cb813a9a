"""The printed figures."""

import pytest

from models.reporting.paper_tables import paper_rows


def _row(data_set: str, setting: str, system: str, base: str) -> tuple[float, float, float | None, str]:
    found = [r for r in paper_rows(data_set, setting) if (r.system, r.base) == (system, base)]
    assert len(found) == 1
    return found[0].bleu, found[0].entity_f1, found[0].recall_value_7, found[0].table


@pytest.mark.parametrize(("key", "printed"), [
    (("multiwoz", "large_scale", "MK-TOD prompt", "T5-base"), (17.56, 50.69, 92.74, "Table 1")),
    (("camrest", "large_scale", "MK-TOD contrastive", "T5-large"), (27.82, 71.98, 95.38, "Table 1")),
    (("smd", "condensed", "MK-TOD contrastive", "T5-large"), (25.43, 73.31, None, "Table 2")),
    (("multiwoz", "condensed", "MK-TOD prompt", "gpt-3.5-turbo"), (7.58, 35.84, None, "Table 2")),
])  # fmt: skip
def test_printed_figures(key: tuple[str, str, str, str], printed: tuple[float, float, float | None, str]) -> None:
    assert _row(*key) == printed


def test_no_table_no_rows() -> None:
    assert paper_rows("smd", "large_scale") == () == paper_rows("embedded", "large_scale")
    assert [len(paper_rows(d, "condensed")) for d in ("multiwoz", "camrest", "smd")] == [10, 10, 11]
