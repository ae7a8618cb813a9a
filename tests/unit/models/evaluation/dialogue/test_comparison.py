"""The results table of the dialogue half, and its paired differences over dialogues."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from models.errors import ArtifactError, DataError
from models.evaluation.bootstrap import Resampling, ratio_interval, resample_sums
from models.evaluation.dialogue.comparison import DialoguePair, aggregate, claim_pairs, paired, read_columns
from models.evaluation.dialogue.metrics import BLEU, higher_is_better, list_metrics
from models.evaluation.dialogue.scores import DialogueComparison, DialogueRow, DialogueTableRow, Retrieved, read_rows, write_rows
from models.evaluation.dialogue.system import DialogueSystem

_HOW = Resampling(samples=300, seed=4)
_NONE, _PROMPT = DialogueSystem("none", "variant", "none"), DialogueSystem("prompt", "variant", "prompt")
_WARM, _BM25 = DialogueSystem("warm_start", "warm_start"), DialogueSystem("bm25", "floor")
_UNTOLD, _TOLD = (DialogueSystem("fused", "in_context", meta, "prompt") for meta in ("none", "prompt"))


def _rows(rate: float, *, seed: int, speaks: bool = True, num: int = 30) -> list[DialogueRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(num):
        for t in range(1 + d % 3):
            hit = float(rng.random() < rate)
            statistics: dict[str, tuple[float, ...]] = {"recall_value@1": (hit, 1.0), "mrr": (hit, 1.0)}
            if speaks:
                response = "a b c d e" if hit else "a x y z"
                statistics["bleu"] = BLEU.statistics(response, "a b c d e")
                statistics["entity_f1"] = (hit, 1 - hit, 1 - hit)
                statistics["hallucination"] = (1 - hit, 2.0)
            rows.append(
                DialogueRow(
                    f"{d}#{t}", f"{d}", "hotel" if d % 2 else "restaurant", "response", has_gold=t == 0, first_mention=t == 1,
                    retrieved=(Retrieved("r1", 0.5, "top"),), reference="a b c d e", response="a" if speaks else None,
                    statistics=statistics,
                )
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def scores() -> dict[DialogueSystem, list[DialogueRow]]:
    return {
        _NONE: _rows(0.4, seed=1),
        _PROMPT: _rows(0.9, seed=2),
        _WARM: _rows(0.5, seed=3, speaks=False),
        _BM25: _rows(0.3, seed=5, speaks=False),
    }


def test_table_values_and_denominators(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    table = {(r.system, r.domain, r.metric): r for r in aggregate(scores, resampling=_HOW, notes={"bleu": "signed"})}
    rows = scores[_PROMPT]
    hits = [r.statistics["mrr"][0] for r in rows]
    assert table[_PROMPT, "all", "mrr"].value == pytest.approx(np.mean(hits))
    assert table[_PROMPT, "all", "mrr"].num == 60 == len(rows)
    assert table[_PROMPT, "hotel", "mrr"].num == sum(r.domain == "hotel" for r in rows)
    assert table[_PROMPT, "all", "first_mrr"].value == pytest.approx(
        np.mean([h for h, r in zip(hits, rows, strict=True) if r.first_mention])
    )
    assert table[_PROMPT, "all", "hallucination"].num == 120
    ungrounded = [r.statistics["hallucination"] for r in rows if not r.has_gold]
    assert table[_PROMPT, "all", "hallucination_no_gold"].value == pytest.approx(
        sum(a for a, _ in ungrounded) / (2 * len(ungrounded))
    )
    true, false, missed = np.sum([r.statistics["entity_f1"] for r in rows], axis=0)
    assert table[_PROMPT, "all", "entity_f1"].value == pytest.approx(2 * true / (2 * true + false + missed))
    assert table[_PROMPT, "all", "entity_precision"].value == pytest.approx(true / (true + false))
    assert table[_PROMPT, "all", "bleu"].value == pytest.approx(
        float(BLEU.score(np.sum([r.statistics["bleu"] for r in rows], axis=0)))
    )
    assert {(r.note, r.metric == "bleu") for r in table.values()} == {("signed", True), ("", False)}
    assert (_WARM, "all", "bleu") not in table and (_WARM, "all", "mrr") in table


def test_whole_dialogues_are_resampled(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    rows = scores[_NONE]
    got = next(r for r in aggregate({_NONE: rows}, resampling=_HOW) if (r.metric, r.domain) == ("mrr", "all"))
    names = sorted({r.dialogue for r in rows})
    hits = [sum(r.statistics["mrr"][0] for r in rows if r.dialogue == d) for d in names]
    sizes = [sum(r.dialogue == d for r in rows) for d in names]
    expected = ratio_interval(hits, sizes, resampling=_HOW)
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_turns_that_always_agree_within_a_dialogue_widen_the_interval() -> None:
    tied = [replace(row, statistics={"mrr": (float(int(row.dialogue) % 2), 1.0)}) for row in _rows(0.5, seed=7, num=8)]
    clustered, single = (
        next(r for r in aggregate({_NONE: rows}, resampling=_HOW) if r.metric == "mrr" and r.domain == "all")
        for rows in (tied, [replace(row, dialogue=row.id) for row in tied])
    )
    assert clustered.high - clustered.low > single.high - single.low


def test_differences_equal_those_of_the_table(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    table = {(r.system, r.domain, r.metric): r.value for r in aggregate(scores, resampling=_HOW)}
    found = paired(scores, claim_pairs(list(scores)), resampling=_HOW)
    for row in found:
        assert row.value == pytest.approx(table[row.a, row.domain, row.metric] - table[row.b, row.domain, row.metric])
        assert row.low <= row.value <= row.high
    by = {(r.a.name, r.b.name, r.domain, r.metric): r for r in found}
    assert by["prompt", "none", "all", "entity_f1"].verdict == "better"
    assert by["prompt", "none", "all", "hallucination"].verdict == "better"
    assert by["prompt", "none", "all", "hallucination"].value < 0
    assert by["prompt", "none", "all", "mrr"].p <= 0.01
    assert by["prompt", "none", "all", "mrr"].num_dialogues == 30
    assert not any(r.metric == "bleu" for r in found if r.b in (_WARM, _BM25))


def test_a_system_against_itself_is_unclear(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    twin = DialogueSystem("twin", "variant", "none")
    rows = paired({**scores, twin: scores[_NONE]}, [DialoguePair(twin, _NONE, "same")], resampling=_HOW)
    assert {(r.value, r.low, r.high, r.p, r.verdict) for r in rows} == {(0.0, 0.0, 0.0, 1.0, "unclear")}


def test_claims(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    pairs = claim_pairs([*scores, _UNTOLD, _TOLD, DialogueSystem("null", "response_floor")])
    assert [(p.a.label, p.b.label, p.claim, p.part) for p in pairs] == [
        ("prompt", "none", "meta knowledge", "all"),
        ("none", "warm start", "joint training", "retrieval"),
        ("prompt", "warm start", "joint training", "retrieval"),
        ("none", "BM25", "floor", "retrieval"),
        ("prompt", "BM25", "floor", "retrieval"),
        ("warm start", "BM25", "floor", "retrieval"),
        *((one, "constant answer", "response floor", "responses") for one in ("none", "prompt", "fused, none", "fused + prompt")),
        ("fused + prompt", "fused, none", "meta knowledge in context", "responses"),
    ]


def test_fewer_turns_are_compared_on_those_in_common(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    some = {**scores, _TOLD: _rows(0.8, seed=8)[:20]}
    table = {(r.system, r.metric): r.num for r in aggregate(some, resampling=_HOW) if r.domain == "all"}
    assert (table[_TOLD, "mrr"], table[_NONE, "mrr"]) == (20, 60)
    (row,) = (
        r for r in paired(some, [DialoguePair(_TOLD, _NONE, "x")], resampling=_HOW) if (r.metric, r.domain) == ("mrr", "all")
    )
    expected = np.mean(
        [a.statistics["mrr"][0] - b.statistics["mrr"][0] for a, b in zip(some[_TOLD], scores[_NONE], strict=False)]
    )
    assert (row.num, row.value) == (20, pytest.approx(expected))


def test_api_turns_count_on_request() -> None:
    rows = _rows(0.5, seed=1)
    rows[0] = replace(rows[0], kind="api_call")
    num = {flag: next(iter(aggregate({_NONE: rows}, resampling=_HOW, count_api=flag))).num for flag in (False, True)}
    assert num == {False: 59, True: 60}


def test_bad_scores_are_named(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    with pytest.raises(DataError, match="must be among the scored ones"):
        paired(scores, [DialoguePair(_TOLD, _NONE, "x")])
    with pytest.raises(DataError, match="at least one turn"):
        aggregate({_NONE: []})
    with pytest.raises(DataError, match="every turn once"):
        aggregate({_NONE: scores[_NONE][:1] * 2})
    with pytest.raises(DataError, match="must have a turn in common"):
        paired({_NONE: scores[_NONE][:3], _PROMPT: scores[_PROMPT][3:]}, [DialoguePair(_PROMPT, _NONE, "x")])
    with pytest.raises(DataError, match="must hold a system"):
        aggregate({})


def test_rows_survive_their_file(scores: dict[DialogueSystem, list[DialogueRow]], tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, scores[_PROMPT]) == 60
    assert list(read_rows(path)) == scores[_PROMPT]
    path.write_text('{"id": "x"}\n')
    with pytest.raises(ArtifactError, match="line 1 is no row of dialogue scores"):
        list(read_rows(path))


def test_table_and_comparisons_survive_json(scores: dict[DialogueSystem, list[DialogueRow]]) -> None:
    row = aggregate(scores, resampling=_HOW, notes={"bleu": "n"})[0]
    assert DialogueTableRow.from_json(row.to_json()) == row
    assert {"system", "kind", "domain", "metric", "value", "low", "high", "n", "note"} <= set(row.to_json())
    pair = paired(scores, claim_pairs(list(scores)), resampling=_HOW)[0]
    assert DialogueComparison.from_json(pair.to_json()) == pair


def test_metrics_in_the_order_of_tables() -> None:
    names = [m.name for m in list_metrics(["mrr", "recall_id@7", "recall_value@10", "recall_value@3", "entity_f1", "bleu"])]
    assert names[:4] == ["bleu", "entity_f1", "entity_precision", "entity_recall"]
    assert names[4:8] == ["recall_value@3", "recall_value@10", "recall_id@7", "mrr"]
    assert names[8] == "first_recall_value@3"
    assert [m.name for m in list_metrics(["mrr", "bleu"]) if m.is_retrieval] == ["mrr", "first_mrr"]
    assert higher_is_better("bleu") and not higher_is_better("hallucination_no_gold")


def plain_figures(rows: list[DialogueRow], metrics, how: Resampling) -> dict[str, tuple[float, float, float]]:
    """Sum every statistic row by row, as if all rows were held."""
    dialogues = {name: at for at, name in enumerate(sorted({row.dialogue for row in rows}))}
    blocks = []
    for metric in metrics:
        keep = {"": lambda r: True, "first_mention": lambda r: r.first_mention, "no_gold": lambda r: not r.has_gold}[metric.only]
        counted = [row for row in rows if metric.statistic in row.statistics and keep(row)]
        values = np.array([row.statistics[metric.statistic] for row in counted])
        sums = np.zeros((len(dialogues), values.shape[1]))
        np.add.at(sums, [dialogues[row.dialogue] for row in counted], values)
        blocks.append(sums)
    draws = resample_sums(np.concatenate(blocks, axis=1), resampling=how)
    parts = np.split(draws, np.cumsum([b.shape[1] for b in blocks])[:-1], axis=1)
    figures = {}
    for metric, sums, mine in zip(metrics, blocks, parts, strict=True):
        low, high = np.nanquantile(metric.value(mine), [(1 - 0.95) / 2, (1 + 0.95) / 2])
        figures[metric.name] = (float(metric.value(sums.sum(axis=0))), float(low), float(high))
    return figures


@pytest.mark.parametrize("domain", ["all", "hotel"])
def test_columns_give_what_rows_gave_to_the_last_bit(tmp_path, domain: str) -> None:
    rows = _rows(0.6, seed=7)
    for i in range(0, len(rows), 3):  # some turns lack a statistic
        rows[i] = replace(rows[i], statistics={k: v for k, v in rows[i].statistics.items() if k != "bleu"})
    write_rows(tmp_path / "rows.jsonl", rows)
    columns = read_columns({_PROMPT: read_rows(tmp_path / "rows.jsonl")})
    table = {r.metric: (r.value, r.low, r.high) for r in aggregate(columns, resampling=_HOW) if r.domain == domain}
    mine = [row for row in rows if domain in ("all", row.domain)]
    assert table == plain_figures(mine, list_metrics(rows[1].statistics), _HOW)


def test_columns_take_a_small_part_of_the_rows_memory(tmp_path) -> None:
    seen = tuple(Retrieved(f"e{j}", j / 7, f"the top-{j} entity, with high confidence") for j in range(7))
    file = tmp_path / "rows.jsonl"
    write_rows(file, (replace(row, retrieved=seen, response=f"a response to {row.id}") for row in _rows(0.5, seed=1, num=200)))

    def held(make) -> int:
        tracemalloc.start()
        kept = make()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept
        return size

    assert held(lambda: read_columns({_PROMPT: read_rows(file)})) < held(lambda: list(read_rows(file))) / 6
