"""Calls and maps that come during a run: the owner's side of a flow function.

All calls of a task with arguments of the same kinds are rows of one chain (a `CallSignature`). A row starts once the
outcomes among its arguments are known, under the window and the limits that hold for maps; so retries, losses,
batches and records work for calls as for the children of a map. A map is a step like any other, added to the plan
once its arguments are there; maps over maps run row by row.

Nothing here runs in the thread of the flow function, except where it says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prefectish.caching.lookups import has_cache
from prefectish.engine.capture import Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Record, Upcoming
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.map_domain import SKIPPED_UPSTREAM, skips_reader
from prefectish.engine.plan.placement import ask
from prefectish.engine.scheduling.items import as_success_if_ambiguous, length_of
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, StepState
from prefectish.engine.scheduling.same_key import meets_same_keys
from prefectish.engine.state import Cached, Cancelled, Failed, Mapped, Skipped, State, Success
from prefectish.engine.worker.cache import remember
from prefectish.engine.worker.decide import failed_in, finished
from prefectish.functions.call_chain import CallChain
from prefectish.functions.call_requests import (
    Argument,
    CallSignature,
    MapCall,
    TaskCall,
    outcomes_in,
)
from prefectish.functions.call_retries import retry_calls
from prefectish.functions.claims import ResultClaims
from prefectish.functions.dynamic_plan import DynamicPlan, InputSpec
from prefectish.functions.settled import Settled
from prefectish.functions.yielded import YieldedSteps
from prefectish.kinds import is_a
from prefectish.members import rebuilt
from prefectish.tasks.collections import Constant
from prefectish.tasks.task import Task


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
        if call.start is not None and self._begin_from(call, call.start):
            return
        unknown = [a for a in call.arguments if type(a) is Settled and a.state is None]
        arrival = next(self._arrivals)
        self._once_known(unknown, partial(self._start, call, arrival), call.outcome)
        if unknown and self.follows and call.start is None and all(o.row is not None for o in unknown):
            self._follow(call, arrival)

    def _begin_from(self, call: TaskCall, start: State) -> bool:
        """Let a call begin from a state that was given; return whether it has ended by that."""
        signature, step_state = call.signature, call.signature.step_state
        if type(start) is Cached and has_cache(step_state.step.task):
            remember(step_state.step.task, start)  # the cache decides whether it still stands for the call
        elif finished(start):
            self.changes.finish_row(step_state, call.row, start, length_of(step_state.step, start))
            return True
        else:
            chain = signature.chain or self._open(signature)
            chain.has_starts, step_state.given[call.row] = True, start
        return False

    def retry(self, slug: str, chosen: Callable[[int, State], bool], now: Now) -> int:
        """Run failed children of a map, or calls of a signature, again; return their number."""
        step_state = self.run_state.find(slug)
        if isinstance(step_state.watcher, CallSignature):
            return retry_calls(step_state.watcher, chosen, self.progress.retrier, self.claims, now)
        return self.progress.retrier.retry(slug, chosen, now)

    def _kept(self, task: Task, called: TaskCall | MapCall) -> tuple[Settled, ...]:
        """Return the outcome of what was called if its result is to be kept, for a claim that is never given back."""
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
        if children is None or children.has(call.row):  # it has ended, or was cancelled meanwhile
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
        """Let a call that followed continue, now that all it reads is known."""
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
        needed = [o for a in map_call.arguments if a.holds and not a.by_item for o in outcomes_in(a.value)]
        maps = [a.value for a in map_call.arguments if is_a(a.value, MapCall)]
        read = _read_by(map_call)
        for source in read:
            source.followed = True
        self.claims.claim((map_call.outcome, *read, *self._kept(map_call.task, map_call)))
        for m in maps:
            m.outcome.then(partial(_pause_with, map_call.outcome))
        for source in _read_by(map_call, by_item=False):
            if source.state is None:
                source.then(partial(self._end_unstarted, map_call))
        start = partial(self._start_map, map_call)
        if (yielding := _yielding(map_call)) is not None and yielding.state is None:
            needed = [o for o in needed if o is not yielding]
            start = partial(self._yielded.once_begun, yielding, start, partial(_pause_with, map_call.outcome))
        self._once_added(maps, partial(self._once_known, needed, start, map_call.outcome))

    def _once_added(self, maps: Sequence[MapCall], act: Callable[[], None]) -> None:
        missing = next((m for m in maps if m.step_state is None), None)
        if missing is None:
            act()
        else:
            missing.added.append(lambda: self._once_added(maps, act))

    def _end_unstarted(self, map_call: MapCall, source: Settled) -> None:
        """End a map that waited for its arguments when the run ended: it has no step that would."""
        if self.run_state.over and map_call.step_state is None:
            map_call.ended(NEVER_STARTED)

    def _start_map(self, map_call: MapCall) -> None:
        specs: list[InputSpec] = []
        constants: dict[str, Any] = {}
        made: list[StepState] = []
        for a in map_call.arguments:
            if is_a(a.value, MapCall):
                assert a.value.step_state is not None
                source = a.value.step_state.step.number
            elif a.by_item:
                made.append(self._add_items(a, map_call.outcome))
                source = made[-1].step.number
            elif type(a.value) is Settled and (
                a.value.state is None or (a.mapped and self._has_failed_after(map_call))
            ):
                made.append(self._yielded.step_of(a.name, a.value))
                source = made[-1].step.number
            elif a.key is not None and not (a.mapped or a.flattened or a.holds):
                constants[a.key] = a.value
                continue
            else:
                made.append(self._add_value(a))
                source = made[-1].step.number
            specs.append(InputSpec(a.key, source, a.name, a.mapped, a.flattened, a.allow_failure))
        step_state = map_call.outcome.step_state = self.dynamic_plan.add(
            map_call.task, map_call.name, specs, constants, map_call.by_position
        )
        self.changes.make_mapped(step_state)
        step_state.step.arrival = map_call.arrival
        step_state.watcher = map_call
        if map_call.start is not None:
            self.progress.dispatcher.seed(step_state, map_call.start)
        self.dynamic_plan.start_map(step_state)
        if step_state.final:  # by that
            self.changes.step_ended(step_state)
        self._leave_to_step(map_call, made)
        added, map_call.added = map_call.added, []
        for tell in added:
            tell()

    def _has_failed_after(self, map_call: MapCall) -> bool:
        """Whether a map goes over a call that has yielded items, and failed then."""
        yielding = _yielding(map_call)
        return yielding is not None and self._yielded.has_failed(yielding)

    def _leave_to_step(self, map_call: MapCall, made: Iterable[StepState]) -> None:
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
            made = self.dynamic_plan.add_literal(_NAMED, a.name, _again(value.state), width, stands_in=True)
            self.changes.mark_rerun(made, self._reran(value))
            return made
        state = state_of(value, a.allow_failure) if a.holds or is_a(value, State) else Success("Constant.", value)
        made = self.dynamic_plan.add_literal(_NAMED, a.name, state, stands_in=a.holds)
        self.changes.mark_rerun(made, a.holds and any(self._reran(outcome) for outcome in outcomes_in(value)))
        return made

    def _reran(self, outcome: Settled) -> bool:
        """Whether something ran again, in a run that is resumed, or something else may have been in its place."""
        resume_rules = self.progress.resume_rules
        if resume_rules is None or outcome.step_state is None:
            return False
        place = _place(outcome)
        changed = resume_rules.reran(*place) or resume_rules.returned(*place)
        return changed or resume_rules.resized(outcome.step_state, outcome.row)

    def _add_items(self, a: Argument, reader: Settled) -> StepState:
        """Add a list in which outcomes stand for items: each child waits for its own item only."""
        items = a.value
        given = Mapped("Items.", n_map_states=len(items))
        step_state = self.dynamic_plan.add_literal(_NAMED, a.name, given, stands_in=True, is_final=False)
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
            or step_state.has(row)
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
    return outcome if outcome.row is not None and outcome.step_state is not None else None


def _read_by(map_call: MapCall, by_item: bool = True) -> list[Settled]:
    """Return the outcomes that a map reads or waits for, those of single items among them if asked."""
    found: list[Settled] = []
    for a in map_call.arguments:
        if is_a(a.value, MapCall):
            found.append(a.value.outcome)
        elif a.holds and (by_item or not a.by_item):
            found += outcomes_in(a.value)
    return found


def _again(state: State) -> State:
    """Return a state whose large result is released apart from that of the state it came from."""
    again = state._raw_result.held_again() if is_a(state._raw_result, Held) else None
    return state if again is None else state.replace(result=again)


def _pause_with(reader: Settled | None, outcome: Settled) -> None:
    """Pause what reads a paused call, so that no caller waits for it for ever."""
    if reader is not None and outcome.state is None and outcome.waiting is not None:
        reader.pause(outcome.waiting)


def _place(outcome: Settled) -> tuple[int, int | None]:
    """Return where an outcome is in the plan: number of the step, and row."""
    assert outcome.step_state is not None
    return outcome.step_state.step.number, outcome.row


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


def _rank(signature: CallSignature, arguments: Sequence[Any]) -> float:
    """Return the priority of a call, if the task has a function that says so."""
    priority = signature.step_state.step.task.priority
    if not callable(priority) or not arguments:
        return 0.0
    first = arguments[0]
    outcome = capture(lambda: float(ask(priority, _result_of(first) if type(first) is Settled else first, 1)))
    return outcome.value if isinstance(outcome, Value) else 0.0
