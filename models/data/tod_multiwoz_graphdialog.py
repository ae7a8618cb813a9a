"""Reads GraphDialog's copy of MultiWOZ: dialogues of one domain as text, without annotation or knowledge base."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from models.data.file_kind import READ_ERRORS
from models.data.json_array import open_text
from models.data.tod_reader import ReadLog
from models.data.tod_rows import unreadable
from models.data.validate import BadRecord


@dataclass(frozen=True, slots=True)
class TextDialogue:
    """One dialogue: `exchanges` are pairs of the user's and the system's utterance."""

    number: int
    domain: str
    exchanges: tuple[tuple[str, str], ...]

    def user_text(self) -> str:
        """Return all that the user says."""
        return " ".join(user for user, _ in self.exchanges)

    def system_texts(self) -> tuple[str, ...]:
        """Return the system's utterances."""
        return tuple(system for _, system in self.exchanges)


def read_graphdialog(path: Path, *, domains: frozenset[str], log: ReadLog) -> list[TextDialogue]:
    """Return the dialogues of a file (`#domain#`, then lines `<n> <user>`, tab, `<system>`, then an empty line).

    A malformed dialogue goes to `log` and is left out whole, since a later turn without an earlier one is another dialogue; so
    are dialogues of other domains. Numbers count the dialogues of the wanted domains from 0, malformed ones included.

    Raises:
        DataError: The file is missing or damaged as a whole.
    """
    dialogues, number = [], 0
    for line, block in _blocks(path):
        domain = block[0].strip("#")
        if block[0].startswith("#") and domain not in domains:
            log.left_out["other_domain"] += len(block) - 1
            continue
        try:
            dialogues.append(TextDialogue(number, domain, tuple(_exchanges(block))))
        except BadRecord as bad:
            log.add(bad.at(f"{path}:{line}"))
        number += 1
    return dialogues


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first line, lines) of every run of lines that are not empty."""
    for blank, lines in groupby(_lines(path), key=lambda numbered: not numbered[1].strip()):
        if not blank:
            block = list(lines)
            yield block[0][0], [text for _, text in block]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_text(path) as text:
            for number, line in enumerate(text, start=1):
                yield number, line.rstrip("\r\n")
    except READ_ERRORS as err:
        raise unreadable(path, "must be a readable text file", str(err)) from err


def _exchanges(block: Iterable[str]) -> Iterator[tuple[str, str]]:
    header, *lines = block
    if not header.startswith("#"):
        raise BadRecord("must begin with a line `#domain#`", repr(header[:60]))
    if not lines:
        raise BadRecord("must have at least one exchange", repr(header))
    for place, line in enumerate(lines, start=1):
        number, _, rest = line.partition(" ")
        user, tab, system = rest.partition("\t")
        if number != str(place) or not (user.strip() and tab and system.strip()):
            raise BadRecord(f"must have `{place} <user>`, a tab and `<system>` in its line {place + 1}", repr(line[:60]))
        yield user, system
