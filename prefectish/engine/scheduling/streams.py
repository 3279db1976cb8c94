"""What generators have yielded so far: maps over them begin before they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefectish.engine.scheduling.run_state import MapRow, RunState, StepChain, Stream

if TYPE_CHECKING:
    from prefectish.engine.scheduling.changes import Changes
    from prefectish.engine.scheduling.crashes import Suspects
    from prefectish.engine.worker.yielding import Yielded


class Streams:
    """Takes what generators yield."""

    def __init__(self, changes: Changes, suspects: Suspects) -> None:
        self.changes = changes
        self.suspects = suspects
        self.run_state: RunState = changes.run_state
        self._waiting: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self._has_new = False

    def take(self, yielded: Yielded) -> None:
        """Take items; those that are known, and those before which some are missing, are passed over."""
        place = yielded.number, yielded.row
        step_state = self.run_state.step_states[yielded.number]
        children = step_state.children
        if self.run_state.over or children is None or yielded.row >= len(children) or children.has(yielded.row):
            return  # it has ended: what is missing is in its result
        chain = step_state.chain
        map_row = None if chain is None else chain.open_rows.get(yielded.row)
        stream = self.run_state.streams.get(place)
        if stream is None:
            stream = self.run_state.streams[place] = Stream()
            self._has_new = True
            if map_row is not None:
                self.changes.leave_window(map_row)  # what it feeds needs a place while it runs
        new = yielded.items[max(stream.count - yielded.first, 0) :] if yielded.first <= stream.count else ()
        if not new:
            return
        stream.count += len(new)
        if chain is not None and map_row is not None:
            self._clear(chain, map_row)
        if stream.listener is not None:
            stream.listener(new)
        else:
            stream.items.extend(new)
            for tell in self._waiting.pop(place, ()):
                tell()
            self.changes.touch_consumers(step_state)

    def _clear(self, chain: StepChain, map_row: MapRow) -> None:
        """Suspect a generator no longer that got further than it was when it was lost: its items are worked on."""
        if self.suspects.is_current(chain, map_row):
            self.suspects.clear(self.run_state.now.seconds)

    def have_begun(self) -> bool:
        """Whether something was yielded by a generator that had yielded nothing when this was last asked."""
        found, self._has_new = self._has_new, False
        return found

    def once_begun(self, place: tuple[int, int], act: Callable[[], None]) -> Callable[[], None]:
        """Act once something was yielded, which it may never be; return what forgets about it."""
        stream = self.run_state.streams.get(place)
        if stream is not None and stream.count:
            act()
        else:
            self._waiting.setdefault(place, []).append(act)
        return lambda: self._forget(place, act)

    def _forget(self, place: tuple[int, int], act: Callable[[], None]) -> None:
        waiting = self._waiting.get(place, [])
        if act in waiting:
            waiting.remove(act)
        if not waiting:
            self._waiting.pop(place, None)
