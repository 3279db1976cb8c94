"""A flow function at work: its thread calls tasks, another one drives the run.

The function runs where it was called. What it submits goes to the owner's thread, which is the loop of every other run
(:func:`prefectish.engine.driver.run.run_flow`) with a plan that grows. A call that waits for no limit, on an executor
that hands over live objects, runs inline, in the thread that calls, and only its record goes to the owner.
"""

from __future__ import annotations

import contextvars
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefectish.edges import Annotation, flattened_once, unwrap
from prefectish.engine.capture import Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.driver.control import (
    CancelRun,
    CancelTask,
    RetryFailed,
    RunControl,
    SetTaskLimit,
    carry_out,
)
from prefectish.engine.driver.interrupts import in_record
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.plan.item_key import ITEM_KEY
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.scheduling.items import as_success_if_ambiguous
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED
from prefectish.engine.scheduling.verdict import unfinished
from prefectish.engine.state import Cancelled, Failed, Mapped, Pending, State, TimedOut
from prefectish.engine.wire.pack import pickle_task
from prefectish.engine.worker.decide import is_undecided
from prefectish.engine.worker.run_steps import run_steps
from prefectish.errors import FlowDefinitionError, PrefectishError
from prefectish.functions import last_runs
from prefectish.functions.arguments import FUNCTION_RUN, Arguments, arguments_of, key_of, map_arguments
from prefectish.functions.call_requests import (
    Argument,
    CallSignature,
    CancelCall,
    CancelMap,
    InlineResult,
    MapCall,
    ReleaseMap,
    ReleaseResult,
    TaskCall,
)
from prefectish.functions.calls import CallQueue
from prefectish.functions.dynamic_plan import DynamicPlan, InputSpec, empty_plan
from prefectish.functions.futures import CallFuture, MapFuture, TaskFuture
from prefectish.functions.given_states import GivenStates
from prefectish.functions.nested_runs import NestedRuns
from prefectish.functions.results import not_finished_error, owned, value_of
from prefectish.functions.settled import Settled
from prefectish.interrupting import Latch
from prefectish.kinds import is_a
from prefectish.tasks.call_options import CallOptions
from prefectish.tasks.collections import Flattened
from prefectish.tasks.mapping import is_iterator
from prefectish.tasks.signatures import inputs_of
from prefectish.tasks.task import Task

#: How long an interrupted run may take to end, in seconds, before its thread is left behind.
END_WITHIN = 5.0
#: Names in a warning of failures that were not read.
MOST_NAMES = 5
_FLATTENED = Flattened()


class FunctionRun:
    """One run of a flow function: adds its calls to a run, which another thread drives.

    At most `max_concurrency` calls and children of one task run at the same time; `store` is for tasks without one of
    their own. Calls of coroutine functions are awaited by the flow function if it `waits`. `keep_results` is as in
    :class:`~prefectish.engine.driver.options.RunOptions`; with `prompts`, who drives the run is asked about pauses.
    """

    def __init__(
        self,
        name: str,
        max_concurrency: int | None,
        store: Any,
        waits: bool,
        log_prints: bool = False,
        control: RunControl | None = None,
        keep_results: Any = None,
        prompts: bool = False,
        given_states: GivenStates | None = None,
        nested_runs: NestedRuns | None = None,
    ) -> None:
        self.nested_runs = nested_runs or NestedRuns(None)  # of flows that the function calls
        self._given_states = given_states or GivenStates(None)
        self._keep_results = keep_results
        self._prompts = prompts
        self.control = control or RunControl()  # what the thread that drives the run shares with others
        self._has_handle = control is not None
        self.plan = empty_plan(name)  # the steps so far
        self.is_open = True  # more calls may come
        self.final: State | None = None  # State of the flow, once the function has ended
        self.waits = waits
        self._log_prints = log_prints  # what tasks print is logged
        self._max_concurrency = max_concurrency
        self._store = store
        self._signatures: dict[tuple[Task, tuple[InputSpec, ...], tuple[str, ...]], CallSignature] = {}
        self._variants: dict[tuple[Task, frozenset[str], Hashable], Task] = {}
        self._maps: list[MapCall] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._iterators: dict[int, Any] = {}  # that are mapped over, by identity
        self._state: State | None = None
        self._error: BaseException | None = None
        self._over = False
        self._answering: int | None = None  # the thread that answers what came too late
        self._begun = Latch()  # set once there are tables, or the run has ended without
        self.progress: Progress | None = None  # the tables; None before there are any
        self.live = False  # bodies run in this process, and are not pickled
        self.inline = False  # a call that waits may run in the thread that makes it
        self.keyed = False
        self.dynamic_plan: DynamicPlan
        self.calls: CallQueue

    # -- the two threads -------------------------------------------------------------------------------------------

    def begin(self, progress: Progress, session: Session) -> None:
        """Note that the loop begins."""
        self.dynamic_plan = DynamicPlan(progress, self._max_concurrency, self._store, not session.live)
        follows = session.follows and progress.resume_rules is None
        self.calls = CallQueue(progress, self.dynamic_plan, follows, keeps=self._has_handle, keep=self._keep_results)
        self.live = session.live
        self.inline = session.live and progress.resume_rules is None  # the loop decides what is kept
        self.keyed = progress.run_state.events is not None or progress.resume_rules is not None
        self.progress = progress
        self._begun.set()

    def carry_out(self, request: Any, progress: Progress, now: Now) -> Any:
        """Do what a request asks for: those that follow from calls and futures, and those of every run."""
        match request:
            case TaskCall():
                self.calls.enqueue(request)
            case InlineResult(call, record):
                self.calls.record_inline(call, record, now)
            case MapCall():
                self.calls.enqueue_map(request)
            case CancelCall(outcome):
                self.calls.cancel(outcome, now)
            case CancelMap(map_call):
                self.calls.cancel_map(map_call, now)
            case ReleaseResult(outcome) | ReleaseMap(MapCall(outcome=outcome)):
                self.calls.claims.unclaim((outcome,))
            case CancelTask(slug, row):
                self.calls.cancel_task(slug, row, now)
            case SetTaskLimit(task, size) if not isinstance(task, str):  # a slug is of one step, as in every run
                self.dynamic_plan.limit(task, size)
            case RetryFailed(slug, chosen):
                return self.calls.retry(slug, chosen, now)
            case _:
                return carry_out(request, progress, now)
        return None

    def left_paused(self, step: int, row: int, state: State) -> None:
        """Let go who waits for a paused task of which it was asked whether to resume it, and it is not."""
        assert self.progress is not None
        watcher = self.progress.run_state.step_states[step].watcher
        if is_a(watcher, (CallSignature, MapCall)):
            watcher.waits(row, state, asked=True)

    def verdict(self, progress: Progress) -> State:
        """Return the state of the flow: what became of the function."""
        self.calls.close()
        lost = progress.crash_policy.lost
        if lost is not None:
            return progress.verdict()
        if self.final is not None and not progress.run_state.over:
            return unfinished() if self.final.is_successful() and self._waits_unread() else self.final
        if isinstance(self.final, Cancelled):
            return self.final
        due, text = progress.cancellation.ends.get(None, (float("inf"), ""))
        if progress.run_state.now.seconds >= due:
            return TimedOut(text, TimeoutError(text))
        return Cancelled("cancelled")

    def _waits_unread(self) -> bool:
        """Whether something is paused that the function has not asked for, and so has not dealt with."""
        signatures = list(self._signatures.values())
        calls = [outcome for signature in signatures for outcome in list(signature.outcomes.values())]
        return any(o.waiting is not None and not o.read for o in (*calls, *(m.outcome for m in self._maps)))

    def start(self, drive: Callable[[], State]) -> None:
        """Drive the run in a thread of its own, which sees the context of the caller; raise why it could not begin."""
        scope = contextvars.copy_context()
        self._thread = threading.Thread(
            target=scope.run, args=(self._drive, drive), name="prefectish-flow-function", daemon=True
        )
        self._thread.start()
        self._begun.wait()
        if self._error is not None:
            raise self._error

    def _drive(self, drive: Callable[[], State]) -> None:
        try:
            self._state = drive()
        except BaseException as error:  # it is raised where the function runs
            self._error = error
        finally:
            self.is_open = False
            self._begun.set()
            self._over = True
            self._refuse()
            self._settle_all()
            if self.progress is not None:
                last_runs.keep(str(self.control.run_id), self.progress)

    def post(self, request: Any) -> None:
        """Leave a request; once the run is over, a call that is asked for never starts."""
        self.control.mailbox.post(request)
        if self._over:
            self._refuse()

    def _refuse(self, waits: bool = True) -> None:
        """Answer what came too late for the loop; any thread may, so that no caller waits for an answer.

        Who cannot have the lock at once and does not wait leaves it to the thread that has it, which looks again once
        it has given it back; so does what that thread itself asks for while it answers.
        """
        progress, mailbox = self.progress, self.control.mailbox
        while progress is not None and self._answering != threading.get_ident():
            if not self._lock.acquire(blocking=waits):
                return
            self._answering = threading.get_ident()
            try:
                progress.changes.end_run()
                for request in mailbox.withdraw():
                    self.carry_out(request, progress, progress.run_state.now)
            finally:
                self._answering = None
                self._lock.release()
            if not mailbox.requests:
                return

    def release(self, request: ReleaseResult | ReleaseMap) -> None:
        """Note that a future is gone; it waits for nothing, as the collector may be what calls, at any moment."""
        self.control.mailbox.leave(request)
        if self._over:
            self._refuse(waits=False)

    def _settle_all(self) -> None:
        """Settle what is still open as never started, so that no caller blocks for ever."""
        for signature in list(self._signatures.values()):
            for outcome in list(signature.outcomes.values()):
                outcome.settle(NEVER_STARTED)
        for map_call in list(self._maps):
            map_call.ended(NEVER_STARTED)

    @property
    def started(self) -> bool:
        """Whether there are tables: a handler may have ended the run before."""
        return self.progress is not None

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Let calls of tasks in the block belong to this run."""
        assert self.progress is not None
        token = bind({**self.progress.ready.facts, FUNCTION_RUN: self})
        try:
            yield
        finally:
            unbind(token)

    def finish(self, final: State) -> State:
        """Wait for all that was submitted, and return the state of the flow."""
        self.final = final
        self.is_open = False
        self.control.mailbox.wake()
        return self._join(None)

    def interrupt(self, stop: BaseException) -> State:
        """Cancel all that was submitted, and return the state of the flow."""
        message, code = in_record(stop) if isinstance(stop, KeyboardInterrupt) else ("interrupted", None)
        self.final = Cancelled(message, context=None if code is None else {"exit_code": code})
        self.post(CancelRun("interrupted"))
        self.is_open = False
        self.control.mailbox.wake()
        return self._join(END_WITHIN)

    def _join(self, timeout: float | None) -> State:
        assert self._thread is not None
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        self._warn_of_unread()
        self._warn_of_unused()
        return self._state or self.final or Cancelled("interrupted")

    def _warn_of_unread(self) -> None:
        """Warn of failures whose results were never retrieved."""
        unread = [o.label for signature in self._signatures.values() for o in signature.failed if not o.read]
        unread += [w.name.label for w in self._maps if not w.outcome.read and _has_failed(w.outcome.state)]
        if not unread:
            return
        more = f", and {len(unread) - MOST_NAMES} more" if len(unread) > MOST_NAMES else ""
        warnings.warn(
            f"{self.plan.flow_name}: {len(unread)} task runs failed and their results were never retrieved: "
            f"{', '.join(unread[:MOST_NAMES])}{more}; read .result() or .state, or submit with return_state=True",
            stacklevel=6,
        )

    def _warn_of_unused(self) -> None:
        """Warn of states that were given for calls which the function has not made."""
        for what in self._given_states.unused():
            warnings.warn(f"{self.plan.flow_name}: task_states has states of {what}", stacklevel=7)

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Any:
        """Run a task and wait for it; a coroutine function gives what is to be awaited in an async flow function."""
        if self.waits:
            import inspect

            if inspect.iscoroutinefunction(task.run) and not maps_over(args, kwargs):
                return CallFuture(self, *self._submitted(task, args, kwargs, options), options)
        if maps_over(args, kwargs):
            return self.map(task, args, kwargs, options, mapped=False)
        signature, given, start = self._opened(task, args, kwargs, options)
        if self.inline and signature.direct and start is None and not self._held_back(signature):
            outcome = self._run_inline(signature, given)
            outcome.read = True
            return self._answer(outcome, options)
        outcome = self._enqueue(signature, given, start)
        outcome.wait()
        outcome.read = True
        try:
            return self._answer(outcome, options)
        finally:
            self.control.mailbox.post_later(ReleaseResult(outcome))

    def _opened(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> tuple[CallSignature, Arguments, State | None]:
        """Return what a call is of, what it is given, and the state that it begins from."""
        self._check_open(task)
        start = self._given_states.take(task)
        task = self._variant(task, options)
        given = self._arguments(task, args, kwargs, options)
        return self._signature(task, given), given, start

    def _answer(self, outcome: Settled, options: CallOptions) -> Any:
        """Return the value of a call, or raise its error."""
        state = outcome.state
        if options.return_state:
            return self.owned(_known_state(outcome))
        if state is None:
            assert outcome.waiting is not None
            raise not_finished_error(outcome.waiting, outcome.label)
        if options.allow_failure and not state.is_successful():
            return state
        return value_of(state, outcome.label, outcome.sources)

    def owned(self, state: State) -> State:
        """Return a state for the user, who may read its result as long as the state is there."""
        assert self.progress is not None
        return owned(state, self.progress.changes.result_release.copies)

    def _held_back(self, signature: CallSignature) -> bool:
        """Whether a call is left to the loop: the run is paused or ends, or the task got a limit while it ran."""
        assert self.progress is not None
        run_state = self.progress.run_state
        if run_state.paused or run_state.over or run_state.ending:
            return True
        return self.progress.admission.limits.limited(signature.spec.steps[0].number)

    def _run_inline(self, signature: CallSignature, given: Arguments) -> Settled:
        """Run a call in this thread."""
        for source in given.sources:
            source.wait()
        row = next(signature.rows)
        outcome = self._outcome(signature, row, given)
        if any(source.state is None for source in given.sources):  # it is paused
            self.post(TaskCall(signature, row, outcome, given.values, outcome.key))
            outcome.wait()
            return outcome
        items = _items_of(given)
        ((_, record),) = run_steps(signature.spec, (0,), row, items, {}, _start_of(signature, outcome))
        final = record.state.is_finished() and not is_undecided(record.state)
        call = TaskCall(signature, row, outcome, items, outcome.key)
        if final:
            outcome.settle(record.state, record.width)
            self.control.mailbox.post_later(InlineResult(call, record))
        else:
            self.post(InlineResult(call, record))
            outcome.wait()
        return outcome

    def submit(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Any:
        """Submit a call, and return its future at once, or its state once known; a map if an argument is ``mapped``."""
        if maps_over(args, kwargs):
            return self.map(task, args, kwargs, options, mapped=False)
        outcome, name = self._submitted(task, args, kwargs, options)
        if options.waits_for_state:
            outcome.wait()
            state = self.owned(_known_state(outcome))
            self.control.mailbox.post_later(ReleaseResult(outcome))
            return state
        return TaskFuture(self, outcome, name, options.returns_state)

    def _submitted(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> tuple[Settled, TaskName]:
        signature, given, start = self._opened(task, args, kwargs, options)
        outcome = self._enqueue(signature, given, start)
        outcome.read = options.returns_state
        step = signature.step_state.step
        return outcome, TaskName(step.name, step.slug, step.task.tags, step.label)

    def _enqueue(self, signature: CallSignature, given: Arguments, start: State | None) -> Settled:
        row = next(signature.rows)
        outcome = self._outcome(signature, row, given)
        if signature.spec.names_results and all(source.state is not None for source in given.sources):
            assert self.progress is not None  # names are taken in the order of the calls, as far as they are known
            self.progress.dispatcher.name_claims.claim_call(signature.spec, row, _items_of(given))
        self.post(TaskCall(signature, row, outcome, given.values, outcome.key, start))
        return outcome

    def _outcome(self, signature: CallSignature, row: int, given: Arguments) -> Settled:
        outcome = Settled(signature.spec.steps[0].label_of(row), signature.step_state, row)
        outcome.sources = given.sources
        if self.keyed:
            outcome.key = key_of(given)
        return outcome

    def map(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions, mapped: bool = True
    ) -> MapFuture[Any] | TaskFuture[Any] | State | list[State]:
        """Submit a map, and return its future at once, or its children's states once known.

        `mapped` says whether it goes over arguments that are not annotated.
        """
        self._check_open(task)
        called, task = task, self._variant(task, options)
        inputs = inputs_of(task.run, task.name)
        step_between = self._step_between(options, self.map if mapped else self.submit)
        bound = {n: flattened_once(v, step_between) for n, v in inputs.bind(task.name, args, kwargs).items()}
        step_between = self._step_between(options, self.submit)
        arguments = map_arguments(task.name, bound, options.wait_for, options.allow_failure, mapped, step_between)
        if not any(a.mapped for a in arguments):
            one: TaskFuture[Any] | State = self.submit(called, args, kwargs, options)
            return one
        map_call = self._map_call(task, arguments, () if inputs.is_plain else inputs.positional[: len(args)])
        map_call.start = self._given_states.take(called)
        map_call.outcome.read = options.returns_state
        self.post(map_call)
        if options.waits_for_state:
            map_call.outcome.wait()
            states = [self.owned(state) for state in _states_of_children(map_call)]
            self.control.mailbox.post_later(ReleaseMap(map_call))
            return states
        return MapFuture(self, map_call, map_call.name, options.returns_state)

    def _map_call(self, task: Task, arguments: tuple[Argument, ...], by_position: tuple[str, ...]) -> MapCall:
        """Return the request for a map, checked."""
        name = self.dynamic_plan.name_of(task)
        self._check_names(task, name.label, arguments, is_map=True)
        self._check_iterators(name.label, arguments)
        if task.item_key is not None:
            from prefectish.results.checks import check_item_key

            mapped = [a for a in arguments if a.mapped]
            continues = any(is_a(a.value, MapCall) and not a.flattened for a in mapped)
            check_item_key(name.label, task, frozenset(a.key for a in mapped if a.key), continues)
        if not self.live:
            pickle_task(name.slug, task)
        map_call = MapCall(task, name, arguments, by_position, self._prompts)
        self._maps.append(map_call)
        return map_call

    def _check_iterators(self, label: str, arguments: Iterable[Argument]) -> None:
        """Refuse an iterator that another map of the run reads: each would have what the other leaves of it."""
        for argument in arguments:
            if not (argument.mapped and is_iterator(argument.value)):
                continue
            if id(argument.value) in self._iterators:
                raise FlowDefinitionError(
                    f"{label}: argument {argument.key!r} must be unread, got an iterator that an earlier map of the "
                    "run reads; pass list(...)"
                )
            self._iterators[id(argument.value)] = argument.value

    def reduce(self, task: Task, combine: Any, mapped: Any) -> TaskFuture[Any]:
        """Submit a reduction; see :func:`prefectish.reduce`."""
        from prefectish.functions.building import reduced_map

        reduced_map(task.name, mapped)
        self._check_open(task)
        if is_a(combine, Task):
            self.dynamic_plan.variant(combine, task)
        task = self._variant(task, CallOptions())
        inputs = inputs_of(task.run, task.name)
        bound = inputs.bind(task.name, (mapped,), {})
        step_between = self._step_between(CallOptions(), self.submit)
        arguments = map_arguments(task.name, bound, (), False, False, step_between)
        map_call = self._map_call(task, arguments, () if inputs.is_plain else inputs.positional[:1])
        self.post(map_call)
        return TaskFuture(self, map_call.outcome, map_call.name)

    def product(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return columns to map over together; see :func:`prefectish.product`."""
        from prefectish.functions.building import product

        return product(self, inputs)

    def apply_map(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Submit a pipeline of maps; see :func:`prefectish.apply_map`."""
        from prefectish.functions.building import apply_map

        return apply_map(self, func, args, kwargs)

    def _arguments(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Arguments:
        inputs = inputs_of(task.run, task.name)
        bound = inputs.bind(task.name, args, kwargs)
        step_between = self._step_between(options, self.submit)
        given = arguments_of(task.name, bound, options.wait_for, options.allow_failure, step_between)
        return given if inputs.is_plain else given._replace(by_position=inputs.positional[: len(args)])

    def _step_between(self, options: CallOptions, call: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return what makes a step of its own of an argument that is flattened a further time, or inside of a list."""
        return lambda inner: call(_FLATTENED, (inner,), {}, CallOptions((), False, options.allow_failure, None))

    def _signature(self, task: Task, given: Arguments) -> CallSignature:
        kind = task, given.specs, given.by_position
        signature = self._signatures.get(kind)
        if signature is None:
            with self._lock:
                signature = self._signatures.get(kind)
                if signature is None:
                    self._check_names(task, task.name, given.specs)
                    if not self.live:
                        pickle_task(task.name, task)
                    signature = self._signatures[kind] = CallSignature(self.dynamic_plan, *kind, self._prompts)
        return signature

    def _check_names(self, task: Task, label: str, inputs: Sequence[Any], is_map: bool = False) -> None:
        """Check the templates of a task before its first call, or before a map over it."""
        location = getattr(task.result or self._store, "location", None)
        if task.target is None and location is None and task.task_run_name is None:
            return
        from prefectish.results.checks import check_call, check_map

        if is_map:
            check_map(label, task, self._store, frozenset(a.key for a in inputs if a.mapped and a.key))
        assert self.progress is not None
        parameters = self.progress.ready.facts["parameters"]
        check_call(label, task, self._store, {a.key for a in inputs if a.key}, parameters)

    def _variant(self, task: Task, options: CallOptions) -> Task:
        """Return the task with the options of this call, and the tags of the context."""
        tags = current().get("tags") or frozenset()
        logs = {"log_stdout": True} if self._log_prints and not task.log_stdout else {}
        if not options.task_args and tags <= task.tags and not logs:
            return task
        given = {**logs, **(options.task_args or {})}
        same = _as_key(given)
        found = None if same is None else self._variants.get((task, tags, same))
        if found is None:
            found = self.dynamic_plan.variant(task, task._copy(given))
            if same is not None:
                self._variants[task, tags, same] = found
        return found

    def _check_open(self, task: Task) -> None:
        if not self.is_open:
            raise PrefectishError(f"{task.name} cannot run: its flow run of {self.plan.flow_name} has ended")

    # -- for futures ------------------------------------------------------------------------------------------------

    def state_of(self, outcome: Settled) -> State | None:
        """Return the state of a call as it is now, None if the loop does not have it yet."""
        step_state, row = outcome.step_state, outcome.row
        if step_state is None or row is None or step_state.children is None or row >= len(step_state.children):
            return None
        return step_state.state_of(row)


def maps_over(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is a map, since one of its arguments is ``mapped(...)``."""
    return any(is_a(value, Annotation) and unwrap(value).mapped for value in (*args, *kwargs.values()))


def _as_key(options: Mapping[str, Any]) -> Hashable:
    """Return options of a call as a key: calls with equal ones share a copy of their task. None if unhashable."""
    plain = tuple((n, tuple(sorted(v.items())) if isinstance(v, dict) else v) for n, v in sorted(options.items()))
    return plain if isinstance(capture(hash, plain), Value) else None


def _known_state(outcome: Settled) -> State:
    """Return the state of what has ended, or is paused."""
    state = outcome.state or outcome.waiting
    assert state is not None
    return state


def _states_of_children(map_call: MapCall) -> list[State]:
    """Return the states of a map's children in map order; that of the map alone, if it could not begin."""
    step_state, state = map_call.step_state, _known_state(map_call.outcome)
    if map_call.outcome.state is None and step_state is not None:  # some are paused
        state = step_state.snapshot()
    if not isinstance(state, Mapped):
        return [state]
    return [child for child in state.map_states or () if child is not None]


def _items_of(given: Arguments) -> tuple[Any, ...]:
    """Return the inputs of a call whose sources have ended."""
    return tuple([a.state if type(a) is Settled else as_success_if_ambiguous(a) for a in given.values])


def _start_of(signature: CallSignature, outcome: Settled) -> dict[int, State]:
    """Return the state from which a call starts that is made where it stands: a stored result has the key of it."""
    if outcome.key is None or signature.spec.steps[0].storage is None:
        return {}
    return {0: Pending(context={ITEM_KEY: outcome.key})}


def _has_failed(state: State | None) -> bool:
    children = getattr(state, "map_states", None)
    return any(c is not None and c.is_failed() for c in children) if children else isinstance(state, Failed)
