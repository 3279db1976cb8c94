"""Replace secret values in texts by ``****``.

A value is masked once its secret was resolved in this process, however it is written there: it is looked for in the
text and in decoded copies of it (:mod:`prefectish.secrets.decoding`). Texts are masked before they are cut, so
that no part of a value remains. As long as no secret was resolved, masking costs one check of a variable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
        new = {part for text in _texts(value) for part in _secret_parts(text)} - _known
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
    return text if pattern is None else _without(text, pattern)


def _without(text: str, secret: re.Pattern[str]) -> str:
    from prefectish.secrets.decoding import copies

    spans = sorted({copy.span(*found.span()) for copy in copies(text) for found in secret.finditer(copy.text)})
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            pieces += text[done:start], MASK
        done = max(done, end)
    return "".join([*pieces, text[done:]]) if spans else text


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


def _secret_parts(text: str) -> Iterator[str]:
    """Yield what is masked of a text: all of it, and its lines, since logs show a key line by line."""
    text = text.strip()
    if text.lower() not in _WORDS and len(text) >= MIN_LENGTH:
        yield text
        lines = text.splitlines()
        if len(lines) > 1:
            yield from (line.strip() for line in lines if len(line.strip()) >= 2 * MIN_LENGTH)


def _forms_of(text: str) -> set[str]:
    """Return how a value may read: as it is and, if it looks encoded itself, decoded."""
    from prefectish.secrets.decoding import copies

    forms = {copy.text.strip() for copy in copies(text)}
    return {form for form in forms if len(form) >= MIN_LENGTH and form.lower() not in _WORDS}


def _compile(texts: frozenset[str]) -> None:
    import re

    global _known, pattern
    forms = {form for text in texts for form in _forms_of(text)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(re.escape(form) for form in longest_first))
    _known = texts
