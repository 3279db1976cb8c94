"""Names for the cases of a test: the same in every process, so no addresses."""

from __future__ import annotations

import re
from typing import Any


def label(value: Any) -> str:
    """Return the repr of a value without addresses of memory.

    Examples
    --------
    >>> label(object())
    '<object object>'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
