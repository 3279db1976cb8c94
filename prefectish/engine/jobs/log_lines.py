r"""Lines that one attempt logged: how many are kept, and in which form.

Examples
--------
>>> lines = LogLines()
>>> for number in range(4 * KEPT):
...     lines.add(LogLine(0.0, 20, None, str(number)))
>>> kept = lines.all()
>>> kept[0].text, kept[KEPT].text, kept[-1].text
('0', '... dropped 1000 lines ...', '1999')
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from logging import WARNING
from typing import NamedTuple

#: Lines kept from the beginning of an attempt, and as many from its end.
KEPT = 500
#: Characters of a line, and of the traceback below it, at most.
LONGEST_LINE = 4_000
LONGEST_TRACEBACK = 10_000
#: What could move a cursor, begin a line or turn text round: controls save the tab, separators, marks of direction.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_BLOCK = re.compile(_UNSAFE.pattern.replace("\x0a-", "\x0b-"))


class LogLine(NamedTuple):
    """One line of a log.

    Attributes
    ----------
    at
        Seconds since the epoch.
    level
        Number of the level, as in :mod:`logging`.
    logger
        Name of the logger; None for the task's own.
    text
        One line.
    traceback
        The text of a traceback below it.
    """

    at: float
    level: int
    logger: str | None
    text: str
    traceback: str | None = None


class LogLines:
    """The lines of one attempt, the first and the last :data:`KEPT` of them."""

    __slots__ = ("_dropped", "_first", "_last")

    def __init__(self) -> None:
        self._first: list[LogLine] = []
        self._last: deque[LogLine] = deque(maxlen=KEPT)
        self._dropped = 0

    def add(self, line: LogLine) -> None:
        """Keep a line; one in the middle goes again when enough have come after it."""
        if len(self._first) < KEPT:
            self._first.append(line)
            return
        if len(self._last) == KEPT:
            self._dropped += 1
        self._last.append(line)

    def all(self) -> tuple[LogLine, ...]:
        """Return the kept lines, with a line between them that counts those that were dropped."""
        if not self._dropped:
            return (*self._first, *self._last)
        mark = LogLine(self._last[0].at, WARNING, None, f"... dropped {self._dropped} lines ...")
        return (*self._first, mark, *self._last)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    r"""Return text as one line of a log: control characters are shown as escapes, what is too long is cut.

    Examples
    --------
    >>> print(one_line("ok" + chr(10) + "2026-01-01 INFO forged"))
    ok\n2026-01-01 INFO forged
    """
    if len(text) > longest:
        text = f"{text[:longest]}… (cut, {len(text)} characters)"
    return text if text.isprintable() else _UNSAFE.sub(_escaped, text)


def block(text: str, longest: int = LONGEST_TRACEBACK) -> str:
    """Return text of several lines that cannot be mistaken for lines of a log: they are indented, and escaped."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}\n… (cut, {len(text)} characters)\n{text[-longest // 2 :]}"
    return "\n".join(_indented(_UNSAFE_IN_BLOCK.sub(_escaped, text).split("\n")))


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" if line else line for line in lines)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
