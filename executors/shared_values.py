"""Large arguments that several calls of a flow function have in common: they are sent once.

Values are compared by what they are pickled to, not by identity: a list that was changed between two calls is another
value, and so is one that has come to the place in memory of a list that is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from hashlib import sha256
from typing import Any

from prefectish.engine.jobs.envelope import Encoded

#: Values whose references are kept for further calls; those that calls are still to read stay anyway.
_KEPT = 4
#: Values that were seen once, and are known again.
_KNOWN = 64


class SharedValues:
    """References to the large arguments of calls.

    Parameters
    ----------
    send
        Sends a value, and returns what stands for it in a graph.
    first
        What stands for a value that was not seen before; `send` too by default.
    """

    def __init__(self, send: Callable[[Any], Any], first: Callable[[Any], Any] | None = None) -> None:
        self._send = send
        self._first = first
        self._references: OrderedDict[Hashable, Any] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def reference(self, value: Any) -> Any:
        """Return what stands for a value in a graph."""
        if not isinstance(value, Encoded | str | bytes):
            return self._send(value)
        key = value if isinstance(value, str | bytes) else _fingerprint(value)
        with self._lock:
            return self._known(key, value)

    def _known(self, key: Hashable, value: Any) -> Any:
        found = self._references.get(key)
        if found is None:
            if self._first is not None and self._is_new(key):
                return self._first(value)
            found = self._references[key] = self._send(value)
            while len(self._references) > _KEPT:
                self._references.popitem(last=False)
        else:
            self._references.move_to_end(key)
        return found

    def _is_new(self, key: Hashable) -> bool:
        hint = hash(key)  # the text itself is not kept, and a mistake costs little
        if hint in self._seen:
            return False
        self._seen[hint] = None
        while len(self._seen) > _KNOWN:
            self._seen.popitem(last=False)
        return True

    def forget(self) -> None:
        """Send values anew: one of them was lost."""
        with self._lock:
            self._references.clear()


def _fingerprint(value: Encoded) -> tuple[str, bytes]:
    """Return the hash of the bytes of a value; buffers are not copied."""
    content = sha256(value.head)
    for buffer in value.buffers:
        content.update(buffer)
    return type(value).__name__, content.digest()
