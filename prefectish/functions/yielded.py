"""What calls of a flow function yield while they run, for maps over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.scheduling.items import pulled_item
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.state import Failed, Mapped, State, Success
from prefectish.functions.claims import ResultClaims
from prefectish.functions.dynamic_plan import DynamicPlan
from prefectish.functions.settled import Settled
from prefectish.tasks.collections import Constant

#: Stands for the task of the items.
_ITEMS = Constant(None, "value")


class YieldedSteps:
    """Steps whose rows come up with the items that calls yield, and end with the calls."""

    def __init__(self, progress: Progress, dynamic_plan: DynamicPlan, claims: ResultClaims) -> None:
        self._streams = progress.streams
        self._run_state = progress.run_state
        self._changes = progress.changes
        self._dynamic_plan = dynamic_plan
        self._claims = claims
        self._steps: dict[tuple[int, int], StepState] = {}  # of calls that are open or have failed, by their places

    def once_begun(self, outcome: Settled, start: Callable[[], None], pause: Callable[[Settled], None]) -> None:
        """Act once a call has yielded something, or has ended; it may pause before."""
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun and not self._run_state.over:
                begun = True
                start()

        def tell(outcome: Settled) -> None:
            if outcome.state is None:
                pause(outcome)
            else:
                forget()
                begin()

        forget = self._streams.once_begun(_place(outcome), begin)
        outcome.then(tell)

    def has_failed(self, outcome: Settled) -> bool:
        """Whether a call has yielded something that is known, and failed then."""
        state, place = outcome.state, _place(outcome)
        if state is None or (state.is_successful() and not state.is_skipped()):
            return False
        return place in self._steps or (place in self._run_state.streams and self._run_state.streams[place].count > 0)

    def step_of(self, name: TaskName, outcome: Settled) -> StepState:
        """Return the step for what a call yields that is open, or has failed; it has yielded something."""
        place = _place(outcome)
        if place in self._steps:
            return self._steps[place]
        step_state = self._dynamic_plan.add_literal(_ITEMS, name, Mapped("Items."), stands_in=True, is_final=False)
        self._dynamic_plan.add_own_domain(step_state)
        self._steps[place] = step_state
        self._claims.claim((outcome,))
        is_open = True

        def take(items: Sequence[Any]) -> None:
            self._add(step_state, map(_state_of, items))

        def end(ended: Settled) -> None:
            nonlocal is_open
            if ended.state is not None and is_open:
                is_open = False
                if ended.state.is_successful() and not ended.state.is_skipped():
                    del self._steps[place]  # a later map reads its result
                self._add(step_state, _rest_of(ended.state, len(step_state.children or ())))
                self._close(step_state)
                self._claims.unclaim((outcome,))

        self._run_state.streams[place].listen(take)
        outcome.then(end)
        return step_state

    def _add(self, step_state: StepState, states: Any) -> None:
        for state in states:
            self._changes.add_calls(step_state, 1)
            self._changes.finish_row(step_state, len(step_state.children or ()) - 1, state, None)

    def _close(self, step_state: StepState) -> None:
        map_state = step_state.map_state
        assert map_state is not None
        self._changes.close_map(map_state)
        for member in list(map_state.members):
            self._changes.finish_step(member)


def _place(outcome: Settled) -> tuple[int, int]:
    assert outcome.step_state is not None and outcome.row is not None
    return outcome.step_state.step.number, outcome.row


def _state_of(item: Any) -> State:
    found = pulled_item(item)
    return found if isinstance(found, State) else Success(None, found)


def _rest_of(state: State, count: int) -> list[State]:
    """Return the items of a list that a call returned, from a position on; its state if it failed, or was skipped."""
    if not state.is_successful() or state.is_skipped():
        return [state]
    read = capture(lambda: list(state.result)[count:])
    if isinstance(read, Value):
        return list(map(_state_of, read.value))
    return [Failed(f"what was yielded could not be read: {read.exception!r}", read.exception)]
