"""First pass over a data set: what decides about each row, in a few bytes a row, and every problem found."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.data.readers import read_set
from models.data.split import Digests, content_digest, digest, prompt_digest
from models.errors import Problem
from models.params.corpus import CorpusSet
from models.schema import Example

# More problems than this are only counted: a file of another kind has one on every line.
_MOST_PROBLEMS = 10_000


@dataclass(slots=True)
class ProblemLog:
    """Findings over all data sets: all are counted, the first ten thousand are kept."""

    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Record a finding."""
        self.count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class SetSurvey:
    """The well-formed rows of one data set, in file order; N rows.

    Attributes:
        cfg: The data set.
        prompts: uint64[N] digests of the prompts.
        contents: uint64[N] digests of prompt and response.
        ids: uint64[N] digests of the ids.
        lines: uint32[N] lines in the file.
        left_out: Reason → rows left out by the params or as malformed.
    """

    cfg: CorpusSet
    prompts: Digests
    contents: Digests
    ids: Digests
    lines: npt.NDArray[np.uint32]
    left_out: Mapping[str, int]

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.lines)

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.cfg.path}:{self.lines[row]}"


def survey_set(cfg: CorpusSet, *, root: Path, seed: int, log: ProblemLog) -> SetSurvey:
    """Read a data set once, 28 bytes of memory a row.

    Args:
        cfg: The data set.
        root: Project root.
        seed: Enters every digest.
        log: Receives the malformed records.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    prompts, contents, ids, lines = array("Q"), array("Q"), array("Q"), array("I")
    left_out: Counter[str] = Counter()
    for record in read_set(cfg, root=root):
        match record.outcome:
            case Example() as example:
                prompts.append(prompt_digest(example.messages, seed=seed))
                contents.append(content_digest(example, seed=seed))
                ids.append(digest(example.id, seed=seed, purpose="id"))
                lines.append(record.number)
            case Problem() as problem:
                left_out["malformed"] += 1
                log.add(problem)
            case str() as reason:
                left_out[reason] += 1
    return SetSurvey(
        cfg,
        prompts=np.frombuffer(prompts, dtype=np.uint64),
        contents=np.frombuffer(contents, dtype=np.uint64),
        ids=np.frombuffer(ids, dtype=np.uint64),
        lines=np.frombuffer(lines, dtype=np.uint32),
        left_out=left_out,
    )
