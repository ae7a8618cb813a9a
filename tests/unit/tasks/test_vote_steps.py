"""From answers to winners through the cached steps: voters of four kinds, their quality, a calibrated gate, the summary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.corpus.examples import ANSWERS, read_json_lines, write_examples, write_json_lines, write_responses
from models.fusion.shard_advantage import GROUND_TRUTH, RESPONSE, read_advantages, score_row
from models.params.corpus import WorldParams
from models.params.runtime import Runtime
from models.params.teach import AdvantageParams, RewardParams
from models.schema import Example, Message, Response, SourceScore
from tasks.advantage import advantage, advantage_summary, scorer_quality
from tasks.artifact import Artifact, publish
from tasks.corpus import known_answers, validation_prompts
from tasks.rewards import rewards
from tasks.tracking import StageRun

NUM = 24
ORDER = ("owl", "elk")


def example(split: str, number: int, *, alone: bool = False) -> Example:
    """Every third row has no check; a prompt `alone` has no ground truth either."""
    if alone:
        return Example(f"{split}{number:02d}", "sums", (Message("user", f"17 + 25? ({number})"),), None)
    checked: dict[str, Any] = {"answer": "42", "check": "number"} if number % 3 else {}
    return Example(f"{split}{number:02d}", "sums", (Message("user", f"17 + 25? ({number})"),), "It is 42.", **checked)


def answer(source: str, number: int) -> str:
    """Each source is right on half of the rows."""
    return "It is 42." if (source == "owl") == (number % 2 == 0) else "It was 41, I fear."


def put(place: Path, kind: str, **meta: Any) -> Artifact:
    return publish(place, kind, meta=meta)


@pytest.fixture
def taught(project: Path) -> dict[str, Any]:
    """Corpus, answers and cross-entropies of both splits; a source is surer of its right answers."""
    return prepared(project)


@pytest.fixture
def half_taught(project: Path) -> dict[str, Any]:
    """The same with ground truths of every second training prompt only."""
    return prepared(project, alone=range(0, NUM, 2), prompts_only={"train": NUM // 2})


def prepared(project: Path, *, alone: Sequence[int] = (), **meta: Any) -> dict[str, Any]:
    corpus = project / "corpus"
    for split in ("train", "valid"):
        rows = [example(split, i, alone=split == "train" and i in alone) for i in range(NUM)]
        write_examples(corpus / f"{split}.jsonl", rows)
    made: dict[str, Any] = {"data": put(corpus, "corpus", train=NUM, valid=NUM, **meta), "responses": {}, "scores": {}}
    for split in ("train", "valid"):
        for source in ORDER:
            said, sure = project / f"said-{split}-{source}", project / f"sure-{split}-{source}"
            said.mkdir()
            sure.mkdir()
            texts = {f"{split}{i:02d}": answer(source, i) for i in range(NUM)}
            write_responses(said, [Response(id_, source, 0, text, 5, "eos") for id_, text in texts.items()])
            truths = [id_ for i, id_ in enumerate(texts) if split == "valid" or i not in alone]
            rows = [score_row(id_, GROUND_TRUTH, SourceScore(9.0, 5, 9, True)) for id_ in truths]
            rows += [
                score_row(f"{id_}#0", RESPONSE, SourceScore(1.0 if "42" in text else 20.0, 5, 10, True))
                for id_, text in texts.items()
            ]
            (sure / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            made["responses"][split, source] = put(said, "responses")
            made["scores"][split, source] = put(sure, "signals")
    return made


def of(taught: Mapping[str, Any], kind: str, split: str) -> dict[str, Artifact]:
    return {source: taught[kind][split, source] for source in ORDER}


def judge(taught: Mapping[str, Any], cfg: RewardParams, split: str) -> dict[str, Artifact]:
    run = StageRun(uri="", experiment="fusion", parent_id="", name="teach", progress=False, log_every=1)
    return {
        s.name: rewards.fn(
            s,
            taught["data"],
            None,
            of(taught, "responses", split),
            of(taught, "scores", split) if s.kind == "confidence" else {},
            content="",
            batch_size=4,
            split=split,
            start=0,
            stop=NUM,
            runtime=Runtime(device="cpu"),
            run=run,
        )
        for s in cfg.scorers
    }


def teach(taught: Mapping[str, Any], cfg: RewardParams, *, answers: Artifact | None = None) -> dict[str, Artifact]:
    common: dict[str, Any] = {"order": ORDER}
    quality = scorer_quality.fn(
        AdvantageParams(),
        cfg.vote,
        taught["data"],
        scorers=cfg.scorers,
        scores=(of(taught, "scores", "valid"),),
        rewards=(judge(taught, cfg, "valid"),),
        responses=(of(taught, "responses", "valid"),),
        shards=((0, NUM),),
        prompts_only="prompts_only" in taught["data"].meta,
        **common,
    )
    voted = judge(taught, cfg, "train")
    won = advantage.fn(
        AdvantageParams(),
        cfg.vote,
        taught["data"],
        scores=of(taught, "scores", "train"),
        rewards=voted,
        responses=of(taught, "responses", "train"),
        calibration=quality if cfg.accept == "calibrated" else None,
        start=0,
        stop=NUM,
        answers=answers,
        **common,
    )
    summary = advantage_summary.fn((won,), quality, cfg.scorers, **common)
    return {**{f"rewards/{name}": a for name, a in voted.items()}, "won": won, "summary": summary, "quality": quality}


def cfg(*kinds: str, **more: Any) -> RewardParams:
    return RewardParams.model_validate({"scorers": [{"kind": k, "name": k} for k in kinds], **more})


def test_confidence_needs_neither_model_nor_ground_truth_and_check_abstains(taught: Mapping[str, Any]) -> None:
    made = teach(taught, cfg("confidence", "check", "reference"))
    sure = [json.loads(line) for line in (made["rewards/confidence"].path / "rewards.jsonl").read_text().splitlines()]
    assert sure[0]["scores"] == {"owl#0": -0.1, "elk#0": -2.0}
    right = [json.loads(line) for line in (made["rewards/check"].path / "rewards.jsonl").read_text().splitlines()]
    assert [row["scores"] for row in right[:3]] == [{}, {"owl#0": 0.0, "elk#0": 1.0}, {"owl#0": 1.0, "elk#0": 0.0}]
    assert (made["rewards/check"].meta["ungraded"], made["rewards/check"].meta["abstained"]) == (0, NUM // 3)
    winners = [row.infer_winner for row in read_advantages(made["won"].path / "advantage.jsonl")]
    assert winners == ["owl", "elk"] * (NUM // 2)


def test_the_summary_has_winners_and_quality(taught: Mapping[str, Any]) -> None:
    made = teach(taught, cfg("confidence", "reference"))
    winners, quality = made["summary"].meta["winners"], json.loads((made["summary"].path / "scorer_quality.json").read_text())
    checked = NUM - NUM // 3
    assert winners == {
        "prompts": NUM,
        "winners": NUM,
        "cut": 0,
        "without_winner": {},
        "checked": checked,
        "right": checked,
        "checked_prompts": checked,
        "possible": checked,
        "expected": checked / 2,
    }
    rows = {(row["scorer"], row["against"]): row for row in quality["scorers"]}
    assert {key: row["num_pairs"] for key, row in rows.items()} == {
        ("confidence", "check"): checked,
        ("confidence", "reference"): NUM // 3,
        ("reference", "check"): checked,
        ("reference", "reference"): NUM // 3,
    }
    assert rows["confidence", "check"]["accuracy"] == 1.0
    assert [w for w in made["summary"].meta["warnings"] if "even number of voters (2)" in w]


def test_a_calibrated_gate_takes_its_threshold_from_the_validation_split(taught: Mapping[str, Any]) -> None:
    made = teach(taught, cfg("confidence", accept="calibrated", accept_target=0.9))
    calibration = json.loads((made["quality"].path / "calibration.json").read_text())
    assert (calibration["num_winners"], calibration["quality"]) == (NUM - NUM // 3, 1.0)
    assert made["summary"].meta["winners"]["winners"] == NUM  # all winners are as sure as those of the validation split


def test_nothing_is_known_of_scorers_that_were_not_judged(taught: Mapping[str, Any]) -> None:
    made = teach(taught, cfg("confidence"))
    summary = advantage_summary.fn((made["won"],), None, cfg("confidence").scorers, order=ORDER)
    assert json.loads((summary.path / "scorer_quality.json").read_text())["scorers"] == []


def test_validation_prompts_are_a_part_of_the_split(taught: Mapping[str, Any]) -> None:
    made = validation_prompts.fn(taught["data"], limit=5)
    assert made.meta["valid"] == 5
    assert len((made.path / "valid.jsonl").read_text().splitlines()) == 5


def test_scorers_that_need_a_ground_truth_abstain_where_there_is_none(half_taught: Mapping[str, Any]) -> None:
    made = teach(half_taught, cfg("confidence", "check", "reference"))
    for name in ("check", "reference"):
        rows = [json.loads(line) for line in (made[f"rewards/{name}"].path / "rewards.jsonl").read_text().splitlines()]
        assert [i for i, row in enumerate(rows) if not row["scores"] and i % 3] == [i for i in range(0, NUM, 2) if i % 3]
        assert made[f"rewards/{name}"].meta["ungraded"] == 0
    assert made["rewards/reference"].meta["abstained"] == NUM // 2
    rows = list(read_advantages(made["won"].path / "advantage.jsonl"))
    assert [row.train_winner is None for row in rows] == [i % 2 == 0 for i in range(NUM)]
    assert [row.infer_winner for row in rows] == ["owl", "elk"] * (NUM // 2), "the confidence alone has voted on every second"
    wins = json.loads((made["summary"].path / "win_table.json").read_text())
    assert {row["mode"]: row["num_examples"] for row in wins} == {"training": NUM // 2, "inference": NUM}


def test_where_only_scorers_of_ground_truths_vote_the_others_have_no_winner(half_taught: Mapping[str, Any]) -> None:
    made = teach(half_taught, cfg("reference"))
    assert made["summary"].meta["winners"]["without_winner"] == {"abstained": NUM // 2}


def test_a_calibrated_gate_has_a_threshold_for_prompts_without_a_ground_truth(half_taught: Mapping[str, Any]) -> None:
    made = teach(half_taught, cfg("confidence", "reference", accept="calibrated", accept_target=0.9))
    scales = [
        json.loads((made["quality"].path / f"calibration{part}.json").read_text())["scales"] for part in ("", "_without_truth")
    ]
    assert [sorted(found) for found in scales] == [["confidence", "reference"], ["confidence"]]
    assert made["summary"].meta["winners"]["winners"] == NUM


def test_validation_prompts_have_something_to_compare_with(project: Path) -> None:
    rows = [example("valid", i, alone=i % 2 == 0) for i in range(NUM)]
    write_examples(project / "few" / "valid.jsonl", rows)
    made = validation_prompts.fn(put(project / "few", "corpus", valid=NUM), limit=20)
    assert made.meta["valid"] == NUM // 2


def right_source(number: int) -> str:
    return "owl" if number % 2 == 0 else "elk"


def test_an_oracle_goes_by_the_check_or_else_the_ground_truth_and_knows_nothing_of_other_prompts(
    taught: Mapping[str, Any], half_taught: Mapping[str, Any]
) -> None:
    won = list(read_advantages(teach(taught, cfg("confidence", winner="oracle"))["won"].path / "advantage.jsonl"))
    assert [row.infer_winner for row in won] == [right_source(i) for i in range(NUM)]
    won = list(read_advantages(teach(half_taught, cfg("confidence", winner="oracle"))["won"].path / "advantage.jsonl"))
    assert [row.without_winner for row in won] == ["" if i % 2 else "abstained" for i in range(NUM)]


def test_an_oracle_takes_answers_that_no_row_shows_from_apart(project: Path, half_taught: Mapping[str, Any]) -> None:
    # What is known contradicts the rows' own answers: 41 is right.
    rows = [{"id": f"train{i:02d}", "answer": "41", "check": "number"} for i in range(NUM)]
    write_json_lines(project / "known" / ANSWERS, rows)
    known = put(project / "known", "known-answers")
    made = teach(half_taught, cfg("confidence", "check", winner="oracle"), answers=known)
    won = list(read_advantages(made["won"].path / "advantage.jsonl"))
    assert [row.infer_winner for row in won] == [right_source(i + 1) for i in range(NUM)]
    # No scorer has seen it: `check` still abstains on prompts alone.
    votes = [json.loads(line) for line in (made["rewards/check"].path / "rewards.jsonl").read_text().splitlines()]
    assert all(row["scores"] == {} for row in votes if int(row["id"][-2:]) % 2 == 0)


def test_what_is_known_of_rows_is_what_their_checks_look_for_and_of_a_world_all(
    project: Path, half_taught: Mapping[str, Any]
) -> None:
    shown = list(read_json_lines(known_answers.fn(None, half_taught["data"]).path / ANSWERS))
    assert [row["id"] for row in shown] == [f"train{i:02d}" for i in range(NUM) if i % 2 and i % 3]
    assert {(row["answer"], row["check"]) for row in shown} == {("42", "number")}
    world = WorldParams(num_train=12, num_prompts_only=12, num_valid=6, num_test=12)
    rows = list(read_json_lines(known_answers.fn(world, half_taught["data"]).path / ANSWERS))
    assert len({row["id"] for row in rows}) == 24 and all(row["answer"] and row["check"] != "none" for row in rows)
