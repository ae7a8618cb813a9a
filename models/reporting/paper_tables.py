"""Figures printed in the MK-TOD paper (Tables 1 and 2), for comparison with measured ones.

They are single runs with pre-trained T5 or gpt-3.5-turbo, BLEU by multi-bleu.perl, Recall@7 by value (that of gpt-3.5-turbo
belongs to the retriever trained with T5-base).
"""

from dataclasses import dataclass

PAPER = "MK-TOD, EMNLP 2023"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A printed row; None where the paper prints no figure.

    Attributes:
        system: As the paper names it.
        base: The generator.
        bleu: BLEU, multi-bleu.perl.
        entity_f1: Entity F1, percent.
        recall_value_7: Recall@7, percent.
        table: Table of the paper.
    """

    system: str
    base: str
    bleu: float
    entity_f1: float
    recall_value_7: float | None
    table: str


_Figures = tuple[float, float, float | None]

_LARGE_SCALE: dict[str, dict[tuple[str, str], _Figures]] = {
    "multiwoz": {
        ("Q-TOD", "T5-large"): (15.52, 46.74, 92.97),
        ("MAKER", "T5-base"): (16.25, 50.87, None),
        ("MK-TOD prefix", "T5-base"): (16.39, 50.35, 92.51),
        ("MK-TOD prompt", "T5-base"): (17.56, 50.69, 92.74),
        ("MK-TOD contrastive", "T5-base"): (15.96, 51.35, 92.74),
        ("MK-TOD prefix", "T5-large"): (16.69, 53.59, 92.93),
        ("MK-TOD prompt", "T5-large"): (17.15, 52.99, 94.42),
        ("MK-TOD contrastive", "T5-large"): (17.40, 53.26, 95.22),
        ("without meta knowledge", "gpt-3.5-turbo"): (6.79, 30.31, 92.74),
        ("MK-TOD prefix", "gpt-3.5-turbo"): (7.01, 30.69, 92.74),
        ("MK-TOD prompt", "gpt-3.5-turbo"): (7.31, 32.04, 92.74),
    },
    "camrest": {
        ("Q-TOD", "T5-large"): (21.44, 63.88, 95.52),
        ("MAKER", "T5-base"): (26.19, 72.09, None),
        ("MK-TOD prefix", "T5-base"): (25.23, 71.15, 94.35),
        ("MK-TOD prompt", "T5-base"): (26.69, 71.67, 92.24),
        ("MK-TOD contrastive", "T5-base"): (26.85, 73.51, 93.88),
        ("MK-TOD prefix", "T5-large"): (27.32, 72.77, 91.08),
        ("MK-TOD prompt", "T5-large"): (26.88, 72.92, 95.41),
        ("MK-TOD contrastive", "T5-large"): (27.82, 71.98, 95.38),
        ("without meta knowledge", "gpt-3.5-turbo"): (14.76, 52.92, 94.35),
        ("MK-TOD prefix", "gpt-3.5-turbo"): (14.51, 52.38, 94.35),
        ("MK-TOD prompt", "gpt-3.5-turbo"): (14.91, 53.58, 94.35),
    },
}
_CONDENSED: dict[str, dict[tuple[str, str], _Figures]] = {
    "multiwoz": {
        ("Q-TOD", "T5-large"): (17.62, 50.61, None),
        ("MK-TOD prefix", "T5-base"): (16.97, 51.99, None),
        ("MK-TOD prompt", "T5-base"): (17.05, 52.42, None),
        ("MK-TOD contrastive", "T5-base"): (17.33, 51.86, None),
        ("MK-TOD prefix", "T5-large"): (18.02, 53.13, None),
        ("MK-TOD prompt", "T5-large"): (16.66, 52.96, None),
        ("MK-TOD contrastive", "T5-large"): (17.55, 52.97, None),
        ("without meta knowledge", "gpt-3.5-turbo"): (7.47, 32.87, None),
        ("MK-TOD prefix", "gpt-3.5-turbo"): (7.22, 32.78, None),
        ("MK-TOD prompt", "gpt-3.5-turbo"): (7.58, 35.84, None),
    },
    "camrest": {
        ("Q-TOD", "T5-large"): (23.75, 74.22, None),
        ("MK-TOD prefix", "T5-base"): (26.39, 72.43, None),
        ("MK-TOD prompt", "T5-base"): (25.00, 72.09, None),
        ("MK-TOD contrastive", "T5-base"): (26.76, 73.60, None),
        ("MK-TOD prefix", "T5-large"): (25.68, 71.98, None),
        ("MK-TOD prompt", "T5-large"): (26.40, 72.80, None),
        ("MK-TOD contrastive", "T5-large"): (26.20, 71.72, None),
        ("without meta knowledge", "gpt-3.5-turbo"): (15.29, 54.71, None),
        ("MK-TOD prefix", "gpt-3.5-turbo"): (15.56, 54.96, None),
        ("MK-TOD prompt", "gpt-3.5-turbo"): (16.07, 56.83, None),
    },
    "smd": {
        ("Q-TOD", "T5-base"): (20.14, 68.22, None),
        ("Q-TOD", "T5-large"): (21.33, 71.11, None),
        ("MK-TOD prefix", "T5-base"): (23.96, 68.60, None),
        ("MK-TOD prompt", "T5-base"): (23.54, 68.28, None),
        ("MK-TOD contrastive", "T5-base"): (24.77, 67.86, None),
        ("MK-TOD prefix", "T5-large"): (24.97, 72.87, None),
        ("MK-TOD prompt", "T5-large"): (25.21, 73.04, None),
        ("MK-TOD contrastive", "T5-large"): (25.43, 73.31, None),
        ("without meta knowledge", "gpt-3.5-turbo"): (14.60, 58.11, None),
        ("MK-TOD prefix", "gpt-3.5-turbo"): (15.07, 58.41, None),
        ("MK-TOD prompt", "gpt-3.5-turbo"): (15.24, 59.72, None),
    },
}
_PRINTED = {"large_scale": ("Table 1", _LARGE_SCALE), "condensed": ("Table 2", _CONDENSED)}


def paper_rows(data_set: str, setting: str) -> tuple[PaperRow, ...]:
    """Return the printed rows of a data set (`dialogues.kind`) and setting; none where the paper has no such table."""
    table, printed = _PRINTED[setting]
    return tuple(
        PaperRow(system, base, bleu, f1, recall, table)
        for (system, base), (bleu, f1, recall) in printed.get(data_set, {}).items()
    )
