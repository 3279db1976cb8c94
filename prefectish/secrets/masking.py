"""Replace secret values in texts by ``****``.

A value is masked once its secret was resolved in this process. Texts are masked before they are cut, so
that no part of a value remains. As long as no secret was resolved, masking costs one check of a variable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

#: Replacement for a value.
MASK = "****"
#: Shorter values are not masked, since they occur in ordinary text.
MIN_LENGTH = 4
#: Words of JSON, which are not masked.
_WORDS = frozenset({"true", "false", "null", "none"})

_lock = threading.Lock()
_known: frozenset[str] = frozenset()
#: Matches what is masked; None as long as nothing is.
pattern: re.Pattern[str] | None = None


def register(value: Any) -> None:
    """Mask a value from now on: a string, or each string in a list or dict of any depth.

    Parameters
    ----------
    value
        The secret. Strings of fewer than :data:`MIN_LENGTH` characters, booleans and None are not masked.
    """
    with _lock:
        fresh = [text for text in _texts(value) if text not in _known]
        new = {form for text in fresh for form in _forms(text) if len(form) >= MIN_LENGTH} - _known
        if new:
            _compile(_known | new)


def known() -> frozenset[str]:
    """Return all masked texts, to be registered in another process."""
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
    """Mask secrets in a string, or in a list, tuple, set or dict with strings at any depth."""
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
    """Yield the strings in a part of a secret; its numbers are ports and versions, not secrets."""
    if not isinstance(value, int | float):
        yield from _texts(value)


def _forms(text: str) -> Iterable[str]:
    """Yield the forms in which a text may appear: as is, quoted by Python or JSON, or in a URL."""
    from json import dumps
    from urllib.parse import quote, quote_plus

    text = text.strip()
    if text.lower() in _WORDS:
        return
    safe = text.encode("utf-8", "replace")  # a lone surrogate cannot be quoted in a URL
    yield from (text, repr(text)[1:-1], dumps(text)[1:-1], quote(safe, safe=""), quote_plus(safe))
    lines = text.splitlines()
    if len(lines) > 1:  # logs show a multi-line key line by line
        yield from (line.strip() for line in lines if len(line.strip()) >= 2 * MIN_LENGTH)


def _compile(texts: frozenset[str]) -> None:
    import re

    global _known, pattern
    longest_first = sorted(texts, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(re.escape(form) for form in longest_first))
    _known = texts
