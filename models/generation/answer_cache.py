"""Answers of paid or slow endpoints, kept on disk as soon as they arrive: a run that was cut off goes on where it stopped."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.files import write_atomic
from models.generation.dialogue_item import Answer
from models.schema import Message

ANSWERS = "answers.jsonl"
_log = logging.getLogger(__name__)


def request_key(model: str, messages: Sequence[Message], options: Mapping[str, object]) -> str:
    """Return the sha256 of a request: model, messages and options; neither the address nor the API key is part of it."""
    turns = [[m.role, m.content] for m in messages]
    text = json.dumps([model, turns, dict(options)], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """An append-only file of answers by request, safe to share between threads of one process; a context manager.

    A line is on the disk (fsync) before its answer is used. Lines that are no answers (torn by a crash, or harmed) are dropped
    when the file is opened: their requests are sent again. Use a folder of its own for each endpoint: the same model name may be
    another model elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        """Open `answers.jsonl` of a folder, which is made if need be, and read it."""
        self.path = folder / ANSWERS
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._answers = self._read()
        self._file = self.path.open("ab")

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def get(self, key: str) -> Answer | None:
        """Return the answer to a request, if it was answered before; its `cuts` are empty."""
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer for good."""
        row = {
            "key": key,
            "text": answer.text,
            "num_prompt_tokens": answer.num_prompt_tokens,
            "num_tokens": answer.num_tokens,
            "finish": answer.finish,
            **({"problem": answer.problem} if answer.problem else {}),
        }
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._guard:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._answers[key] = _answer(row)

    def _read(self) -> dict[str, Answer]:
        """Read all answers, and rewrite the file without what is none."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        answers: dict[str, Answer] = {}
        kept: list[bytes] = []
        for line in lines:
            try:
                row = json.loads(line if line.endswith(b"\n") else b"")
                answers[row["key"]] = _answer(row)
            except (KeyError, TypeError, ValueError):
                continue
            kept.append(line)
        if kept != lines:
            _log.warning("`%s`: %d lines are no answers; their requests are sent again.", self.path, len(lines) - len(kept))
            write_atomic(self.path, b"".join(kept))
        return answers


def _answer(row: Mapping[str, Any]) -> Answer:
    counts = int(row["num_prompt_tokens"]), int(row["num_tokens"])
    return Answer(str(row["text"]), *counts, row["finish"], problem=str(row.get("problem", "")))
