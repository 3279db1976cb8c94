"""Failed children run again while their map goes on, and with them what followed them in their branches.

A child can run again as long as its map is open: then nothing that reads the map as a whole has begun. What its failure
made of the same item further down (a trigger that failed, a body that ran all the same) is taken back, and runs again
too. Where that is not possible the error says why, and that ``flow.resume(run_id, retry_failed=True)`` is the way.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import STEP
from prefectish.engine.jobs.references import Discarded, Held
from prefectish.engine.plan.item_key import COMPUTED
from prefectish.engine.scheduling.causes import described
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
from prefectish.engine.scheduling.table import RunState
from prefectish.engine.state import Retrying, State, TriggerFailed
from prefectish.engine.worker.attempt_context import BEFORE_TURN

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
        names = {kind.__name__ for kind in types}
        return lambda row, state: isinstance(state.result, types) or described(state)[0] in names
    if callable(where):
        return lambda row, state: bool(where(state))
    if hasattr(where, "children"):
        rows = {child.index for child in where.children}
        return lambda row, state: row in rows
    raise TypeError(
        f"where={where!r}: an exception type, its name, a function of the state, or a group of failures is wanted"
    )


class FailedRetrier:
    """Takes back what failed."""

    def __init__(self, branches: Rows) -> None:
        self.table: RunState = branches.table
        self.branches = branches
        self._times: dict[tuple[int, int], int] = {}

    def retry(self, slug: str, chosen: Callable[[int, State], bool], now: Now) -> int:
        """Run the failed children of a map again that `chosen` picks by row and state; return their number.

        Raises
        ------
        CannotRetry
            The map has ended, was stopped, or what followed a child cannot be taken back; nothing changed.
        """
        run = next(run for run in self.table.runs if run.step.slug == slug)
        rows = [
            row
            for row, state in enumerate(_children(run))
            if state is not None and state.is_failed() and chosen(row, state)
        ]
        if rows:
            followers = self._followers(run)
            for row in rows:
                self._check(followers, row)
            for row in rows:
                self._take_back(run, followers, row, now)
        return len(rows)

    def _followers(self, run: StepState) -> dict[int, set[int]]:
        """Return the positions of the steps that follow a step in its branches, itself among them, by chain.

        Raises
        ------
        CannotRetry
            The step is none whose children can run again.
        """
        if run.final:
            raise CannotRetry(f"{run.step.slug} has ended, and what follows it goes on with that")
        numbers = self._numbers(run)
        found: dict[int, set[int]] = {}
        for chain in self.table.chains.values():
            positions = {p for number, p in chain.position.items() if number in numbers}
            if positions:
                found[chain.spec.ident] = positions
                self._check_chain(run, chain, positions)
        return found

    def _numbers(self, run: StepState) -> set[int]:
        """Return the numbers of the steps that read a step child by child, directly or not."""
        steps = self.table.plan.steps
        numbers = {run.step.number}
        todo = [run.step]
        while todo:
            source = todo.pop()
            for number in source.consumers:
                for i in steps[number].inputs:
                    if i.source != source.number:
                        continue
                    if i.flattened and i.mapped:
                        raise CannotRetry(f"{steps[number].slug} has taken the elements of {source.slug} already")
                    if i.mapped and number not in numbers:
                        numbers.add(number)
                        todo.append(steps[number])
        return numbers

    def _check_chain(self, run: StepState, chain: StepChain, positions: set[int]) -> None:
        slug = run.step.slug
        if chain.stopped:
            raise CannotRetry(f"{slug} was stopped")
        if chain.spec.steps[0].keyed > COMPUTED:
            raise CannotRetry(f"the names of results of {slug} count its items")
        if run.chain is not chain and len(positions) < len(chain.runs):
            raise CannotRetry(f"{chain.runs[0].step.slug} travels with tasks that do not follow {slug}")

    def _check(self, followers: dict[int, set[int]], row: int) -> None:
        """Refuse a row whose inputs are gone."""
        for ident, positions in followers.items():
            chain = self.table.chains[ident]
            for position in positions:
                for kind, k in chain.spec.steps[position].wiring:
                    if kind == STEP and k not in positions:
                        self._check_state(chain.runs[k], row)
                for source in chain.runs[position].reads:
                    self._check_state(source, row)

    def _check_state(self, source: StepState, row: int) -> None:
        states = _children(source)
        state = states[row if source.step.mapped else 0] if states else None
        if state is not None and not _is_here(state):
            raise CannotRetry(f"the result of {source.step.slug} was released after its last consumer ran")

    def _take_back(self, run: StepState, followers: dict[int, set[int]], row: int, now: Now) -> None:
        home = run.chain
        assert home is not None and run.children is not None
        failed = run.children[row]
        assert failed is not None
        for ident, positions in followers.items():
            chain = self.table.chains[ident]
            if chain is home:
                self._reopen(chain, positions, row)
            else:
                self._unopen(chain, row)
        self._begin(run, home, row, failed, now)

    def _begin(self, run: StepState, chain: StepChain, row: int, failed: State, now: Now) -> None:
        """Submit a branch that was taken back, from a state that counts the attempts so far."""
        times = self._times[run.step.number, row] = self._times.get((run.step.number, row), 0) + 1
        attempts = run.step.task.max_retries + times + failed.context.get(BEFORE_TURN, 0)
        again: State = Retrying("Retried on request.", start_time=now.wall, run_count=attempts)
        again = self.table.notify(run, failed, again)
        if self.table.events is not None:
            told = again.replace(result=failed._result)
            self.table.events.append(AttemptEvent(run.step.number, row, attempts, told, 0.0, now.wall, None, None))
        branch = chain.branches[row]
        branch.starts = {chain.position[run.step.number]: again}
        self.branches.resubmit(chain, branch, now)

    def _reopen(self, chain: StepChain, positions: set[int], row: int) -> None:
        """Take back steps of a branch of the chain of the failed step; the branch is open then."""
        mask = sum(1 << p for p in positions)
        branch = chain.branches.get(row)
        if branch is None:
            branch = chain.branches[row] = MapRow(row, chain.items_of(row))
            branch.final = chain.full
            branch.submissions = self._submissions(chain, row)
            chain.done -= 1
        self.branches.give_up(chain, branch, mask & branch.flying)
        branch.waiting &= ~mask
        for position in positions:
            if branch.final >> position & 1:
                _forget(chain.runs[position], row)
        branch.final &= ~mask

    def _unopen(self, chain: StepChain, row: int) -> None:
        """Take back a whole row of a chain that follows; it begins again when the failed step has ended anew."""
        if row in chain.ready:
            chain.ready.remove(row)
            heapify(chain.ready)
            return
        branch = chain.branches.pop(row, None)
        if branch is not None:
            self.branches.give_up(chain, branch, chain.full)
            if branch.counted:
                self.table.admission.open -= 1
        elif all(run.children is not None and run.children[row] is not None for run in chain.runs):
            chain.done -= 1
        for run in chain.runs:
            if run.children is not None and run.children[row] is not None:
                _forget(run, row)
        chain.again[row] = self._submissions(chain, row)

    def _submissions(self, chain: StepChain, row: int) -> int:
        """Return the number of the next submission of a row, which no former one can have reached."""
        times = self._times[-1 - chain.spec.ident, row] = self._times.get((-1 - chain.spec.ident, row), 0) + 1
        return times * SUBMISSIONS


def _children(run: StepState) -> list[State | None]:
    return run.children or []


def _forget(run: StepState, row: int) -> None:
    """Take back the final state of a row."""
    assert run.children is not None
    state = run.children[row]
    assert state is not None
    run.children[row] = None
    run.left += 1
    if type(state) in run.kinds:
        run.kinds[type(state)] -= 1
    run.failures -= state.is_failed()
    if run.widths is not None:
        run.widths.pop(row, None)


def _is_here(state: State) -> bool:
    result = state._result
    if isinstance(result, Held):
        return result.handle is not None or result._value is not None
    return not isinstance(result, Discarded)
