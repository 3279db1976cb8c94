"""The core of a future: the final state of a call, a child of a map, or a map, set once and safe for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefectish.engine.state import Mapped, State
from prefectish.interrupting import Latch

if TYPE_CHECKING:
    from prefectish.engine.scheduling.run_state import StepState

#: Guards the moment at which an outcome becomes known, in all threads; held for an instant.
_LOCK = threading.Lock()


class Settled:
    """The final state of something that runs."""

    __slots__ = (
        "_callbacks",
        "followed",
        "key",
        "label",
        "read",
        "row",
        "slug",
        "sources",
        "state",
        "step_state",
        "waiting",
        "width",
    )

    def __init__(
        self, label: str, step_state: StepState | None = None, row: int | None = None, slug: str | None = None
    ) -> None:
        self.label = label  # what runs, for errors
        self.slug = label if slug is None else slug  # what stands for it in keys until it has a step
        self.step_state = step_state  # the step it belongs to; None as long as the step is not in the plan
        self.row = row  # of the step; None for all of it
        self.state: State | None = None  # final state, None until it is known
        self.width: Any = None  # measure of the result, for maps over it; None if it was not measured
        self.waiting: State | None = None  # a state that waits for an approval (a pause), None if it does not
        self.read = False  # whether its result or state was retrieved, or need not be
        self.followed = False  # whether another call or map reads it or waits for it
        self.key: str | None = None  # key of a call, by its arguments; None if it is not needed
        self.sources: tuple[Settled, ...] = ()  # outcomes that it read or waited for
        self._callbacks: list[Callable[[Settled], None]] = []

    def settle(self, state: State, width: Any = None) -> None:
        """Make the final state known; only the first one counts."""
        with _LOCK:
            if self.state is not None:
                return
            self.width = width
            self.state = state
            self.waiting = None
            if state.is_successful() and not isinstance(state, Mapped):
                self.sources = ()  # they are not the cause of anything
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def ran_again(self, state: State, width: Any) -> None:
        """Make the final state known of something that failed, and that the handle let run again."""
        with _LOCK:
            self.width = width
            self.state = state

    def pause(self, state: State) -> None:
        """Make known that it is paused; callbacks are called now, and again at its end."""
        with _LOCK:
            self.waiting = state
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback(self)

    def then(self, callback: Callable[[Settled], None]) -> None:
        """Call back once the final state is known, from the thread that makes it known; at once if it is known.

        It is called at a pause too.
        """
        with _LOCK:
            if self.state is None:
                self._callbacks.append(callback)
                if self.waiting is None:
                    return
        callback(self)

    def forget(self, callback: Callable[[Settled], None]) -> None:
        """Take a callback back."""
        with _LOCK:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the final state, or a pause, is known; False if `timeout` seconds were too short."""
        if self.state is not None or self.waiting is not None:
            return True
        known = Latch()

        def notify(outcome: Settled) -> None:
            known.set()

        self.then(notify)
        try:
            return known.wait(timeout)
        finally:
            self.forget(notify)
