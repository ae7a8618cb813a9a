"""What a library's exception says, short enough for an error message of ours."""

import re


def reason(err: BaseException) -> str:
    """Return the first line of a library's error (and the next, if it only announces it), at most 300 plain characters."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip().splitlines() or [type(err).__name__]
    text = " ".join(" ".join(lines[: 2 if lines[0].rstrip().endswith(":") else 1]).split())
    return text if len(text) <= 300 else text[:299] + "…"
