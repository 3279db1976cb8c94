"""Calls and maps on their way from a flow function to its run, and what is asked of them later.

Made by the thread of the flow function; the loop takes them (`prefectish.functions.calls`), and reports how they end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prefectish.engine.jobs.job import CALL, ITEM, ChainSpec, Record
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.scheduling.run_state import NEVER_STARTED, StepState
from prefectish.engine.state import State
from prefectish.functions.call_chain import CallChain, CallStepState
from prefectish.functions.call_retries import FailedCalls
from prefectish.functions.claims import ResultClaims
from prefectish.functions.dynamic_plan import DynamicPlan, InputSpec
from prefectish.functions.settled import Settled
from prefectish.kinds import is_a
from prefectish.members import members_of
from prefectish.slugs import child_label
from prefectish.tasks.task import Task


class CallSignature:
    """Calls of one task whose arguments are of the same kinds. Made by the thread that calls."""

    __slots__ = (
        "chain",
        "claims",
        "direct",
        "failed",
        "failed_calls",
        "outcomes",
        "prompts",
        "rows",
        "spec",
        "step_state",
    )

    def __init__(
        self,
        dynamic_plan: DynamicPlan,
        task: Task,
        specs: Sequence[InputSpec],
        by_position: tuple[str, ...],
        prompts: bool = False,
    ) -> None:
        self.prompts = prompts  # it is asked about pauses before those who wait know of them
        progress = dynamic_plan.progress
        added = dynamic_plan.add(task, dynamic_plan.name_of(task), specs, by_position=by_position, kind=CallStepState)
        assert isinstance(added, CallStepState)
        self.step_state = added
        dynamic_plan.add_own_domain(self.step_state)
        wiring = tuple((ITEM, n) for n in range(len(specs)))
        step = progress.ready.spec_of(self.step_state.step, wiring, mapped=False)
        step.precedence = CALL
        batch = task.batch_size or task.async_concurrency
        self.spec = ChainSpec(
            -1 - self.step_state.step.number, progress.ready.facts, (step,), (), frozenset((0,)), batch
        )
        self.chain: CallChain | None = None
        self.rows = itertools.count()  # numbers of the calls
        self.outcomes: dict[int, Settled] = {}  # of the calls that have not ended
        self.failed: list[Settled] = []  # outcomes of those that failed and that were not read by then
        self.failed_calls = FailedCalls()
        # Whether a call may run inline, in the thread that calls: no limit holds it back.
        limited = progress.admission.limits.limited(self.step_state.step.number)
        self.direct = not (limited or (step.cache is not None and step.cache.is_isolated))
        self.step_state.watcher = self
        progress.changes.result_release.forget(self.step_state)  # each of its rows is claimed by itself
        self.claims: ResultClaims | None = None

    def opened(self) -> None:
        """Do nothing: calls come one by one."""

    def row(self, row: int, state: State, width: Any) -> None:
        """Make the final state of a call known."""
        again = self.failed_calls.again.pop(row, None)
        outcome = self.outcomes.pop(row, again)
        if self.chain is not None:
            self.chain.keys.pop(row, None)
            self.chain.reads.pop(row, None)
        self.failed_calls.ended(row, state)
        if outcome is not None:
            if not outcome.read and state.is_failed():
                self.failed.append(outcome)
            sources = outcome.sources
            if again is not None:
                again.ran_again(state, width)
            outcome.settle(state, width)
            if self.claims is not None:
                self.claims.unclaim(sources)
                self.claims.drop(self.step_state, row)

    def succeeded(self, rows: Sequence[int]) -> None:
        """Make known that calls have plainly succeeded."""
        assert self.step_state.children is not None
        for row in rows:
            state = self.step_state.children[row]
            assert state is not None
            self.row(row, state, None)

    def waits(self, row: int, state: State, asked: bool = False) -> None:
        """Make known that a call is paused."""
        outcome = self.outcomes.get(row)
        if outcome is not None and (asked or not self.prompts):
            outcome.pause(state)

    def ended(self, state: State) -> None:
        """Do nothing: the calls of a signature do not end as a whole."""


class TaskCall(NamedTuple):
    """A request: a call on its way to the loop."""

    signature: CallSignature
    row: int
    outcome: Settled
    #: One for each input of the signature: a value, a state, or the outcome of something else.
    arguments: tuple[Any, ...]
    key: str | None = None  # its key, by its arguments; None if it is not needed, or they have no stable hash
    start: State | None = None  # from which it begins, as the caller gave it


class Argument(NamedTuple):
    """An argument of a map, or something it waits for besides."""

    key: str | None  # None for what is only waited for
    value: Any  # a value in which outcomes stand for results; :class:`MapCall` for another map
    name: TaskName  # what it comes from
    mapped: bool
    flattened: bool
    allow_failure: bool
    holds: bool  # outcomes stand in the value

    @property
    def by_item(self) -> bool:
        """Whether it is a list whose items are waited for one by one."""
        return self.holds and self.mapped and not self.flattened and is_a(self.value, (list, tuple))


class MapCall:
    """A request: a map on its way to the loop, and its outcome. Made by the thread that calls."""

    __slots__ = (
        "added", "arguments", "arrival", "by_position", "failed", "listeners", "name", "outcome", "prompts", "rows",
        "sized", "start", "task",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        name: TaskName,
        arguments: tuple[Argument, ...],
        by_position: tuple[str, ...] = (),
        prompts: bool = False,
    ) -> None:
        self.prompts = prompts
        self.task = task
        self.by_position = by_position  # names of the arguments that the body is given by position
        self.name = name
        self.start: State | None = None  # from which it begins, as the caller gave it
        self.arrival = 0  # its number among calls and maps, in the order in which they were asked for
        self.arguments = arguments
        self.outcome = Settled(name.label, slug=name.slug)  # of the map as a whole
        self.outcome.sources = tuple(a.value.outcome for a in arguments if is_a(a.value, MapCall))
        self.rows: dict[int, Settled] = {}  # outcomes of children that were asked for and that have not ended
        self.failed: dict[int, Settled] = {}  # those of them that failed: the handle may let them run again
        # Called with the rows of children that have ended, and whether they failed.
        self.listeners: list[Callable[[Sequence[int], bool], None]] = []
        self.added: list[Callable[[], None]] = []  # called once the step is in the plan
        self.sized: list[Callable[[], None]] = []  # called whenever the number of children may have become known

    @property
    def step_state(self) -> StepState | None:
        """The step, None as long as it is not in the plan."""
        return self.outcome.step_state

    def child(self, row: int, index: int | None = None) -> Settled:
        """Return the outcome of a child, made at the first request. Any thread may ask.

        `index` is its map index, if that is not its row.
        """
        step_state, place = self.outcome.step_state, row if index is None else index
        made = Settled(child_label(self.name.label, place), step_state, row, child_label(self.name.slug, place))
        outcome = self.rows.setdefault(row, made)
        state = (
            None
            if step_state is None or step_state.children is None or row >= len(step_state.children)
            else step_state.children[row]
        )
        if state is None and self.outcome.state is not None:  # the run broke off
            state = NEVER_STARTED
        if state is not None:  # it may have ended just before
            self.rows.pop(row, None)
            outcome.settle(state)
        return outcome

    def sources_of(self, row: int) -> tuple[Settled, ...]:
        """Return what a child reads or waits for."""
        found: list[Settled] = []
        for a in self.arguments:
            if is_a(a.value, MapCall):
                found.append(a.value.child(row) if a.mapped else a.value.outcome)
            elif a.holds:
                found += outcomes_in(a.value[row] if a.by_item else a.value)
        return tuple(found)

    def opened(self) -> None:
        """Tell that there are rows."""
        for tell in list(self.sized):
            tell()

    def row(self, row: int, state: State, width: Any) -> None:
        """Make the final state of a child known."""
        self._settle(row, state, width)
        for tell in list(self.listeners):
            tell((row,), state.is_failed())

    def succeeded(self, rows: Sequence[int]) -> None:
        """Make known that children have plainly succeeded."""
        if self.rows or self.failed:  # else who asks for one of them from now on finds its state
            assert self.step_state is not None and self.step_state.children is not None
            children = self.step_state.children
            for row in rows:
                if (row in self.rows or row in self.failed) and (state := children[row]) is not None:
                    self._settle(row, state, None)
        for tell in list(self.listeners):
            tell(rows, False)

    def _settle(self, row: int, state: State, width: Any) -> None:
        outcome = self.rows.pop(row, None)
        if outcome is not None:
            outcome.settle(state, width)
            if state.is_failed():
                self.failed[row] = outcome
        elif self.failed and (failed := self.failed.pop(row, None)) is not None:
            failed.ran_again(state, width)

    def waits(self, row: int, state: State, asked: bool = False) -> None:
        """Make known that a child is paused."""
        if self.prompts and not asked:
            return
        outcome = self.rows.get(row)
        if outcome is not None:
            outcome.pause(state)
        self.outcome.pause(state)

    def ended(self, state: State) -> None:
        """Make the final state of the map known, and of what it left open: the run broke off."""
        self.opened()
        self.outcome.settle(state)
        for row in list(self.rows):
            self.child(row)


class InlineResult(NamedTuple):
    """A request: take what a call gave that ran in the thread of the flow function."""

    call: TaskCall
    record: Record


class CancelCall(NamedTuple):
    """A request: cancel a call, or a child of a map."""

    outcome: Settled


class CancelMap(NamedTuple):
    """A request: cancel the children of a map."""

    map_call: MapCall


class ReleaseResult(NamedTuple):
    """A request: let go of the result of a call whose future is gone."""

    outcome: Settled


class ReleaseMap(NamedTuple):
    """A request: keep the large results of a map whose future is gone no longer than other tasks need them."""

    map_call: MapCall


def outcomes_in(value: Any) -> list[Settled]:
    """Return the outcomes in a value, at any depth."""
    if type(value) is Settled:
        return [value]
    return [outcome for member in members_of(value) or () for outcome in outcomes_in(member)]
