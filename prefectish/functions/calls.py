"""Calls and maps that come during a run: the owner's side of a flow function.

All calls of a task with arguments of the same kinds are rows of one chain (:class:`CallSignature`). A row starts once
the outcomes among its arguments are known, under the window and the limits that hold for maps; so retries, losses,
batches and records work for calls as for the children of a map. A map is a step like any other, added to the plan
once its arguments are there; maps over maps run row by row.

Nothing here runs in the thread of the flow function, except where it says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from prefectish.engine.capture import Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import CALL, ITEM, ChainSpec, Record, Upcoming
from prefectish.engine.jobs.references import Held
from prefectish.engine.jobs.slots import members_of, rebuilt
from prefectish.engine.plan.map_domain import SKIPPED_UPSTREAM, skips_reader
from prefectish.engine.plan.placement import ask
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.scheduling.items import as_success_if_ambiguous
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, StepState
from prefectish.engine.scheduling.same_key import meets_same_keys
from prefectish.engine.state import Cancelled, Failed, Mapped, Skipped, State, Success
from prefectish.engine.worker.decide import failed_in, finished
from prefectish.functions.call_chain import CallChain
from prefectish.functions.call_retries import FailedCalls, retry_calls
from prefectish.functions.claims import ResultClaims
from prefectish.functions.dynamic_plan import DynamicPlan, InputSpec
from prefectish.functions.settled import Settled
from prefectish.functions.yielded import YieldedSteps
from prefectish.kinds import is_a
from prefectish.tasks.collections import Constant
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
        self.step_state = dynamic_plan.add(task, dynamic_plan.slug_of(task), specs, by_position=by_position)
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


class Argument(NamedTuple):
    """An argument of a map, or something it waits for besides."""

    key: str | None  # None for what is only waited for
    value: Any  # a value in which outcomes stand for results; :class:`MapCall` for another map
    name: TaskName  # what it comes from
    mapped: bool
    flattened: bool
    allow_failure: bool
    holds: bool  # outcomes stand in the value


class MapCall:
    """A request: a map on its way to the loop, and its outcome. Made by the thread that calls."""

    __slots__ = (
        "added", "arguments", "arrival", "by_position", "failed", "listeners", "outcome", "prompts", "rows", "sized",
        "slug", "task",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        slug: str,
        arguments: tuple[Argument, ...],
        by_position: tuple[str, ...] = (),
        prompts: bool = False,
    ) -> None:
        self.prompts = prompts
        self.task = task
        self.by_position = by_position  # names of the arguments that the body is given by position
        self.slug = slug
        self.arrival = 0  # its number among calls and maps, in the order in which they were asked for
        self.arguments = arguments
        self.outcome = Settled(slug)  # of the map as a whole
        self.outcome.sources = tuple(a.value.outcome for a in arguments if is_a(a.value, MapCall))
        self.rows: dict[int, Settled] = {}  # outcomes of children that were asked for and that have not ended
        self.failed: dict[int, Settled] = {}  # those of them that failed: the handle may let them run again
        self.listeners: list[Callable[[int, State], None]] = []  # called with row and state of each child that ends
        self.added: list[Callable[[], None]] = []  # called once the step is in the plan
        self.sized: list[Callable[[], None]] = []  # called whenever the number of children may have become known

    @property
    def step_state(self) -> StepState | None:
        """The step, None as long as it is not in the plan."""
        return self.outcome.step_state

    def child(self, row: int, label: str) -> Settled:
        """Return the outcome of a child, made at the first request. Any thread may ask."""
        step_state = self.outcome.step_state
        outcome = self.rows.setdefault(row, Settled(label, step_state, row))
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
                found.append(a.value.child(row, f"{a.value.slug}[{row}]") if a.mapped else a.value.outcome)
            elif a.holds:
                found += outcomes_in(a.value[row] if _by_item(a) else a.value)
        return tuple(found)

    def opened(self) -> None:
        """Tell that there are rows."""
        for tell in list(self.sized):
            tell()

    def row(self, row: int, state: State, width: Any) -> None:
        """Make the final state of a child known."""
        outcome = self.rows.pop(row, None)
        if outcome is not None:
            outcome.settle(state, width)
            if state.is_failed():
                self.failed[row] = outcome
        elif self.failed and (failed := self.failed.pop(row, None)) is not None:
            failed.ran_again(state, width)
        for tell in list(self.listeners):
            tell(row, state)

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
            self.child(row, "")


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


class CallQueue:
    """Takes calls and maps into a run."""

    def __init__(
        self,
        progress: Progress,
        dynamic_plan: DynamicPlan,
        follows: bool = False,
        keeps: bool = False,
        keep: Any = None,
    ) -> None:
        self.progress = progress
        self.follows = follows  # a call may go to the executor while what it reads is open there
        self.run_state = progress.run_state
        self.changes = progress.changes
        self.dynamic_plan = dynamic_plan
        self.claims = ResultClaims(progress.changes, keeps)
        self._keep = keep if isinstance(keep, bool | None) else {keep} if is_a(keep, Task) else set(keep)
        self._arrivals = itertools.count()
        self._yielded = YieldedSteps(progress, dynamic_plan, self.claims)

    # -- calls -----------------------------------------------------------------------------------------------------

    def enqueue(self, call: TaskCall) -> None:
        """Take a call; it starts once the outcomes among its arguments are known."""
        if self.run_state.over:
            call.outcome.settle(NEVER_STARTED)
            return
        signature = call.signature
        signature.outcomes[call.row] = call.outcome
        signature.claims = self.claims
        signature.failed_calls.began(call)
        for source in call.outcome.sources:
            source.followed = True
        self.claims.claim((call.outcome, *call.outcome.sources, *self._kept(signature.step_state.step.task, call)))
        self._make_room(signature.step_state, call.row)
        unknown = [a for a in call.arguments if type(a) is Settled and a.state is None]
        arrival = next(self._arrivals)
        self._once_known(unknown, partial(self._start, call, arrival), call.outcome)
        if unknown and self.follows and all(o.row is not None for o in unknown):
            self._follow(call, arrival)

    def retry(self, slug: str, chosen: Callable[[int, State], bool], now: Now) -> int:
        """Run failed children of a map, or calls of a signature, again; return their number."""
        step_state = self.run_state.find(slug)
        if isinstance(step_state.watcher, CallSignature):
            return retry_calls(step_state.watcher, chosen, self.progress.retrier, self.claims, now)
        return self.progress.retrier.retry(slug, chosen, now)

    def _kept(self, task: Task, called: TaskCall | MapCall) -> tuple[Settled, ...]:
        """Return the outcome of what was called if its result is to be kept, for a claim that nobody gives back."""
        keep = self._keep
        if not keep:
            return ()
        return (called.outcome,) if keep is True or self.dynamic_plan.origin_of(task) in keep else ()

    def _make_room(self, step_state: StepState, row: int) -> None:
        """Give a row its place; calls of several threads may come in any order."""
        children = step_state.children
        assert children is not None and step_state.map_state is not None
        missing = row + 1 - len(children)
        if missing > 0:
            self.changes.add_calls(step_state, missing)

    def _once_known(self, outcomes: Iterable[Settled], act: Callable[[], None], reader: Settled | None = None) -> None:
        """Act once all outcomes are known: now, or when the last one is; `reader` is paused with any of them."""
        left = [outcome for outcome in outcomes if outcome.state is None]
        if not left:
            act()
            return
        waiting = len(left)

        def tell(outcome: Settled) -> None:
            nonlocal waiting
            if outcome.state is None:
                _pause_with(reader, outcome)
                return
            waiting -= 1
            if not waiting and not self.run_state.over:
                act()

        for outcome in left:
            outcome.then(tell)

    def _start(self, call: TaskCall, arrival: int) -> None:
        """Let a call start whose arguments are all known, unless it has started by then."""
        signature = call.signature
        children = signature.step_state.children
        if children is None or children[call.row] is not None:  # it has ended, or was cancelled meanwhile
            return
        chain = signature.chain or self._open(signature)
        map_row = chain.open_rows.get(call.row)
        if map_row is not None:
            self._continue(chain, map_row)
        elif call.row not in chain.inputs:
            self._put(chain, call, arrival)

    def _follow(self, call: TaskCall, arrival: int) -> None:
        """Let a call start while what it reads is open, if nothing else depends on that: limits, names, places."""
        chain = call.signature.chain or self._open(call.signature)
        spec, step = chain.spec, chain.spec.steps[0]
        asks = step.differs or callable(step.task.priority) or spec.names_results or spec.batch_size is not None
        if not (chain.limited or chain.probe_first or asks):
            chain.follow.add(call.row)
            self._put(chain, call, arrival)

    def _continue(self, chain: CallChain, map_row: MapRow) -> None:
        """Let a call that followed go on, now that all it reads is known."""
        if map_row.submitted:
            followed = (item.job for item in map_row.items if type(item) is Upcoming)
            if not any(job.was_given_up for job in followed):
                return  # what it sees there is what is known here
            self.progress.rows.abandon(chain, map_row, map_row.submitted)
        self.progress.rows.resubmit(chain, map_row, self.run_state.now)

    def _put(self, chain: CallChain, call: TaskCall, arrival: int) -> None:
        if call.key is not None:
            chain.keys[call.row] = call.key
        if self.progress.resume_rules is not None and call.outcome.sources:
            chain.reads[call.row] = tuple([_place(o) for o in call.outcome.sources if o.step_state is not None])
        inputs = tuple([a if type(a) is Settled else as_success_if_ambiguous(a) for a in call.arguments])
        if chain.put(call.row, inputs, _rank(call.signature, call.arguments), arrival):
            self.progress.admission.queue_earlier(chain)
        else:
            self.progress.admission.queue(chain)

    def _open(self, signature: CallSignature) -> CallChain:
        chain = signature.chain = CallChain(signature.step_state)
        chain.spec = signature.spec
        chain.limited = self.progress.admission.limits.limited(signature.step_state.step.number)
        chain.probe_first = meets_same_keys(chain)
        if not callable(signature.step_state.step.task.priority):
            chain.priority = float(signature.step_state.step.task.priority or 0)
        self.changes.open_chain(chain)
        return chain

    def record_inline(self, call: TaskCall, record: Record, now: Now) -> None:
        """Take a call that was made where it stands; what is not final waits as if it had been submitted."""
        signature = call.signature
        self._make_room(signature.step_state, call.row)
        signature.outcomes[call.row] = call.outcome
        signature.claims = self.claims
        signature.failed_calls.began(call)
        for source in call.outcome.sources:
            source.followed = True
        self.claims.claim((*call.outcome.sources, *self._kept(signature.step_state.step.task, call)))
        if self.run_state.over:
            final = record.state if finished(record.state) else NEVER_STARTED
            self.changes.finish_row(signature.step_state, call.row, final, None)
            return
        chain = signature.chain or self._open(signature)
        if call.key is not None:
            chain.keys[call.row] = call.key
        map_row = self.changes.open_inline_row(chain, call.row, call.arguments, record)
        record = self.progress.crash_policy.after_crash(chain, map_row, 0, record)
        self.progress.rows.record(chain, map_row, 0, record, now)
        self.progress.rows.settle_row(chain, map_row, now)

    # -- maps ------------------------------------------------------------------------------------------------------

    def enqueue_map(self, map_call: MapCall) -> None:
        """Take a map; it starts once its arguments are there. A map it goes over need not have ended."""
        if self.run_state.over:
            map_call.outcome.settle(NEVER_STARTED)
            return
        map_call.arrival = next(self._arrivals)
        needed = [o for a in map_call.arguments if a.holds and not _by_item(a) for o in outcomes_in(a.value)]
        maps = [a.value for a in map_call.arguments if is_a(a.value, MapCall)]
        read = _read_by(map_call)
        for source in read:
            source.followed = True
        self.claims.claim((map_call.outcome, *read, *self._kept(map_call.task, map_call)))
        for m in maps:
            m.outcome.then(partial(_pause_with, map_call.outcome))
        start = partial(self._start_map, map_call)
        if (yielding := _yielding(map_call)) is not None:
            needed = [o for o in needed if o is not yielding]
            start = partial(self._yielded.once_begun, yielding, start, partial(_pause_with, map_call.outcome))
        self._once_added(maps, partial(self._once_known, needed, start, map_call.outcome))

    def _once_added(self, maps: Sequence[MapCall], act: Callable[[], None]) -> None:
        missing = next((m for m in maps if m.step_state is None), None)
        if missing is None:
            act()
        else:
            missing.added.append(lambda: self._once_added(maps, act))

    def _start_map(self, map_call: MapCall) -> None:
        specs: list[InputSpec] = []
        constants: dict[str, Any] = {}
        made: list[StepState] = []
        for a in map_call.arguments:
            if is_a(a.value, MapCall):
                assert a.value.step_state is not None
                source = a.value.step_state.step.number
            elif _by_item(a):
                made.append(self._add_items(a, map_call.outcome))
                source = made[-1].step.number
            elif type(a.value) is Settled and a.value.state is None:
                made.append(self._yielded.step_of(a.name.slug, a.value))
                source = made[-1].step.number
            elif a.key is not None and not (a.mapped or a.flattened or a.holds):
                constants[a.key] = a.value
                continue
            else:
                made.append(self._add_value(a))
                source = made[-1].step.number
            specs.append(InputSpec(a.key, source, a.name, a.mapped, a.flattened, a.allow_failure))
        step_state = map_call.outcome.step_state = self.dynamic_plan.add(
            map_call.task, map_call.slug, specs, constants, map_call.by_position
        )
        self.changes.make_mapped(step_state)
        step_state.step.arrival = map_call.arrival
        step_state.watcher = map_call
        self.dynamic_plan.start_map(step_state)
        self._let_go(map_call, made)
        added, map_call.added = map_call.added, []
        for tell in added:
            tell()

    def _let_go(self, map_call: MapCall, made: Iterable[StepState]) -> None:
        """Leave the results that a map reads to its step, which is in the plan."""
        for step_state in made:
            self.changes.result_release.forget(step_state)
        self.claims.start(map_call.outcome)
        self.claims.unclaim(_read_by(map_call, by_item=False))

    def _add_value(self, a: Argument) -> StepState:
        """Add an argument that is known by now as a step that never runs."""
        value = a.value
        if type(value) is Settled:
            assert value.state is not None
            # Of a child of a map the width is that of its elements alone: its result is measured anew.
            width = value.width if isinstance(value.width, tuple) and not a.flattened else None
            made = self.dynamic_plan.add_literal(_NAMED, a.name.slug, _again(value.state), width, stands_in=True)
            self.changes.mark_rerun(made, self._reran(value))
            return made
        state = state_of(value, a.allow_failure) if a.holds or is_a(value, State) else Success("Constant.", value)
        made = self.dynamic_plan.add_literal(_NAMED, a.name.slug, state, stands_in=a.holds)
        self.changes.mark_rerun(made, a.holds and any(self._reran(outcome) for outcome in outcomes_in(value)))
        return made

    def _reran(self, outcome: Settled) -> bool:
        """Whether something ran again, in a run that is resumed."""
        resume_rules = self.progress.resume_rules
        return resume_rules is not None and outcome.step_state is not None and resume_rules.reran(*_place(outcome))

    def _add_items(self, a: Argument, reader: Settled) -> StepState:
        """Add a list in which outcomes stand for items: each child waits for its own item only."""
        items = a.value
        given = Mapped("Items.", n_map_states=len(items))
        step_state = self.dynamic_plan.add_literal(_NAMED, a.name.slug, given, stands_in=True, is_final=False)
        self.dynamic_plan.add_own_domain(step_state, len(items))
        for row, item in enumerate(items):
            self._once_known(outcomes_in(item), partial(self._end_item, step_state, row, item, a.allow_failure), reader)
        return step_state

    def _end_item(self, step_state: StepState, row: int, item: Any, allows: bool) -> None:
        width = item.width if type(item) is Settled else None
        if self.progress.resume_rules is not None:
            for outcome in outcomes_in(item):
                if outcome.step_state is not None:
                    self.progress.resume_rules.inherit(step_state.step.number, row, _place(outcome))
        self.changes.finish_row(
            step_state, row, _again(state_of(item, allows)), width if isinstance(width, int) else None
        )
        self.claims.unclaim(outcomes_in(item))

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the steps whose rows were calls: no more will come."""
        for step_state in self.run_state.step_states:
            if (
                isinstance(step_state.watcher, CallSignature)
                and step_state.map_state is not None
                and not step_state.map_state.closed
            ):
                self.changes.close_map(step_state.map_state)
                self.changes.finish_step(step_state)

    def cancel(self, outcome: Settled, now: Now) -> None:
        """Cancel a call, or a child of a map, that has not ended."""
        step_state, row = outcome.step_state, outcome.row
        if step_state is not None and row is None:  # of a reduction
            self._cancel_all(step_state, now)
        if (
            step_state is None
            or row is None
            or step_state.children is None
            or step_state.children[row] is not None
            or self.run_state.over
        ):
            return
        if step_state.chain is not None and row in step_state.chain.open_rows:
            self.progress.cancellation.cancel(step_state.step.slug, row, now)
        elif isinstance(step_state.watcher, CallSignature):
            if step_state.chain is not None:
                assert isinstance(step_state.chain, CallChain)
                step_state.chain.withdraw(row)
            self.changes.end_row(step_state, row, NOT_RUN, Cancelled("cancelled"))
        else:
            self.progress.cancellation.cancel(step_state.step.slug, row, now)

    def cancel_task(self, slug: str, row: int | None, now: Now) -> None:
        """Cancel the calls of a signature that came so far, or one of them; or a map, or a child of it."""
        signature = self.run_state.find(slug).watcher
        if not isinstance(signature, CallSignature):
            self.progress.cancellation.cancel(slug, row, now)
            return
        for outcome in list(signature.outcomes.values()):
            if row in (None, outcome.row):
                self.cancel(outcome, now)

    def cancel_map(self, map_call: MapCall, now: Now) -> None:
        """Cancel the children of a map that have not ended."""
        if map_call.step_state is not None:
            self._cancel_all(map_call.step_state, now)

    def _cancel_all(self, step_state: StepState, now: Now) -> None:
        if not step_state.final and not self.run_state.over:
            self.progress.cancellation.cancel(step_state.step.slug, None, now)


#: Stands for the task of values that were known when a map was called.
_NAMED = Constant(None, "value")


def _yielding(map_call: MapCall) -> Settled | None:
    """Return the call that a map goes over, if over nothing else: it may begin with what that has yielded."""
    mapped = [a for a in map_call.arguments if a.mapped]
    if len(mapped) != 1 or mapped[0].flattened or type(mapped[0].value) is not Settled:
        return None
    outcome: Settled = mapped[0].value
    return outcome if outcome.state is None and outcome.row is not None and outcome.step_state is not None else None


def _read_by(map_call: MapCall, by_item: bool = True) -> list[Settled]:
    """Return the outcomes that a map reads or waits for, those of single items among them if asked."""
    found: list[Settled] = []
    for a in map_call.arguments:
        if is_a(a.value, MapCall):
            found.append(a.value.outcome)
        elif a.holds and (by_item or not _by_item(a)):
            found += outcomes_in(a.value)
    return found


def _again(state: State) -> State:
    """Return a state whose large result is released apart from that of the state it came from."""
    again = state._result.held_again() if is_a(state._result, Held) else None
    return state if again is None else state.replace(result=again)


def _pause_with(reader: Settled | None, outcome: Settled) -> None:
    """Pause what reads a paused call, so that no caller waits for it for ever."""
    if reader is not None and outcome.state is None and outcome.waiting is not None:
        reader.pause(outcome.waiting)


def _place(outcome: Settled) -> tuple[int, int | None]:
    """Return where an outcome is in the plan: number of the step, and row."""
    assert outcome.step_state is not None
    return outcome.step_state.step.number, outcome.row


def outcomes_in(value: Any) -> list[Settled]:
    """Return the outcomes in a value, at any depth."""
    if type(value) is Settled:
        return [value]
    return [outcome for member in members_of(value) or () for outcome in outcomes_in(member)]


def _result_of(outcome: Settled) -> Any:
    assert outcome.state is not None
    return outcome.state.result


def state_of(value: Any, allow_failure: bool = False) -> State:
    """Return the state that stands for a value in which all outcomes are known: a skipped or failed one, or a success.

    If failures are allowed, the exception of what failed is in its place.
    """
    if type(value) is Settled:
        assert value.state is not None
        return value.state
    states = [o.state for o in outcomes_in(value) if o.state is not None]
    if any(skips_reader(False, state) for state in states):
        return Skipped(SKIPPED_UPSTREAM)
    for state in map(failed_in, states):
        if state is not None and not allow_failure:
            return state
    if not states:
        return value if is_a(value, State) else Success(None, value)
    made = capture(rebuilt, value, lambda m: _result_of(m) if type(m) is Settled else m)
    if isinstance(made, Value):
        return Success(None, made.value)
    return Failed(f"an argument could not be assembled: {made.exception!r}", made.exception)


def _by_item(a: Argument) -> bool:
    """Whether an argument is a list whose items are waited for one by one."""
    return a.holds and a.mapped and not a.flattened and is_a(a.value, (list, tuple))


def _rank(signature: CallSignature, arguments: Sequence[Any]) -> float:
    """Return the priority of a call, if the task has a function that says so."""
    priority = signature.step_state.step.task.priority
    if not callable(priority) or not arguments:
        return 0.0
    first = arguments[0]
    outcome = capture(lambda: float(ask(priority, _result_of(first) if type(first) is Settled else first, 1)))
    return outcome.value if isinstance(outcome, Value) else 0.0
