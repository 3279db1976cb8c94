"""Names for the cases of a test: the same in every process, so without addresses, and with sets in order."""

from __future__ import annotations

import re
from typing import Any


def label(value: Any) -> str:
    """Return the repr of a value as any other process would give it.

    Examples
    --------
    >>> label(object()), label({"tags": frozenset("ba")})
    ('<object object>', "{'tags': {'a', 'b'}}")
    """
    return re.sub(r" at 0x[0-9a-f]+", "", _shown(value))


def _shown(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_shown, value)))}}}"
    if type(value) is dict:
        return f"{{{', '.join(f'{_shown(key)}: {_shown(member)}' for key, member in value.items())}}}"
    if type(value) is list:
        return f"[{', '.join(map(_shown, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_shown, value))})"
    return repr(value)
