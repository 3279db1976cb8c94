"""The bytes of a chain, with its functions: sent with every call, or once, in a key of their own.

All calls that read a key wait until a thread has made it, and Dask moves branches between workers more often. A map of
a hundred thousand children needs one for all but small bytes. A job that comes alone carries larger ones, too: behind
the key it would begin a round of bodies later than its turn is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefectish.engine.wire.pack import HEAVY

#: Bytes up to this size are sent with every call. A third of them may be lines of source.
SMALL = 6144


class ChainBytes:
    """What stands for the bytes of a chain in graphs.

    Parameters
    ----------
    send
        Sends bytes, and returns the future of their key.

    Attributes
    ----------
    are_small
        Whether they are sent with every call.
    """

    def __init__(self, payload: bytes, send: Callable[[bytes], Any]) -> None:
        self.are_small = len(payload) <= SMALL
        self._payload = payload
        self._send = send
        self._key: Any = None
        self._carried = 0

    def reference(self, alone: bool) -> Any:
        """Return the bytes or their future, for some jobs or for one that comes alone.

        A job that comes alone carries them as long as their key is not made, up to a bound for all of these jobs. The
        first one needs no key: there may be no second.
        """
        if self.are_small:
            return self._payload
        carries = alone and self._carried + len(self._payload) <= HEAVY
        if self._key is None and (self._carried or not carries):
            self._key = self._send(self._payload)
        if carries and (self._key is None or self._key.status == "pending"):
            self._carried += len(self._payload)
            return self._payload
        return self._key
