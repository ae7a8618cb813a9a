"""Assignment of rows to splits, deduplication and leakage checks, over row digests of all data sets together."""

import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.corpus.readers import read_set
from models.errors import DataError, Problem
from models.params.corpus import CorpusParams, CorpusSet
from models.schema import Example, Message

Digests = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

TRAIN, VALID, TEST = 0, 1, 2


def normalise(text: str) -> str:
    """Return a canonical form for comparison: NFKC, case folded, blanks collapsed; punctuation is kept."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Case folding can undo NFKC: without the second pass normalisation would not be idempotent.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def digest(text: str, *, seed: int, purpose: str) -> int:
    """Return a 64-bit keyed hash; independent for every seed and purpose.

    Among a million rows the chance of any collision is 3 in 10^8.
    """
    key = f"{purpose}/{seed}".encode()
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def prompt_digest(messages: Sequence[Message], *, seed: int) -> int:
    """Hash a prompt after normalisation; equal prompts land in the same split whatever their responses."""
    text = "\x1e".join(f"{m.role}\x1f{normalise(m.content)}" for m in messages)
    return digest(text, seed=seed, purpose="split")


def content_digest(example: Example, *, seed: int) -> int:
    """Hash prompt and response: finds duplicates, and selects the rows of a `limit` (independently of the split)."""
    parts = [f"{m.role}\x1f{m.content}" for m in example.messages]
    if example.response is None:
        return digest("\x1e".join(parts), seed=seed, purpose="prompt")
    return digest("\x1e".join([*parts, example.response]), seed=seed, purpose="content")


def assign_splits(prompts: Digests, *, valid_fraction: float, test_fraction: float) -> npt.NDArray[np.uint8]:
    """Return TRAIN, VALID or TEST for each prompt digest; raising a fraction only ever moves rows into that split.

    The test split takes the lowest digests, validation the highest, so changing one fraction does not affect the other split.
    """
    place = prompts / 2.0**64
    return np.where(place < test_fraction, TEST, np.where(place > 1 - valid_fraction, VALID, TRAIN)).astype(np.uint8)


def repeated(digests: Digests) -> Mask:
    """Mark every row whose digest occurs in an earlier row."""
    mark = np.ones(len(digests), dtype=np.bool_)
    mark[np.unique(digests, return_index=True)[1]] = False
    return mark


def beyond_limit(digests: Digests, kept: Mask, limit: int | None) -> Mask:
    """Mark the kept rows beyond a limit: all but the `limit` lowest digests."""
    mark = np.zeros(len(digests), dtype=np.bool_)
    rows = np.flatnonzero(kept)
    if limit is not None and len(rows) > limit:
        mark[rows[np.argsort(digests[rows], kind="stable")[limit:]]] = True
    return mark


def beyond_shares(digests: Digests, groups: npt.NDArray[np.intp], kept: Mask, limit: int) -> Mask:
    """Mark kept rows beyond a limit over all groups: each keeps its share of it, in the rows with the lowest digests.

    Shares are rounded by the largest remainder; of equal ones the first group's is rounded up.
    """
    mark = np.zeros(len(digests), dtype=np.bool_)
    there, sizes = np.unique(groups[kept], return_counts=True)
    if limit >= sizes.sum():
        return mark
    # In whole numbers, so that the same shares are rounded in the same way whatever the counts are.
    quotas, remainders = limit * sizes // sizes.sum(), limit * sizes % sizes.sum()
    quotas[np.argsort(-remainders, kind="stable")[: limit - quotas.sum()]] += 1
    for group, quota in zip(there, quotas, strict=True):
        mark |= beyond_limit(digests, kept & (groups == group), int(quota))
    return mark


def leaked(prompts: Digests, splits: npt.NDArray[np.uint8], kept: Mask) -> Mask:
    """Mark kept training rows whose prompt is held out, and kept validation rows whose prompt is in the test split."""
    held_out = [prompts[kept & (splits == s)] for s in (VALID, TEST)]
    in_test = np.isin(prompts, held_out[1])
    in_valid = np.isin(prompts, held_out[0])
    marked = (splits == TRAIN) & (in_valid | in_test) | (splits == VALID) & in_test
    return np.asarray(kept & marked)


# More problems than this are only counted: a file of another kind has one on every line.
_MOST_PROBLEMS = 10_000


@dataclass(slots=True)
class ProblemLog:
    """Problems over all data sets: all are counted, the first ten thousand are kept."""

    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Count a problem, and keep it if there is room."""
        self.count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class SetRows:
    """The well-formed rows of one data set, in file order; N rows.

    Attributes:
        cfg: The data set.
        prompts: uint64[N] digests of the prompts.
        contents: uint64[N] digests of prompt and response.
        ids: uint64[N] digests of the ids.
        lines: uint32[N] lines in the file.
        no_response: bool[N], whether a row is a prompt without a ground truth.
        left_out: Reason → rows left out by the params or as malformed.
    """

    cfg: CorpusSet
    prompts: Digests
    contents: Digests
    ids: Digests
    lines: npt.NDArray[np.uint32]
    no_response: Mask
    left_out: Mapping[str, int]

    @property
    def num_rows(self) -> int:
        """Number of well-formed rows, N."""
        return len(self.lines)

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.cfg.path}:{self.lines[row]}"


def read_set_rows(cfg: CorpusSet, *, root: Path, seed: int, log: ProblemLog) -> SetRows:
    """Read a data set once, with 29 bytes of memory per row.

    Args:
        cfg: The data set.
        root: Project root.
        seed: Key of every digest.
        log: Receives the malformed records.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    prompts, contents, ids, lines, no_response = array("Q"), array("Q"), array("Q"), array("I"), array("B")
    left_out: Counter[str] = Counter()
    for record in read_set(cfg, root=root):
        match record.outcome:
            case Example() as example:
                prompts.append(prompt_digest(example.messages, seed=seed))
                contents.append(content_digest(example, seed=seed))
                ids.append(digest(example.id, seed=seed, purpose="id"))
                lines.append(record.number)
                no_response.append(example.response is None)
            case Problem() as problem:
                left_out["malformed"] += 1
                log.add(problem)
            case str() as reason:
                left_out[reason] += 1
    return SetRows(
        cfg,
        prompts=np.frombuffer(prompts, dtype=np.uint64),
        contents=np.frombuffer(contents, dtype=np.uint64),
        ids=np.frombuffer(ids, dtype=np.uint64),
        lines=np.frombuffer(lines, dtype=np.uint32),
        no_response=np.frombuffer(no_response, dtype=np.bool_),
        left_out=left_out,
    )


RowStatuses = npt.NDArray[np.uint8]

# Statuses other than the splits TRAIN, VALID and TEST.
DUPLICATE, OVER_LIMIT, LEAKED, SAME_ID = 3, 4, 5, 6
REASONS = {DUPLICATE: "duplicate", OVER_LIMIT: "over_limit", LEAKED: "leaked", SAME_ID: "malformed"}
_SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


def assign_row_statuses(all_rows: Sequence[SetRows], cfg: CorpusParams, *, log: ProblemLog) -> list[RowStatuses]:
    """Return uint8[N] for each data set.

    In this order: a later row with an id seen before is malformed; a later row with the same prompt and response in the same
    split is a duplicate; `limit` keeps the rows with the lowest digests; a prompt without a ground truth is a duplicate where a
    kept row of the same split has the same prompt (as `normalise` compares) with one, or is an earlier such prompt; a training
    row whose prompt is held out is leaked; `train_limit` keeps the training rows with the lowest digests.

    Raises:
        DataError: Rows leak and `on_leakage` is `error`.
    """
    prompts = _joined([s.prompts for s in all_rows])
    splits = np.concatenate([np.zeros(0, np.uint8), *(_splits(s, cfg) for s in all_rows)])
    statuses = splits.copy()
    ids = _joined([s.ids for s in all_rows])
    same_id = repeated(ids)
    _log_same_ids(all_rows, ids, same_id, log)
    statuses[same_id] = SAME_ID
    contents = _joined([s.contents for s in all_rows])
    statuses[(statuses <= TEST) & _repeated_within(contents, splits, statuses <= TEST)] = DUPLICATE
    for set_rows, part in zip(all_rows, _parts(all_rows, statuses), strict=True):
        part[beyond_limit(set_rows.contents, part <= TEST, set_rows.cfg.limit)] = OVER_LIMIT
    no_response = np.concatenate([np.zeros(0, np.bool_), *(s.no_response for s in all_rows)])
    statuses[_repeated_prompts(prompts, splits, statuses <= TEST, no_response)] = DUPLICATE
    leaks = leaked(prompts, splits, statuses <= TEST)
    if cfg.on_leakage == "error" and leaks.any():
        raise _leakage(all_rows, leaks)
    statuses[leaks] = LEAKED
    if cfg.train_limit is not None:
        sets = np.repeat(np.arange(len(all_rows)), [s.num_rows for s in all_rows])
        statuses[beyond_shares(contents, 2 * sets + no_response, statuses == TRAIN, cfg.train_limit)] = OVER_LIMIT
    return _parts(all_rows, statuses)


def _splits(set_rows: SetRows, cfg: CorpusParams) -> RowStatuses:
    if set_rows.cfg.split != "auto":
        return np.full(set_rows.num_rows, _SPLITS[set_rows.cfg.split], dtype=np.uint8)
    return assign_splits(set_rows.prompts, valid_fraction=cfg.valid_fraction, test_fraction=cfg.test_fraction)


def _repeated_within(contents: Digests, splits: RowStatuses, kept: Mask) -> Mask:
    """Mark kept rows whose content occurs in an earlier kept row of the same split."""
    mark = np.zeros(len(contents), dtype=np.bool_)
    for split in (TRAIN, VALID, TEST):
        rows = np.flatnonzero(kept & (splits == split))
        mark[rows] = repeated(contents[rows])
    return mark


def _repeated_prompts(prompts: Digests, splits: RowStatuses, kept: Mask, no_response: Mask) -> Mask:
    """Mark kept rows without a response whose prompt occurs in the same split with a response, or earlier without one."""
    mark = np.zeros(len(prompts), dtype=np.bool_)
    for split in (TRAIN, VALID, TEST):
        rows = np.flatnonzero(kept & no_response & (splits == split))
        with_truth = prompts[kept & ~no_response & (splits == split)]
        mark[rows] = repeated(prompts[rows]) | np.isin(prompts[rows], with_truth)
    return mark


def _joined(columns: Sequence[Digests]) -> Digests:
    return np.concatenate([np.zeros(0, np.uint64), *columns])


def _parts(all_rows: Sequence[SetRows], statuses: RowStatuses) -> list[RowStatuses]:
    """Cut the joined column into views, one for each data set."""
    return np.split(statuses, np.cumsum([s.num_rows for s in all_rows])[:-1])


def _places(all_rows: Sequence[SetRows], rows: npt.NDArray[np.intp]) -> list[str]:
    """Return file and line of rows of the joined column."""
    ends = np.cumsum([s.num_rows for s in all_rows])
    sets = np.searchsorted(ends, rows, side="right")
    return [all_rows[i].where(int(row - ends[i]) + all_rows[i].num_rows) for i, row in zip(sets, rows, strict=True)]


def _log_same_ids(all_rows: Sequence[SetRows], ids: Digests, same_id: Mask, log: ProblemLog) -> None:
    rows = np.flatnonzero(same_id)
    known, first = np.unique(ids, return_index=True)
    owners = first[np.searchsorted(known, ids[rows])]
    for place, owner in zip(_places(all_rows, rows), _places(all_rows, owners), strict=True):
        log.add(Problem(place, "must have a unique id", f"the same as {owner}", "Rename one of the two, or remove it."))


def _leakage(all_rows: Sequence[SetRows], leaks: Mask) -> DataError:
    rule = "must not have a prompt that is also held out"
    hint = "Remove it, or set `corpus.on_leakage` to `drop`."
    places = _places(all_rows, np.flatnonzero(leaks))
    return DataError("Held-out prompts leak", [Problem(place, rule, hint=hint) for place in places])
