"""responses.jsonl: the answers of one source to one shard of prompts."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from models.schema import Response

NAME = "responses.jsonl"


def write_responses(folder: Path, responses: Iterable[Response]) -> None:
    """Write the answers, one JSON object a line."""
    with (folder / NAME).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in responses)


def read_responses(folder: Path) -> list[Response]:
    """Return the answers of the shard in `folder`."""
    with (folder / NAME).open(encoding="utf-8") as file:
        return [Response(**json.loads(line)) for line in file]


def answers_by_prompt(folders: Iterable[Path]) -> dict[str, list[Response]]:
    """Return example id → the answers that the folders hold to it, in their order."""
    found: dict[str, list[Response]] = {}
    for folder in folders:
        for response in read_responses(folder):
            found.setdefault(response.id, []).append(response)
    return found
