import math

import numpy as np
import pytest

from models.generation.similar_contexts import SimilarContexts

TEXTS = [("cheap food in the north",), ("a hotel,", "which area?", "the north"), ("a train to ely",), ()]


def by_hand(query: str, texts: list[str]) -> list[float]:
    docs = [t.split() for t in texts]
    mean = sum(map(len, docs)) / len(docs)
    total = []
    for doc in docs:
        score = 0.0
        for word in query.split():
            df = sum(word in d for d in docs)
            idf = math.log((len(docs) - df + 0.5) / (df + 0.5) + 1)
            tf = doc.count(word)
            score += idf * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * len(doc) / mean)) if tf else 0.0
        total.append(score)
    return total


def test_scores_are_those_of_bm25():
    similar = SimilarContexts(TEXTS)
    texts = ["cheap food in the north", "a hotel which area the north", "a train to ely", ""]
    assert similar.scores(("The NORTH, the north", "zebra")) == pytest.approx(by_hand("the north the north zebra", texts))
    assert len(similar) == 4


def test_unknown_words_and_no_contexts():
    assert SimilarContexts(TEXTS).scores(("zebra",)).tolist() == [0.0] * 4
    empty = SimilarContexts([])
    assert len(empty) == 0 and empty.scores(("a",)).shape == (0,)
    assert np.isfinite(SimilarContexts([(), ()]).scores(("a",))).all()
