"""Safe names of stored results: parts joined by slashes that mean the same on every system.

A name is rejected if some system would read it as another place (``..``, ``/etc``, ``C:``, a backslash), as a device
(``CON``) or could not use it (NUL, trailing dots). It is rejected on all systems, so that a store can be moved.
"""

from __future__ import annotations

import re

#: Maximum length of a part in bytes of UTF-8; file systems allow 255.
MAX_PART_BYTES = 200
#: Maximum length of a name in bytes; object stores allow 1,024, including the prefix of the store.
MAX_NAME_BYTES = 900
#: Suffix of temporary files that are being written or were left behind.
UNFINISHED_SUFFIX = ".tmp"
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


def checked(name: str) -> str:
    """Return a name if it is safe.

    Raises
    ------
    ValueError
        ``unsafe name 'a/../b': ...``.

    Examples
    --------
    >>> checked("census/load-1/eu.pickle")
    'census/load-1/eu.pickle'
    >>> checked("../secret")
    Traceback (most recent call last):
    ValueError: unsafe name '../secret': its part '..' is not allowed; parts are joined by single slashes
    """
    if not isinstance(name, str):
        raise ValueError(f"unsafe name {name!r}: must be a string, got {type(name).__name__}")
    for part in name.split("/"):
        reason = _fault_of(part)
        if reason:
            raise ValueError(f"unsafe name {_cut_repr(name)}: its part {_cut_repr(part)} {reason}")
    if re.match(r"[A-Za-z]:", name):
        raise ValueError(f"unsafe name {_cut_repr(name)}: it begins with a drive")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"unsafe name {_cut_repr(name)}: it is longer than {MAX_NAME_BYTES} bytes")
    return name


def _fault_of(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "is not allowed; parts are joined by single slashes"
    if _CONTROL.search(part):
        return "has a control character or a backslash"
    if _DEVICES.match(part):
        return "is a device on Windows"
    if part[-1] in ". " or part.endswith(UNFINISHED_SUFFIX):
        return f"ends with a dot, a space or {UNFINISHED_SUFFIX}"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"is longer than {MAX_PART_BYTES} bytes"
    return None


def _cut_repr(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}…"


def shortened(name: str) -> str:
    """Cut parts that are too long, and append a hash of the whole part to keep them distinct."""
    return "/".join(map(_shorten_part, name.split("/")))


def _shorten_part(part: str) -> str:
    content = part.encode("utf-8", "surrogatepass")
    if len(content) <= MAX_PART_BYTES:
        return part
    from hashlib import blake2b

    mark = "~" + blake2b(content, digest_size=8).hexdigest()
    return content[: MAX_PART_BYTES - len(mark)].decode("utf-8", "ignore") + mark


def quoted(text: str) -> str:
    """Encode any text as one part of a name, without collisions.

    Examples
    --------
    >>> quoted("eu-1.csv"), quoted("a/b"), quoted("../x"), quoted("CON")
    ('eu-1.csv', 'a%2Fb', '%2E.%2Fx', '%43ON')
    """
    safe = "".join(c if c.isalnum() or c in "-_.=+@,# " else _escaped(c) for c in text) or "%"
    if safe[0] in ". " or _DEVICES.match(safe):
        safe = _escaped(safe[0]) + safe[1:]
    if safe[-1] in ". ":
        safe = safe[:-1] + _escaped(safe[-1])
    if safe.endswith(UNFINISHED_SUFFIX):
        safe = f"{safe[:-1]}{_escaped(safe[-1])}"
    return _shorten_part(safe)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
