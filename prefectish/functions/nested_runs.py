"""Flows that a flow function calls: each is a run of its own, which is continued when the one around it is resumed."""

from __future__ import annotations

import threading
from collections import Counter
from importlib import import_module
from typing import Any

from prefectish.engine.driver.options import RunOptions, RunOrigin


class NestedRuns:
    """Gives the runs that are called their place in the history of the one that calls them.

    Parameters
    ----------
    resumed
        The recorded run that is resumed by the one that calls; None for a new one.
    """

    def __init__(self, resumed: Any) -> None:
        self._resumed = resumed
        self._called: Counter[str] = Counter()  # how often each flow was called, by name
        self._lock = threading.Lock()

    def options_of(self, flow_name: str, options: RunOptions, caller: str | None) -> RunOptions:
        """Return the options of a run that is called: a new one, or the one that this call began before.

        The n-th call of a flow continues its n-th run. Calls of tasks are found by their arguments, so another run than
        the right one costs time, and gives no wrong result. A flow with retries has several runs a call, and is begun
        anew.
        """
        is_own = options.resumption is None and options.run_id is None and options.origin is None
        if caller is None or not is_own or options.history is False or options.retries:
            return options
        if self._resumed is not None:
            with self._lock:
                place = self._called[flow_name]
                self._called[flow_name] += 1
            before = import_module("prefectish.history.nested_runs").called_by(caller, flow_name, options.history)
            if place < len(before):
                old = self._resumed
                load = import_module("prefectish.history.resume").resumption
                again = load(before[place], options.history, old.retry_failed, old.force, old.chosen)
                return options._replace(resumption=again)
        return options._replace(origin=RunOrigin(parent=caller))
