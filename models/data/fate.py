"""What becomes of every row: a split, or the reason why it is left out. Decided on digests, for all data sets together."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.data.split import TEST, TRAIN, VALID, Digests, Mask, assign_splits, beyond_limit, leaked, repeated
from models.data.survey import ProblemLog, SetSurvey
from models.errors import DataError, Problem
from models.params.corpus import CorpusParams

Fates = npt.NDArray[np.uint8]

# Fates beside the splits TRAIN, VALID and TEST.
DUPLICATE, OVER_LIMIT, LEAKED, SAME_ID = 3, 4, 5, 6
REASONS = {DUPLICATE: "duplicate", OVER_LIMIT: "over_limit", LEAKED: "leaked", SAME_ID: "malformed"}
_SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


def decide_fates(surveys: Sequence[SetSurvey], cfg: CorpusParams, *, log: ProblemLog) -> list[Fates]:
    """Return uint8[N] for each data set.

    In this order: a later row with an id seen before is malformed; a later row with the same prompt and response in the same
    split is a duplicate; `limit` keeps the rows with the lowest digests; a training row whose prompt is held out is leaked.

    Raises:
        DataError: Rows leak and `on_leakage` is `error`.
    """
    prompts = _joined([s.prompts for s in surveys])
    splits = np.concatenate([np.zeros(0, np.uint8), *(_splits(s, cfg) for s in surveys)])
    fates = splits.copy()
    ids = _joined([s.ids for s in surveys])
    same_id = repeated(ids)
    _log_same_ids(surveys, ids, same_id, log)
    fates[same_id] = SAME_ID
    contents = _joined([s.contents for s in surveys])
    fates[(fates <= TEST) & _repeated_within(contents, splits, fates <= TEST)] = DUPLICATE
    for survey, part in zip(surveys, _parts(surveys, fates), strict=True):
        part[beyond_limit(survey.contents, part <= TEST, survey.cfg.limit)] = OVER_LIMIT
    leaks = leaked(prompts, splits, fates <= TEST)
    if cfg.on_leakage == "error" and leaks.any():
        raise _leakage(surveys, leaks)
    fates[leaks] = LEAKED
    return _parts(surveys, fates)


def _splits(survey: SetSurvey, cfg: CorpusParams) -> Fates:
    if survey.cfg.split != "auto":
        return np.full(survey.num_rows, _SPLITS[survey.cfg.split], dtype=np.uint8)
    return assign_splits(survey.prompts, valid_fraction=cfg.valid_fraction, test_fraction=cfg.test_fraction)


def _repeated_within(contents: Digests, splits: Fates, kept: Mask) -> Mask:
    """Mark kept rows whose content stands in an earlier kept row of the same split."""
    mark = np.zeros(len(contents), dtype=np.bool_)
    for split in (TRAIN, VALID, TEST):
        rows = np.flatnonzero(kept & (splits == split))
        mark[rows] = repeated(contents[rows])
    return mark


def _joined(columns: Sequence[Digests]) -> Digests:
    return np.concatenate([np.zeros(0, np.uint64), *columns])


def _parts(surveys: Sequence[SetSurvey], fates: Fates) -> list[Fates]:
    """Cut the joined column into views, one for each data set."""
    return np.split(fates, np.cumsum([s.num_rows for s in surveys])[:-1])


def _places(surveys: Sequence[SetSurvey], rows: npt.NDArray[np.intp]) -> list[str]:
    """Return file and line of rows of the joined column."""
    ends = np.cumsum([s.num_rows for s in surveys])
    sets = np.searchsorted(ends, rows, side="right")
    return [surveys[i].where(int(row - ends[i]) + surveys[i].num_rows) for i, row in zip(sets, rows, strict=True)]


def _log_same_ids(surveys: Sequence[SetSurvey], ids: Digests, same_id: Mask, log: ProblemLog) -> None:
    rows = np.flatnonzero(same_id)
    known, first = np.unique(ids, return_index=True)
    owners = first[np.searchsorted(known, ids[rows])]
    for place, owner in zip(_places(surveys, rows), _places(surveys, owners), strict=True):
        log.add(Problem(place, "must have an id of its own", f"the same as {owner}", "Rename one of the two, or remove it."))


def _leakage(surveys: Sequence[SetSurvey], leaks: Mask) -> DataError:
    rule = "must not have a prompt that is also held out"
    hint = "Remove it, or set `corpus.on_leakage` to `drop`."
    places = _places(surveys, np.flatnonzero(leaks))
    return DataError("Held-out prompts leak", [Problem(place, rule, hint=hint) for place in places])
