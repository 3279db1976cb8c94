"""Which texts are secret in this process, and how they are replaced by ``****``.

A value is known here from the moment a secret was resolved in this process. Texts are masked before they are cut, so
that no half of a value stays. As long as no secret was resolved, masking costs one look at a variable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

#: What stands in the place of a value.
MASK = "****"
#: Shorter values are not masked: every other word would be.
MIN_LENGTH = 4
#: Words of JSON, which are not masked.
_WORDS = frozenset({"true", "false", "null", "none"})

_lock = threading.Lock()
_known: frozenset[str] = frozenset()
#: Matches what is masked; None as long as nothing is.
pattern: re.Pattern[str] | None = None


def register(value: Any) -> None:
    """Mask a value from now on: a text, or each text in a list or dict of any depth.

    Parameters
    ----------
    value
        Of a secret. Texts of fewer than :data:`MIN_LENGTH` characters are not masked, nor are truth values and None.
    """
    with _lock:
        fresh = [text for text in _texts(value) if text not in _known]
        new = {form for text in fresh for form in _forms(text) if len(form) >= MIN_LENGTH} - _known
        if new:
            _compile(_known | new)


def known() -> frozenset[str]:
    """Return what is masked, for a process that carries on with this one's work."""
    return _known


def mask(text: str) -> str:
    """Return a text without the values of secrets.

    Examples
    --------
    >>> mask("nothing to hide")
    'nothing to hide'
    """
    return text if pattern is None else pattern.sub(MASK, text)


def masked(value: Any) -> Any:
    """Return a text, or a list, tuple, set or dict with texts at any depth, without the values of secrets."""
    if pattern is None:
        return value
    if type(value) is str:
        return mask(value)
    if type(value) is bytes:
        text = value.decode("latin-1")
        return value if (hidden := mask(text)) == text else hidden.encode("latin-1")
    if type(value) in (list, tuple, set, frozenset):
        parts = [masked(part) for part in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else type(value)(parts)
    if type(value) is dict:
        return {masked(key): masked(part) for key, part in value.items()}
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _parts(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _parts(part)


def _parts(value: Any) -> Iterator[str]:
    """Yield the texts in a part of a secret; its numbers are ports and versions, not secrets."""
    if not isinstance(value, int | float):
        yield from _texts(value)


def _forms(text: str) -> Iterable[str]:
    """Return the ways in which a text appears in others: as it is, quoted by Python, JSON and in an address."""
    from json import dumps
    from urllib.parse import quote, quote_plus

    text = text.strip()
    if text.lower() in _WORDS:
        return
    safe = text.encode("utf-8", "replace")  # a lone surrogate has no address
    yield from (text, repr(text)[1:-1], dumps(text)[1:-1], quote(safe, safe=""), quote_plus(safe))
    lines = text.splitlines()
    if len(lines) > 1:  # logs and terminals show a key line by line
        yield from (line.strip() for line in lines if len(line.strip()) >= 2 * MIN_LENGTH)


def _compile(texts: frozenset[str]) -> None:
    import re

    global _known, pattern
    longest_first = sorted(texts, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(re.escape(form) for form in longest_first))
    _known = texts
