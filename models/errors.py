"""Exceptions of fusedial, whose messages say where, what, the value, and what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.redaction import redact


class FusedialError(Exception):
    """Base of every error a user can cause or cure; the command line prints it without a traceback.

    Its text is redacted as it is made, so that no one who keeps it (a log, a record of Prefect) keeps a secret.
    """

    def __init__(self, message: str = "") -> None:
        # Halves of surrogate pairs, as bad input has them, can be written to no stream.
        super().__init__(redact(message).encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a validation: `where` (key or file:line), `rule` broken, and the `value` seen."""

    where: str
    rule: str
    value: str = ""
    hint: str = ""

    def __str__(self) -> str:
        seen = f", but is {self.value}" if self.value else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.where} {self.rule}{seen}.{hint}"


class ProblemsError(FusedialError):
    """Several problems raised together, so that they can be corrected in one go."""

    def __init__(self, title: str, problems: Sequence[Problem]) -> None:
        """Keep the findings on `.problems` and print one a line (the first 20)."""
        self.problems = tuple(problems)
        shown = [f"  - {p}" for p in self.problems[:20]]
        if len(self.problems) > 20:
            shown.append(f"  … and {len(self.problems) - 20} more")
        super().__init__("\n".join([f"{title} ({len(self.problems)}):", *shown]))


class ParamsError(ProblemsError):
    """params.yaml, a profile or an override breaks a rule."""


class DataError(ProblemsError):
    """Input records break a rule; each problem carries file and line."""


class SourceError(FusedialError):
    """A source model, tokenizer or chat template cannot be loaded or used."""


class SignalError(FusedialError):
    """A signal store is incomplete, truncated, or was made with another tokenizer or corpus."""


class AlignmentError(FusedialError):
    """Two tokenizations cannot be aligned as asked."""


class ArtifactError(FusedialError):
    """A stage's artifact is missing, incomplete, or differs from its manifest."""


class TrackingError(FusedialError):
    """MLflow's store cannot be reached, or refuses what it is given."""


class NumericsError(FusedialError):
    """A loss or gradient is not finite; the message names the sample ids of the batch."""


class BackendError(FusedialError):
    """An inference endpoint does not answer as its interface promises."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        """Keep whether another attempt may succeed (the server is away or busy), as `.transient`."""
        super().__init__(message)
        self.transient = transient


class BadReplyError(BackendError):
    """One request got no usable reply after all attempts, although the endpoint answers others: it may be left empty."""


def reason(err: BaseException) -> str:
    """Return the first line of a library's error (and the next, if it only announces it), at most 300 plain characters."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip().splitlines() or [type(err).__name__]
    text = " ".join(" ".join(lines[: 2 if lines[0].rstrip().endswith(":") else 1]).split())
    return text if len(text) <= 300 else text[:299] + "…"


class RetrievalError(FusedialError):
    """An index, an encoder and a knowledge base do not belong together, or cannot do what was asked."""
