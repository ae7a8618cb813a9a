"""Streaming an array gives what reading it whole gives, wherever the blocks end."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.corpus import rows as json_array
from models.corpus.rows import read_array

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([1.5e300, 12, -7.25e-9, 1], 1, None, True)
@given(st.lists(JSON, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_any_array_is_read_whatever_the_block(
    tmp_path: Path, rows: list[Any], block: int, indent: int | None, ascii: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(rows, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))
    with patch.object(json_array, "_BLOCK", block):
        assert [row for _, row in read_array(path)] == rows
