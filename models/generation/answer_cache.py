"""Answers of paid or slow endpoints, kept on disk as soon as they arrive: a run that was cut off goes on where it stopped."""

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.errors import ArtifactError
from models.generation.dialogue_item import Answer
from models.schema import Message

ANSWERS = "answers.jsonl"


def request_key(model: str, messages: Sequence[Message], options: Mapping[str, object]) -> str:
    """Return the sha256 of a request: model, messages and options; neither the address nor the API key is part of it."""
    turns = [[m.role, m.content] for m in messages]
    text = json.dumps([model, turns, dict(options)], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """An append-only file of answers by request, safe to share between threads of one process; a context manager.

    A line is on the disk (fsync) before its answer is used. A last line that was torn by a crash is dropped when the file is
    opened. Use a folder of its own for each endpoint: the same model name may be another model elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        """Open `answers.jsonl` of a folder, which is made if need be, and read it.

        Raises:
            ArtifactError: A line before the last one is no answer.
        """
        self.path = folder / ANSWERS
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._file = self.path.open("a+b")
        try:
            self._answers = self._read()
        except BaseException:
            self._file.close()
            raise

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
        """Read all whole lines, and cut the file behind the last of them."""
        answers: dict[str, Answer] = {}
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                answers[row["key"]] = _answer(row)
            except (KeyError, TypeError, ValueError) as err:
                raise ArtifactError(
                    f"`{self.path}` line {number} is no answer ({err!r}). Remove the line; its request will be sent again."
                ) from err
            end += len(line)
        self._file.truncate(end)
        return answers


def _answer(row: Mapping[str, Any]) -> Answer:
    counts = int(row["num_prompt_tokens"]), int(row["num_tokens"])
    return Answer(str(row["text"]), *counts, row["finish"], problem=str(row.get("problem", "")))
