"""Failed children run again while their map is open, and with them what followed them in their rows.

A child can run again as long as its map is open: then nothing that reads the map as a whole has begun. What its failure
made of the same item further down (a trigger that failed, a body that ran all the same) is taken back, and runs again
too. Where that is not possible the error says why, and that ``flow.resume(run_id, retry_failed=True)`` is the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import STEP
from prefectish.engine.jobs.references import Discarded, Held
from prefectish.engine.scheduling.causes import described
from prefectish.engine.scheduling.changes import Notify
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.reduction_chain import ReductionChain
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.scheduling.run_state import StepChain, StepState
from prefectish.engine.state import Retrying, State, TriggerFailed
from prefectish.engine.worker.attempt_context import BEFORE_TURN
from prefectish.errors import RemoteError
from prefectish.exception_classes import can_be_of
from prefectish.kinds import is_a

#: Jobs of one row get numbers of their own each time the row is taken back: no key may be used twice.
SUBMISSIONS = 1 << 20


class CannotRetry(Exception):
    """Says why failed children cannot run again in this run."""


def chooser(where: Any) -> Callable[[int, State], bool]:
    """Return what picks failed children by row and state.

    Parameters
    ----------
    where
        None for all that failed by themselves; an exception type, or several; the name of one; a function of the state;
        a group of failures from the history.

    Raises
    ------
    TypeError
        It is nothing of that kind.
    """
    if where is None:
        return lambda row, state: not isinstance(state, TriggerFailed)
    if isinstance(where, str):
        return lambda row, state: described(state)[0] == where
    types = where if isinstance(where, tuple) else (where,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        return lambda row, state: _is_of(state, types)
    if callable(where):
        return lambda row, state: bool(where(state))
    if hasattr(where, "children"):
        rows = {child.index for child in where.children}
        return lambda row, state: row in rows
    raise TypeError(
        f"where must be an exception type, its name, a function of the state, or a group of failures, got {where!r}"
    )


def _is_of(state: State, types: tuple[type[BaseException], ...]) -> bool:
    """Whether a failure is of one of some types: of what is known in words only, whether it may be."""
    result = state.result
    if is_a(result, types):
        return True
    name, text = described(state)
    if is_a(result, BaseException) and not is_a(result, RemoteError):
        return any(_is_made_again(kind, type(result)) for kind in types)
    traceback = result.traceback if is_a(result, RemoteError) else None
    return any(can_be_of(kind, name, text, traceback) for kind in types)


def _is_made_again(kind: type, other: type) -> bool:
    """Whether a class is another one, or a base of it, after its module was run again, as cells of a notebook are."""
    return (kind.__module__, kind.__qualname__) in ((each.__module__, each.__qualname__) for each in other.__mro__)


def chooser_in_run(where: Any) -> Callable[[str, int | None, State], bool]:
    """Return what picks failed children of all tasks by slug, row and state; `where` is as for :func:`chooser`."""
    if hasattr(where, "children"):
        places = {(child.slug, child.index or 0) for child in where.children}
        return lambda slug, row, state: (slug, row) in places
    chosen = chooser(where)
    return lambda slug, row, state: row is not None and chosen(row, state)


class FailedRetrier:
    """Takes back what failed."""

    def __init__(self, rows: Rows, notify: Notify) -> None:
        self.run_state = rows.run_state
        self.changes = rows.changes
        # Not the one of `changes`, which may hold transitions against the table: a request takes back any failed state,
        # that of a trigger too.
        self._notify = notify
        self.rows = rows
        self._times: dict[tuple[int, int], int] = {}

    def retry(self, slug: str, chosen: Callable[[int, State], bool], now: Now) -> int:
        """Run the failed children of a map again that `chosen` picks by row and state; return their number.

        Raises
        ------
        CannotRetry
            The map has ended, was stopped, or what followed a child cannot be taken back; nothing changed.
        """
        step_state = self.run_state.find(slug)
        rows = [
            row
            for row, state in enumerate(_children(step_state))
            if state is not None and state.is_failed() and chosen(row, state)
        ]
        if rows:
            followers = self._followers(step_state)
            for row in rows:
                self._check(followers, row)
            for row in rows:
                self._take_back(step_state, followers, row, now)
        return len(rows)

    def retry_call(self, step_state: StepState, row: int, now: Now) -> None:
        """Run a call of a flow function again that failed and that nothing follows, with the inputs that its chain has.

        Raises
        ------
        CannotRetry
            As :meth:`retry`.
        """
        assert step_state.chain is not None
        self._take_back(step_state, {step_state.chain.spec.ident: {0}}, row, now)

    def _followers(self, step_state: StepState) -> dict[int, set[int]]:
        """Return the positions of the steps that follow a step in its rows, itself among them, by chain.

        Raises
        ------
        CannotRetry
            The step is none whose children can run again.
        """
        if step_state.final:
            raise CannotRetry(f"{step_state.step.label} has ended, and what follows it reads its results")
        if step_state.map_state is not None and not step_state.map_state.domain.sources:
            raise CannotRetry("its failures were given to the flow function, call by call")
        numbers = self._numbers(step_state)
        found: dict[int, set[int]] = {}
        for chain in self.run_state.chains.values():
            positions = {p for number, p in chain.position.items() if number in numbers}
            if positions:
                found[chain.spec.ident] = positions
                self._check_chain(step_state, chain, positions)
        return found

    def _numbers(self, step_state: StepState) -> set[int]:
        """Return the numbers of the steps that read a step child by child, directly or not."""
        steps = self.run_state.plan.steps
        numbers = {step_state.step.number}
        todo = [step_state.step]
        while todo:
            source = todo.pop()
            for number in source.consumers:
                for i in steps[number].inputs:
                    if i.source != source.number:
                        continue
                    if i.flattened and i.mapped:
                        raise CannotRetry(f"{steps[number].label} has taken the elements of {source.label} already")
                    reduces = steps[number].fan_in is not None and i is steps[number].reduced
                    if (i.mapped or reduces) and number not in numbers:
                        numbers.add(number)
                        todo.append(steps[number])
        return numbers

    def _check_chain(self, step_state: StepState, chain: StepChain, positions: set[int]) -> None:
        label = step_state.step.label
        if chain.admission_mode:
            raise CannotRetry(f"{label} was stopped")
        if chain.spec.steps[0].named_by_key:
            raise CannotRetry(f"the names of results of {label} count its items")
        if step_state.chain is not chain and len(positions) < len(chain.step_states):
            raise CannotRetry(f"{chain.step_states[0].step.label} travels with tasks that do not follow {label}")

    def _check(self, followers: dict[int, set[int]], row: int) -> None:
        """Refuse a row whose inputs are gone."""
        for ident, positions in followers.items():
            chain = self.run_state.chains[ident]
            for position in positions:
                for kind, k in chain.spec.steps[position].wiring:
                    if kind == STEP and k not in positions:
                        self._check_state(chain.step_states[k], row)
                for source in chain.step_states[position].reads:
                    self._check_state(source, row)

    def _check_state(self, source: StepState, row: int) -> None:
        states = _children(source)
        state = states[row if source.step.mapped else 0] if states else None
        if state is not None and not is_here(state):
            raise CannotRetry(f"the result of {source.step.label} was released after its last consumer ran")

    def _take_back(self, step_state: StepState, followers: dict[int, set[int]], row: int, now: Now) -> None:
        home = step_state.chain
        assert home is not None and step_state.children is not None
        failed = step_state.children[row]
        assert failed is not None
        for ident, positions in followers.items():
            chain = self.run_state.chains[ident]
            if chain is home:
                self._reopen(chain, positions, row)
            elif not isinstance(chain, ReductionChain):
                self._take_back_row(chain, row)
            for reader in self._readers(chain, step_state, row):
                self._take_back_row(chain, reader)
        self._resubmit(step_state, home, row, failed, now)

    def _resubmit(self, step_state: StepState, chain: StepChain, row: int, failed: State, now: Now) -> None:
        """Submit a row that was taken back, from a state that counts the attempts so far."""
        times = self._times[step_state.step.number, row] = self._times.get((step_state.step.number, row), 0) + 1
        attempts = step_state.step.task.max_retries + times + failed.context.get(BEFORE_TURN, 0)
        again: State = Retrying("Retried on request.", start_time=now.wall, run_count=attempts)
        again = self._notify(step_state, failed, again)
        if self.run_state.events is not None:
            recorded = again.replace(result=failed._raw_result)
            self.run_state.events.append(
                AttemptEvent(step_state.step.number, row, attempts, recorded, 0.0, now.wall, None, None)
            )
        map_row = chain.open_rows[row]
        self.changes.set_starts(map_row, {chain.position[step_state.step.number]: again})
        self.rows.resubmit(chain, map_row, now)

    def _reopen(self, chain: StepChain, positions: set[int], row: int) -> None:
        """Take back steps of a row of the chain of the failed step; the row is open then."""
        map_row = chain.open_rows.get(row)
        if map_row is None:
            map_row = self.changes.reopen_row(chain, row, chain.items_of(row), self._submissions(chain, row))
        mask = sum(1 << p for p in positions)
        self.rows.abandon(chain, map_row, mask & map_row.submitted)
        self.changes.reopen(chain, map_row, positions)

    def _take_back_row(self, chain: StepChain, row: int) -> None:
        """Take back a whole row of a chain that follows; it begins again when the failed step has ended anew."""
        if row in chain.ready:
            chain.ready.remove(row)
            heapify(chain.ready)
            return
        map_row = chain.open_rows.get(row)
        if map_row is not None:
            self.rows.abandon(chain, map_row, chain.full)
        self.changes.forget_row(chain, row)
        chain.resubmit_from[row] = self._submissions(chain, row)

    def _readers(self, chain: StepChain, step_state: StepState, row: int) -> list[int]:
        """Return the rows of a reduction that follow from a row of a step, of which it combines children, or itself."""
        if not isinstance(chain, ReductionChain):
            return []
        return chain.readers_of(step_state if step_state is chain.step_states[0] else chain.source, row)

    def _submissions(self, chain: StepChain, row: int) -> int:
        """Return the number of the next submission of a row, which no former one can have reached."""
        times = self._times[-1 - chain.spec.ident, row] = self._times.get((-1 - chain.spec.ident, row), 0) + 1
        return times * SUBMISSIONS


def _children(step_state: StepState) -> Sequence[State | None]:
    return step_state.children or []


def is_here(state: State) -> bool:
    """Whether the result of a state can still be read."""
    result = state._raw_result
    if is_a(result, Held):
        return result.handle is not None or result._value is not None
    return not is_a(result, Discarded)
