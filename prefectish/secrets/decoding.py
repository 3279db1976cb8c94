r"""Decoded copies of a text, and where each part of them came from.

What Python, JSON, HTML, URLs, CSV and shells write in place of a character is read back: ``\"``, ``\u00e4``, ``%2F``,
``&amp;``, ``'"'"'``. Encodings lie inside one another (JSON in JSON, an address in a repr), so a text has several
copies, each decoded once more, until nothing changes.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from html import unescape

#: A text is decoded at most so often; no program shows a value in deeper nesting.
DEEPEST = 12
#: A text has at most so many copies: each is read by all encoders together, and by each of them alone.
MOST_COPIES = 24
_HEX = "[0-9A-Fa-f]"
#: A character of several bytes of UTF-8, each written as {0}.
_UTF8 = "(?: {0}[CDcd]H {0}[89ABab]H | {0}[Ee]H (?: {0}[89ABab]H ){{2}} | {0}[Ff][0-4] (?: {0}[89ABab]H ){{3}} )"
_TOKEN = re.compile(
    r"""
      (?P<shell> '"'"' | '\\'' )
    | (?P<percents> PERCENTS ) | (?P<bytes> BYTES )
    | (?P<units> \\u[Dd][89ABab]HH\\u[Dd][C-Fc-f]HH )
    | \\ (?: x (?P<byte>[0-9A-Fa-f]{2}) | u (?P<short>[0-9A-Fa-f]{4}) | U (?P<long>[0-9A-Fa-f]{8})
           | (?P<letter>[abfnrtv]) | (?P<quoted>[^A-Za-z0-9]) )
    | % (?P<percent>[0-9A-Fa-f]{2})
    | (?P<html> & (?: \# [0-9]{1,7} | \# [xX] [0-9A-Fa-f]{1,6} | [A-Za-z][A-Za-z0-9]{1,31} ) ; )
    | (?P<utf8> [\xc2-\xdf][\x80-\xbf] | [\xe0-\xef][\x80-\xbf]{2} | [\xf0-\xf4][\x80-\xbf]{3} )
    | (?P<pair> [\ud800-\udbff][\udc00-\udfff] )
    | (?P<csv> "" )
    | (?P<plus> \+ )
    """.replace("PERCENTS", _UTF8.format("%"))
    .replace("BYTES", _UTF8.format(r"\\x"))
    .replace("H", _HEX),
    re.VERBOSE | re.DOTALL,
)
#: With what a token begins. To look for one of these first is a hundred times as fast as to try every token everywhere.
_FIRST = re.compile("['\"\\\\%&+\xc2-\xf4\ud800-\udbff]")
_LETTERS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


#: Kinds of tokens that one encoder writes. What another one reads as its own is left alone in a copy of its own.
_ENCODERS = (
    frozenset({"shell"}),
    frozenset({"csv"}),
    frozenset({"html"}),
    frozenset({"percents", "percent", "plus"}),
    frozenset({"bytes", "units", "byte", "short", "long", "letter", "quoted"}),
)


class _Step:
    """One decoding: where each piece of the copy begins, and where it began in what was decoded."""

    __slots__ = ("_at", "_is_token", "_source")

    def __init__(self) -> None:
        self._at = array("q")
        self._source = array("q")
        self._is_token = bytearray()

    def add(self, at: int, source: int, is_token: bool) -> None:
        self._at.append(at)
        self._source.append(source)
        self._is_token.append(is_token)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the part of the source that a part of the copy came from."""
        first = bisect_right(self._at, start) - 1
        last = bisect_right(self._at, end - 1) - 1
        begin = self._source[first] + (0 if self._is_token[first] else start - self._at[first])
        if self._is_token[last]:
            return begin, self._source[last + 1]
        return begin, self._source[last] + end - self._at[last]


class Copy:
    """A decoded copy of a text; `text` is what it reads."""

    __slots__ = ("steps", "text")

    def __init__(self, text: str, steps: tuple[_Step, ...]) -> None:
        self.text = text
        self.steps = steps

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the part of the original text that a part of the copy came from."""
        for step in reversed(self.steps):
            start, end = step.span(start, end)
        return start, end


def copies(text: str) -> Iterator[Copy]:
    """Yield the text itself, and then its copies.

    Examples
    --------
    >>> [copy.text for copy in copies("a%2526b")]
    ['a%2526b', 'a%26b', 'a&b']
    >>> list(copies("a%26b"))[1].span(1, 2)
    (1, 4)
    """
    found, seen = [Copy(text, ())], {text}
    for copy in found:
        yield copy
        if len(copy.steps) == DEEPEST:
            continue
        kinds = {str(token.lastgroup) for token in _tokens(copy.text)}
        alone = [own for own in _ENCODERS if kinds & own and kinds - own]
        for own in (None, *alone) if kinds else ():
            decoded, step = _decoded(copy.text, own)
            if decoded not in seen and len(seen) < MOST_COPIES:
                seen.add(decoded)
                found.append(Copy(decoded, (*copy.steps, step)))


def _tokens(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while (first := _FIRST.search(text, at)) is not None:
        token = _TOKEN.match(text, first.start())
        if token is not None:
            yield token
        at = first.end() if token is None else token.end()


def _decoded(text: str, kinds: frozenset[str] | None = None) -> tuple[str, _Step]:
    pieces: list[str] = []
    step = _Step()
    at = done = 0
    for token in _tokens(text):
        if kinds is not None and token.lastgroup not in kinds:
            continue
        start, end = token.span()
        if start > done:
            step.add(at, done, False)
            pieces.append(text[done:start])
            at += start - done
        piece = _read(token)
        step.add(at, start, True)
        pieces.append(piece)
        at += len(piece)
        done = end
    step.add(at, done, False)
    pieces.append(text[done:])
    return "".join(pieces), step


def _read(token: re.Match[str]) -> str:
    """Return what a token stands for; itself if it stands for nothing."""
    kind, whole = token.lastgroup, token[0]
    if kind in ("percents", "bytes"):
        return _of_utf8(bytes(int(code, 16) for code in re.findall("[0-9A-Fa-f]{2}", whole)))
    if kind == "units":
        return _of_pair(chr(int(whole[2:6], 16)) + chr(int(whole[8:], 16)))
    if kind in ("byte", "percent", "short", "long"):
        code = int(token[kind], 16)
        return chr(code) if code <= 0x10FFFF else whole
    if kind == "letter":
        return _LETTERS[token["letter"]]
    if kind == "html":
        return unescape(whole)
    if kind in ("utf8", "pair"):
        return _of_utf8(whole.encode("latin-1")) if kind == "utf8" else _of_pair(whole)
    return {"shell": "'", "csv": '"', "plus": " "}.get(str(kind)) or token["quoted"]


def _of_utf8(content: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return content.decode()
    return content.decode("latin-1")


def _of_pair(pair: str) -> str:
    return pair.encode("utf-16", "surrogatepass").decode("utf-16")
