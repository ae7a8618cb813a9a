"""The one reading of numbers in texts: what `prepare` keeps as a row's answer and what `evaluate` reads in a model's response.

Read as a number: digits of any script, thousands separators (`1,200`, `1'200`, `1,00,000`), a sign (also `−` and `–`), a
currency before or behind the sign, a leading point, a power of ten (`6e23`) and a fraction of whole numbers (`5/6`). What follows
(units, `%`, a full stop) does not matter. A sign counts only where it cannot be a minus between two operands (`5-3`), a leading
point only where it is no full stop (`No.5`). Blanks do not group digits: `rooms 12 345` are two numbers.
"""

import re
from collections import deque
from decimal import Decimal

# Minus signs: hyphen-minus, minus, en dash, full-width and small hyphen-minus.
_MINUS = "-−–－﹣"
_SIGN = rf"[{_MINUS}]"
_CURRENCY = r"[$€£¥₹]?"
# A comma, an apostrophe, or a blank that is made for this: no-break, thin, narrow no-break.
_SEPARATORS = ",'’\u00a0\u2009\u202f"
_WHOLE = rf"(?:\d{{1,3}}(?:[{_SEPARATORS}]\d{{3}})+(?!\d)|\d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)|\d+)"
_POWER = rf"(?:[eE](?:{_SIGN}|\+)?\d{{1,3}}(?!\w))?"
_FRACTION = r"(?<![\d/])\d{1,18}/0*[1-9]\d{0,17}(?![\d/]|\.\d)"
_PLAIN = rf"(?:{_FRACTION}|{_WHOLE}(?:\.\d+)?{_POWER})"
_POINT = rf"\.\d+{_POWER}"
_NUMBER = re.compile(rf"(?<![\w.)])(?:{_SIGN}{_CURRENCY}|[$€£¥₹]{_SIGN})(?:{_PLAIN}|{_POINT})|(?<![\w.)]){_POINT}|{_PLAIN}")
_MARKED = re.compile(rf"####[^\w#]*?({_NUMBER.pattern})")
_DROPPED = str.maketrans({**dict.fromkeys(_SEPARATORS + "$€£¥₹"), **dict.fromkeys(_MINUS, "-")})


def number_in(text: str) -> str | None:
    """Return the number that is a text's answer, in plain form (`-1200.50`, `5/6`, `1e-3`), or None where there is none.

    It is the number behind the first `####` (the answer mark of GSM8K) that has one, else the last number of the text. The plain
    form is read as the same number again.
    """
    marked = _MARKED.search(text)
    if marked:
        return _plain(marked.group(1))
    last = deque(_NUMBER.finditer(text), maxlen=1)
    return _plain(last[0].group()) if last else None


def last_number(text: str) -> Decimal | None:
    """Return the value of `number_in(text)`: `$1,200.00` equals `1200`, `1/2` equals `.5`; None where there is no number."""
    number = number_in(text)
    if number is None:
        return None
    numerator, _, denominator = number.partition("/")
    return Decimal(numerator) / Decimal(denominator) if denominator else Decimal(numerator)


def _plain(number: str) -> str:
    signs = number.translate(_DROPPED)
    digits = "".join(str(int(sign)) if sign.isdecimal() else sign for sign in signs)
    return re.sub(r"^(-?)\.", r"\g<1>0.", digits)
