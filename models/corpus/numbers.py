"""Extraction of numbers from text, for reference answers in `prepare` and for models' responses in `evaluate`.

Recognised: digits of any script, a sign (also `−` and `–`), any currency symbol (Unicode category Sc) before or after the sign
or the number, a leading point, a power of ten (`6e23`), fractions of whole numbers (`5/6`, `½`), also after a whole number
(`1 1/2`, `1½`). What follows (units, `%`, a full stop) does not matter.

- Thousands are grouped by `,` (`1,200`, `1,00,000`), `'`, `٬` or a no-break, thin or narrow no-break space. An ordinary blank
  does not group: `rooms 12 345` are two numbers.
- A comma is the decimal mark where it cannot be anything else: after thousands grouped otherwise (`1.234,56`, `1'234,5`) and in
  a price with cents (`12,50 €`). Two groups after points are thousands: `1.234.567`.
- Ambiguous forms are read the English way: `1.234` is 1 and 234 thousandths, `1,234` is 1234, and a comma
  that groups nothing separates two numbers (`3,14` are 3 and 14).
- A sign counts only where it cannot be a minus between two operands (`5-3`, `10€-5€`), a leading point only where it is not a
  full stop (`No.5`). A fraction belongs to the whole number before it if it is less than one: `3 5/2` are two numbers.
- A time (`3:30`, one or two digits and then two after each colon) is not a number, nor are its parts.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from decimal import Decimal

# Minus signs: hyphen-minus, minus, en dash, full-width and small hyphen-minus.
_MINUS = "-−–－﹣"
_SIGN = rf"[{_MINUS}]"
# Unicode's category Sc, with the whole block of currency symbols, so that later additions to it count as well.
CURRENCY_SYMBOLS = (
    "$¢-¥\u058f\u060b\u07fe\u07ff\u09f2\u09f3\u09fb\u0af1\u0bf9\u0e3f\u17db\u20a0-\u20cf\ua838\ufdfc\ufe69\uff04\uffe0\uffe1\uffe5\uffe6"
    "\U00011fdd-\U00011fe0\U0001e2ff\U0001ecb0"
)
"""The symbols as the inside of a character class of `re`."""
_CURRENCY = rf"[{CURRENCY_SYMBOLS}]"
_SPACES = "\u00a0\u2009\u202f"
_BLANK = rf"[ {_SPACES}]"
_SEPARATORS = f"'’٬{_SPACES}"
_POINTS = ".．٫"
_END = r"(?![.,]?\d)"

_TIME = rf"{_SIGN}?(?:{_CURRENCY}{_BLANK}?)?(?<!\d)\d{{1,2}}(?:[:：]\d\d){{1,2}}(?!\d|[:：]\d)(?:[{_POINTS}]\d+)?"
_MINUS_BEFORE = (
    rf"(?<![\w.)\]}}%‰°{CURRENCY_SYMBOLS}]){_SIGN}(?:{_CURRENCY}{_BLANK}?)?|(?<![\d.)])(?<!\d{_BLANK}){_CURRENCY}{_SIGN}"
)
_DECIMAL_COMMA = "|".join(
    (
        r"\d{1,3}(?:\.\d{3}){2,}(?!\d)(?:,\d+)?",
        rf"\d{{1,3}}\.\d{{3}},\d+{_END}",
        rf"\d{{1,3}}(?:[{_SEPARATORS}]\d{{3}})+,\d+{_END}",
        rf"(?:(?<={_CURRENCY})|(?<={_CURRENCY}{_BLANK}))\d+,\d\d{_END}",
        rf"\d+,\d\d(?={_BLANK}?{_CURRENCY})",
    )
)
# Of lengths that an integer takes in any case.
_PART = r"(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,18})"
_FRACTION = r"\d{1,18}[/⁄]0*[1-9]\d{0,17}(?![\d/⁄]|\.\d)"
_SINGLE_SIGN = "¼-¾⅐-⅞↉"
_WHOLE = rf"(?:\d{{1,3}}(?:[,{_SEPARATORS}]\d{{3}})+(?!\d)|\d{{1,2}}(?:,\d{{2}}){{1,9}},\d{{3}}(?!\d)|\d+)"
_POWER = rf"(?:[eE](?:{_SIGN}|\+)?\d{{1,3}}(?!\w))?"
_ENGLISH = rf"{_WHOLE}(?:[{_POINTS}]\d+)?{_POWER}|(?<![\w.)])\.\d+{_POWER}"
_PATTERN = (
    rf"(?P<time>{_TIME})|(?P<minus>{_MINUS_BEFORE})?(?:(?P<comma>{_DECIMAL_COMMA})"
    rf"|(?<![\d/⁄])(?:(?P<whole>{_PART}){_BLANK})?(?P<fraction>{_FRACTION})"
    rf"|(?:(?P<part>{_PART}){_BLANK}?)?(?P<sign>[{_SINGLE_SIGN}])|(?P<plain>{_ENGLISH}))"
)
_NUMBER = re.compile(_PATTERN)
_MARKED = re.compile(rf"####[^\w#]*?(?:{_PATTERN})")
_WITHOUT_GROUPS = str.maketrans(dict.fromkeys("," + _SEPARATORS) | dict.fromkeys(_POINTS, ".") | dict.fromkeys(_MINUS, "-"))
_COMMA_AS_POINT = str.maketrans(dict.fromkeys("." + _SEPARATORS) | {",": "."})


def number_in(text: str) -> str | None:
    """Return the number that is a text's answer, in plain form (`-1200.50`, `5/6`, `1e-3`), or None if there is none.

    It is the number after the first `####` (the answer mark of GSM8K) that has one, else the last number of the text; None if
    that mark is followed by a time. The plain form parses to the same number.
    """
    marked = _MARKED.search(text)
    if marked:
        return next(_readings(marked), None)
    last = deque((number for match in _NUMBER.finditer(text) for number in _readings(match)), maxlen=1)
    return last[0] if last else None


def last_number(text: str) -> Decimal | None:
    """Return the value of `number_in(text)`: `$1,200.00` equals `1200`, `1 1/2` equals `1.5`; None if there is no number."""
    number = number_in(text)
    if number is None:
        return None
    numerator, _, denominator = number.partition("/")
    return Decimal(numerator) / Decimal(denominator) if denominator else Decimal(numerator)


def _readings(match: re.Match[str]) -> Iterator[str]:
    """Yield a match's numbers in plain form: none for a time, two for a whole number before a fraction greater than one."""
    if match["time"]:
        return
    minus = "-" if match["minus"] else ""
    if match["comma"]:
        yield minus + _ascii(match["comma"].translate(_COMMA_AS_POINT))
    elif match["plain"]:
        digits = _ascii(match["plain"].translate(_WITHOUT_GROUPS))
        yield minus + ("0" + digits if digits.startswith(".") else digits)
    else:
        fraction = _ascii(unicodedata.normalize("NFKC", match["sign"] or match["fraction"]).replace("⁄", "/"))
        whole = _ascii((match["whole"] or match["part"] or "").replace(",", ""))
        numerator, denominator = (int(part) for part in fraction.split("/"))
        if whole and numerator < denominator:
            yield f"{minus}{int(whole) * denominator + numerator}/{denominator}"
        elif whole:
            yield from (minus + whole, fraction)
        else:
            yield minus + fraction


def _ascii(number: str) -> str:
    return "".join(str(int(sign)) if sign.isdecimal() else sign for sign in number)
