import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.corpus.split import (
    TEST,
    TRAIN,
    VALID,
    Digests,
    assign_splits,
    beyond_limit,
    content_digest,
    leaked,
    normalise,
    prompt_digest,
    repeated,
)
from models.schema import Example, Message

digests = st.lists(st.integers(0, 2**64 - 1), max_size=60).map(lambda values: np.array(values, dtype=np.uint64))
few = st.lists(st.integers(0, 8), max_size=40).map(lambda values: np.array(values, dtype=np.uint64))
fractions = st.tuples(st.floats(0, 0.45), st.floats(0, 0.5))


def assign(prompts: Digests, fractions: tuple[float, float]) -> list[int]:
    return assign_splits(prompts, valid_fraction=fractions[0], test_fraction=fractions[1]).tolist()


def digest(text: str, seed: int = 1) -> int:
    return prompt_digest([Message("user", text)], seed=seed)


@given(st.text(), st.sampled_from([" ", "\n", "\t ", " "]))
def test_normalising_ignores_case_and_blanks_and_is_idempotent(text: str, blank: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert normalise(f"{blank}{text}{blank}") == once
    assert digest(f"{text}{blank}") == digest(text)


def test_normalising_keeps_what_a_computation_needs() -> None:
    assert len({digest(t) for t in ("3 + 4", "3 - 4", "34", "3 4", "3+4", "")}) == 6
    assert digest("What IS\u00a0this?") == digest(" what is this?") != digest("what is this")


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=5)), min_size=1, max_size=4))
def test_turns_are_told_apart(turns: list[tuple[str, str]]) -> None:
    messages = [Message(role, text) for role, text in turns]  # type: ignore[arg-type]
    merged = [Message("user", "".join(text for _, text in turns))]
    assert (prompt_digest(messages, seed=1) == prompt_digest(merged, seed=1)) == (
        len(messages) == 1 and messages[0].role == "user"
    )


@given(st.text(), st.text(), st.text())
def test_the_split_sees_the_prompt_only_and_the_content_both(prompt: str, one: str, other: str) -> None:
    first, second = (Example("x", "f", (Message("user", prompt),), r) for r in (one, other))
    assert prompt_digest(first.messages, seed=1) == prompt_digest(second.messages, seed=1)
    assert (content_digest(first, seed=1) == content_digest(second, seed=1)) == (one == other)
    assert digest(prompt, seed=1) != digest(prompt, seed=2)
    assert content_digest(first, seed=1) != digest(prompt), "limit and split must be independent"


@given(digests, fractions, st.randoms(use_true_random=False))
def test_a_row_stays_in_its_split_whatever_stands_beside_it(prompts: Digests, share: tuple[float, float], random: object) -> None:
    order = list(range(len(prompts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    whole = assign(prompts, share)
    assert assign(prompts[order[: len(order) // 2]], share) == [whole[i] for i in order[: len(order) // 2]]


@given(digests, fractions, st.floats(0, 0.4))
def test_raising_a_fraction_only_adds_to_its_split(prompts: Digests, share: tuple[float, float], more: float) -> None:
    before, after = assign(prompts, share), assign(prompts, (share[0], share[1] + more))
    assert all(a == b or a == TEST for b, a in zip(before, after, strict=True))
    none = assign(prompts, (0.0, 0.0))
    assert none == [TRAIN] * len(prompts)


def test_shares_are_as_asked() -> None:
    prompts = np.array([digest(f"prompt {i}") for i in range(4000)], dtype=np.uint64)
    counts = np.bincount(assign(prompts, (0.05, 0.1)), minlength=3) / len(prompts)
    assert abs(counts[TEST] - 0.1) < 0.02
    assert abs(counts[VALID] - 0.05) < 0.015


@given(few)
def test_repeated_marks_all_but_the_first(values: Digests) -> None:
    seen: set[int] = set()
    expected = [v in seen or bool(seen.add(v)) for v in values.tolist()]  # type: ignore[func-returns-value]
    assert repeated(values).tolist() == expected


@given(few, st.data(), st.integers(1, 20))
def test_a_limit_keeps_the_lowest_of_the_kept(values: Digests, data: st.DataObject, limit: int) -> None:
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), dtype=np.bool_)
    out = beyond_limit(values, kept, limit)
    left = np.sort(values[kept & ~out])
    assert not (out & ~kept).any()
    assert left.tolist() == np.sort(values[kept])[:limit].tolist()
    assert not beyond_limit(values, kept, None).any()


@given(few, st.data())
def test_after_dropping_leaks_no_prompt_stands_in_two_splits(prompts: Digests, data: st.DataObject) -> None:
    size = len(prompts)
    splits = np.array(data.draw(st.lists(st.sampled_from([TRAIN, VALID, TEST]), min_size=size, max_size=size)), dtype=np.uint8)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=np.bool_)
    marked = leaked(prompts, splits, kept)
    left = kept & ~marked
    homes = [set(prompts[left & (splits == s)].tolist()) for s in (TRAIN, VALID, TEST)]
    assert not (homes[0] & homes[1] or homes[0] & homes[2] or homes[1] & homes[2])
    assert set(prompts[kept & (splits == TEST)].tolist()) == homes[2], "the test keeps all its rows"
    clean = kept & ~np.isin(prompts, prompts[kept & (splits != TRAIN)])
    assert not (marked & clean).any(), "nothing else is dropped"
