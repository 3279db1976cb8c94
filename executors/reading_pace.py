"""When a session on a cluster reads what is done: values are read in groups, and keys are polled in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import Key
from prefectish.executors.open_keys import OpenKey
from prefectish.executors.waker import Waker

#: Keys collected at once, if there are as many, at least and for each thread: they share what reading costs. That is
#: about 3 ms with two workers, over all processes, and more with each further one, for all are asked.
_GROUP = 250
_GROUP_OF_THREAD = 16
#: Longest time that finished children wait for more of their group, in seconds for each open key, and at most.
_GROUP_WAIT = 1e-3
_MAX_GROUP_WAIT = 1.0
#: The same in a run with a map that a failure stops, and in one with calls of a flow function, which may wait for them.
MAX_STOP_WAIT = 0.025
MAX_CALL_WAIT = 0.1
#: Time between polls of the open keys, in seconds a key: polling one costs a hundredth of that.
_POLL_INTERVAL = 25e-6
_MAX_POLL_INTERVAL = 0.025
#: Open keys above which the session polls instead of waiting for the next one.
_POLLED_KEYS = 16
#: Longest wait for the next key to be done, in seconds: losses are looked for after it.
_LONGEST_PAUSE = 0.5


class ReadingPace:
    """Says when to read the keys that are done, and waits in between.

    Parameters
    ----------
    waker
        Ends a wait from another thread.
    threads
        Of the cluster.
    """

    def __init__(self, connection: Connection, waker: Waker, threads: int) -> None:
        self._connection = connection
        self._waker = waker
        self._group = max(_GROUP, _GROUP_OF_THREAD * threads)
        self._max_wait = _MAX_GROUP_WAIT
        self._waiting_since: float | None = None  # since when something is done that was not read

    def wait_at_most(self, seconds: float) -> None:
        """Let what is done wait no longer for more of its group than so many seconds."""
        self._max_wait = min(self._max_wait, seconds)

    def is_time(self, ready: Sequence[Key], open_keys: Mapping[Key, OpenKey], now: float) -> bool:
        """Whether to read what is done now: a group is complete, or it has waited long enough for one."""
        since = self._waiting_since = self._waiting_since or now
        patience = min(self._max_wait, _GROUP_WAIT * len(open_keys))
        if not self._is_group(ready, open_keys) and now - since <= patience:
            return False
        self._waiting_since = None
        return True

    def pause(self, open_keys: Mapping[Key, OpenKey], end: float | None, now: float) -> None:
        """Wait until one of the open keys may be done, or until `end`."""
        left = _LONGEST_PAUSE if end is None else min(_LONGEST_PAUSE, end - now)
        if len(open_keys) > _POLLED_KEYS:
            self._waker.sleep(min(left, _POLL_INTERVAL * len(open_keys), _MAX_POLL_INTERVAL))
        elif open_keys:
            self._connection.wait_any([entry.future for entry in open_keys.values()], left, self._waker)
        else:
            self._waker.sleep(left)

    def _is_group(self, ready: Sequence[Key], open_keys: Mapping[Key, OpenKey]) -> bool:
        """Whether keys that are done are a group, or one of them is a single task or a batch that others wait for."""
        if len(ready) >= min(self._group, len(open_keys) // 4 + 1):
            return True
        entries = map(open_keys.__getitem__, ready)
        return any(entry.position is None or entry.jobs[0].index < 0 for entry in entries)
