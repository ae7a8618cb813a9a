"""Grids of what was learnt about the sources: wins, agreement of the two modes, alignment coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.reporting.formatting import fixed, format_share
from models.reporting.grids import Cell, Grid

MODES = ("training", "inference")


def win_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Return family and mode × source: share of wins and their number; the most of a line marked."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    lines: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["family"], row["mode"]), {})[row["source"]] = row
    body = []
    for (family, mode), line in lines.items():
        most = max(row["wins"] for row in line.values())
        figures = [Cell(format_share(r["share"]), f"{r['wins']:,}", "best" if r["wins"] == most else "") for r in line.values()]
        body.append((Cell(family), Cell(f"{mode} mode"), *figures, Cell(f"{next(iter(line.values()))['num_examples']:,}")))
    return Grid("wins per source", ("family", "mode", *sources, "examples"), tuple(body), num_text=2)


def agreement_grid(agreement: Mapping[str, Any]) -> Grid:
    """Return family × share of the examples that the same source wins in both modes."""
    rows = [("all", agreement["overall"]), *agreement["by_family"].items()]
    body = tuple(
        (Cell(name), Cell(_share(row["share"])), Cell(f"{row['agreeing']:,}"), Cell(f"{row['num_examples']:,}"))
        for name, row in rows
    )
    return Grid("same winner in both modes", ("family", "share", "agreeing", "examples"), body)


def pair_grid(agreement: Mapping[str, Any]) -> Grid:
    """Return ordered pair × share of the examples where the first beats the second, per mode, and the change between them."""
    body = tuple(
        (
            Cell(f"{row['a']} beats {row['b']}"),
            *(Cell(_share(row[f"{mode}_share"]), _ties(row[f"{mode}_tie_share"])) for mode in MODES),
            Cell(_change(row)),
        )
        for row in agreement["pairwise"]
    )
    return Grid("one source against another", ("pair", "training mode", "inference mode", "change, points"), body)


def coverage_shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Split the target's positions (`models.tokenization.alignment.Coverage.as_dict`) into shares that add up to 1."""
    total = max(counts["num_positions"], 1)
    shares = {part: counts[f"num_{part}"] / total for part in ("aligned", "fallback", "lossy")}
    return shares | {"none": max(0.0, 1 - sum(shares.values()))}


def coverage_grid(coverage: Mapping[str, Mapping[str, float]]) -> Grid:
    """Return source × what became of the target's positions it was to teach, and how many of its texts have no end."""
    body = tuple(
        (
            Cell(source),
            *(Cell(f"{100 * share:.1f} %") for share in coverage_shares(counts).values()),
            Cell(f"{counts['num_positions']:,.0f}"),
            Cell(f"{counts.get('num_cut', 0):,.0f}"),
        )
        for source, counts in coverage.items()
    )
    header = ("source", "taught by the source", "one-hot on the next token", "lossy", "no teacher", "positions", "cut texts")
    return Grid("alignment coverage", header, body)


def agreement_sentence(agreement: Mapping[str, Any]) -> str:
    """Say the paper's observation in this run's figures: the pair whose win rates differ most between the modes.

    Returns an empty string if no pair was compared in both modes.
    """
    pairs = [row for row in agreement["pairwise"] if None not in (row["training_share"], row["inference_share"])]
    if not pairs:
        return ""
    row = max(pairs, key=lambda r: r["training_share"] - r["inference_share"])
    training, inference = (format_share(row[f"{mode}_share"]) for mode in MODES)
    return (
        f"{row['a']} beats {row['b']} on {training} of the examples in training mode and on {inference} in inference mode. "
        f"Both modes name the same winner on {_share(agreement['overall']['share'])} of the examples."
    )


def _share(share: float | None) -> str:
    return "–" if share is None else format_share(share)


def _ties(share: float | None) -> str:
    return f"{format_share(share)} ties" if share else ""


def _change(row: Mapping[str, Any]) -> str:
    if row["training_share"] is None or row["inference_share"] is None:
        return "–"
    return fixed(100 * (row["inference_share"] - row["training_share"]), 0, signed=True)
