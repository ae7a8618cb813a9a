"""BLEU from sufficient statistics equals sacreBLEU's own."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU as SacreBleu

from models.evaluation.dialogue.metrics import BLEU, BLEU_MAKER, BLEU_VERSIONS, BleuVersion, split_punctuation

_RESPONSES = ["The Golden Wok is at 191 Histon Road, CB4 3HL.", "i don't know", "there are 3 cheap hotels in the north ."]
_REFERENCES = [
    "the golden wok is at 191 histon road , cb4 3hl .",
    "sorry , i have nothing .",
    "there are 4 cheap hotels in the north .",
]


@pytest.mark.parametrize("version", BLEU_VERSIONS, ids=lambda v: v.name)
def test_summed_statistics_give_the_corpus_score(version: BleuVersion) -> None:
    sums = np.sum([version.statistics(a, b) for a, b in zip(_RESPONSES, _REFERENCES, strict=True)], axis=0)
    texts = [[version.prepare(t) for t in side] for side in (_RESPONSES, _REFERENCES)]
    whole = SacreBleu(lowercase=True, tokenize=version.tokenize, smooth_method=version.smooth, force=True)
    assert sums.shape == (10,)
    assert float(version.score(sums)) == pytest.approx(whole.corpus_score(texts[0], [texts[1]]).score, abs=1e-9)
    assert 20 < float(version.score(sums)) < 80


@pytest.mark.parametrize("smooth", ["exp", "none"])
@pytest.mark.parametrize("statistics", [
    [5, 3, 0, 0, 9, 8, 7, 6, 9, 10],
    [5, 0, 0, 0, 9, 8, 7, 6, 9, 7],
    [2, 1, 0, 0, 2, 1, 0, 0, 2, 5],
    [0, 0, 0, 0, 9, 8, 7, 6, 9, 10],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
    [9, 8, 7, 6, 9, 8, 7, 6, 9, 9],
])  # fmt: skip
def test_scores_equal_sacrebleu_at_the_edges(smooth: str, statistics: list[int]) -> None:
    version = BLEU if smooth == "exp" else BLEU_MAKER
    expected = SacreBleu.compute_bleu(statistics[:4], statistics[4:8], statistics[8], statistics[9], smooth_method=smooth)
    assert float(version.score(np.array(statistics, dtype=np.float64))) == pytest.approx(expected.score, abs=1e-9)


def test_leading_axes_are_kept() -> None:
    rows = np.array([BLEU.statistics(a, b) for a, b in zip(_RESPONSES, _REFERENCES, strict=True)])
    many = BLEU.score(np.stack([rows.sum(axis=0), rows[0]]))
    assert many.shape == (2,)
    assert many[1] == pytest.approx(float(BLEU.score(rows[0])))


def test_the_signature_names_tokenisation_and_smoothing() -> None:
    assert "case:lc" in BLEU.signature and "tok:13a" in BLEU.signature and "smooth:exp" in BLEU.signature
    assert "tok:none" in BLEU_MAKER.signature and "smooth:none" in BLEU_MAKER.signature
    assert BLEU_MAKER.signature.endswith("|prepared:punctuation-split")


def test_punctuation_is_split_as_the_published_pipeline_does() -> None:
    assert split_punctuation(" It's £5,\tOK?") == "it ' s £5 , ok ?"
    # A response that differs from its reference only in spacing is a perfect one for this version, and not for 13a.
    same = ("yes, it doesn't.", "yes , it doesn ' t .")
    assert float(BLEU_MAKER.score(np.array(BLEU_MAKER.statistics(*same)))) == pytest.approx(100)
    assert float(BLEU.score(np.array(BLEU.statistics(*same)))) < 100
