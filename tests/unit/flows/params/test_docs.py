import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.params.docs import param_rows, params_table, render_params_markdown
from flows.params.file import LoadedParams, load_params
from flows.params.schema import iter_sections
from models.errors import ParamsError
from models.params.fusion import Phase
from models.params.teach import AdvantageParams

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def loaded() -> LoadedParams:
    return load_params(
        ROOT, profile="embedded", overrides=["fusion.lr=0.002", "fusion.schedules.mine=[{w_infer: 1, w_train: 0}]"]
    )


def text(loaded: LoadedParams, *, key: str | None = None, changed: bool = False) -> str:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(params_table(loaded, key=key, changed=changed))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_page_in_docs_is_up_to_date() -> None:
    """If this fails: `python -m flows params --write`."""
    assert (ROOT / "docs/params.md").read_text(encoding="utf-8") == render_params_markdown()


def test_markdown_explains_every_key() -> None:
    page = render_params_markdown()
    lines = page.splitlines()
    for section in iter_sections():
        for field in section.fields:
            (line,) = [x for x in _part(lines, section.key) if x.startswith(f"| `{field.name}` |")]
            assert field.description.replace("|", r"\|") in line
    assert r"| `mode` | `byte_exact` \| `min_edit_distance` | `\"byte_exact\"` |".replace(r"\"", '"') in page
    assert "| `lr` | number | `0.0005` | > 0 | Peak learning rate. |" in page
    assert page.count("| **required** |") >= 10
    assert page == render_params_markdown()


def _part(lines: list[str], key: str) -> list[str]:
    title = f"`{key}`" if key else "Top level"
    begin = next(i for i, line in enumerate(lines) if line.startswith("#") and line.endswith(f"# {title}"))
    end = next((i for i in range(begin + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    return lines[begin:end]


def test_rows_carry_value_default_and_origin(loaded: LoadedParams) -> None:
    rows = {row.key: row for row in param_rows(loaded)}
    lr = rows["fusion.lr"]
    assert (lr.value, lr.default, str(lr.origin), lr.changed) == ("0.002", "0.0005", "-S", True)
    beta = rows["fusion.temperature"]
    assert (beta.value, beta.origin, beta.changed) == ("1.0", None, False)
    assert rows["fusion.schedules.mine[0].w_infer"].value == "1.0"
    assert rows["sources.models[0].name"].origin is not None
    assert rows["sources.models[0].name"].origin.file == "params.yaml"
    assert "fusion.lora" in rows  # null: a row of its own


def test_changed_keeps_only_what_differs(loaded: LoadedParams) -> None:
    keys = {row.key for row in param_rows(loaded, changed=True)}
    assert "fusion.lr" in keys
    assert "fusion.beta" not in keys
    assert {row.key for row in param_rows(loaded, key="alignment", changed=True)} == set()
    assert text(loaded, key="alignment", changed=True) == "Nothing differs from the defaults.\n"


@pytest.mark.parametrize(
    ("key", "first", "number"),
    [
        ("teach.advantage", "teach.advantage.ce_unit", len(AdvantageParams.model_fields)),
        ("fusion.lr", "fusion.lr", 1),  # not fusion.lr_schedule
        ("fusion.schedules", "fusion.schedules.mine[0].w_infer", len(Phase.model_fields)),
        ("fusion.schedules.mine.0", "fusion.schedules.mine[0].w_infer", len(Phase.model_fields)),
        ("sources.models[1].pico.mix", "sources.models[1].pico.mix", 1),
        ("corpus.sets", "corpus.sets", 1),
    ],
)
def test_rows_below_a_key(loaded: LoadedParams, key: str, first: str, number: int) -> None:
    rows = param_rows(loaded, key=key)
    assert (rows[0].key, len(rows)) == (first, number)


def test_a_table_and_a_page(loaded: LoadedParams) -> None:
    table = text(loaded, key="sources.models[0]")
    assert "sources.models[0].trust_remote_code" in table  # brackets are text, not markup, and keys are not cut
    assert "params.yaml:" in table
    page = text(loaded, key="fusion.lr")
    assert page.splitlines()[:3] == ["fusion.lr", "Peak learning rate.", "value    0.002 "]
    assert "must be  > 0" in page


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("fusion.rl", r"`fusion\.rl` is not a known key\. Did you mean `fusion\.lr`\?"),
        ("top_k", r"Did you mean `teach\.signals\.top_k`\?"),
        ("a b", "must be a key such as"),
    ],
)
def test_unknown_keys_are_errors(loaded: LoadedParams, key: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        param_rows(loaded, key=key)


def test_no_password_is_shown() -> None:
    address = "postgresql://me:a/cAnArY@b cAnArY@host/db?sslpassword=cAnArY"
    shown = text(load_params(ROOT, profile="embedded", overrides=[f"tracking.uri={address!r}"]), key="tracking")
    assert "cAnArY" not in shown and "postgresql://***@host/db?sslpassword=***" in shown
