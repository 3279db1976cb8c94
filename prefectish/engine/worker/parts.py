"""The optional parts of an attempt, one protocol: what happens around the call of a body.

A step without any has an empty tuple of parts and pays for none. :func:`parts_of` lists them in the order in which they
act: a name first, since the others may log; then how this attempt ended before; then whatever stands for the run; last
what is around the call itself. Where the loop of a run with a time limit calls bodies in its own thread, each of them
has the part for limits, too (:func:`limited_by_run`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

from prefectish.engine.worker import start_marker
from prefectish.engine.worker.body_progress import report
from prefectish.engine.worker.input_check import changed, complaint, failure, hashes
from prefectish.engine.worker.template_fields import TemplateFields
from prefectish.engine.worker.time_limit import allowance_of, call_limited

if TYPE_CHECKING:
    from prefectish.engine.capture import Error, Value
    from prefectish.engine.jobs.job import StepSpec
    from prefectish.engine.state import State
    from prefectish.engine.worker.attempt_context import AttemptContext
    from prefectish.engine.worker.cache import CacheSpec
    from prefectish.engine.worker.storage import ResultStorage
    from prefectish.secrets.lazy import NoStorage
    from prefectish.tasks.naming import RunNaming

    Inputs = dict[str, Any]

#: Calls the body once.
Call: TypeAlias = "Callable[[], Value | Error]"
Parts: TypeAlias = "tuple[AttemptPart, ...]"


class AttemptPart:
    """Base class of the parts; each method does nothing.

    Attributes
    ----------
    replays
        Whether `before_body` returns how this very attempt ended before, which the handlers have seen.
    wraps
        Whether `around` does anything.
    calls_user
        Whether the other methods may call code of the user, or wait for a store, and have a time limit.
    """

    __slots__ = ()
    replays: ClassVar[bool] = False
    wraps: ClassVar[bool] = False
    calls_user: ClassVar[bool] = True

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        """Return a state that stands for the run of the body; None to run it."""
        return None

    def begin(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        """Act once the task is Running; return a state if the body must not run, else None."""
        return None

    def around(self, ctx: AttemptContext, inputs: Inputs, call: Call) -> Value | Error:
        """Call the body; in a loop, at each turn."""
        return call()

    def after_body(self, ctx: AttemptContext, inputs: Inputs, state: State) -> State:
        """Return the state that follows a Success of the body."""
        return state

    def end(self, ctx: AttemptContext, state: State) -> None:
        """Act on the state in which the attempt ended, after the handlers."""


class _Heartbeat(AttemptPart):
    """Reports the begin and the end of a body that is to report how far it is, so that its silence is noticed."""

    __slots__ = ()
    calls_user = False

    def begin(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        """Let the time run."""
        report(ctx, 0, None, None, always=True)
        return None

    def end(self, ctx: AttemptContext, state: State) -> None:
        """Let it run no longer."""
        report(ctx, None, None, None, always=True)


_HEARTBEAT = _Heartbeat()


class _Naming(AttemptPart):
    """Renders ``task_run_name``."""

    __slots__ = ("_naming",)

    def __init__(self, naming: RunNaming) -> None:
        self._naming = naming

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        ctx.name = self._naming.name(TemplateFields(ctx, inputs), ctx.spec.label, ctx["logger"].warning)
        return None


class _ResultName(AttemptPart):
    """Sees that no other child of the run has the name that the user chose for the result."""

    __slots__ = ("_storage",)

    def __init__(self, storage: ResultStorage) -> None:
        self._storage = storage

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        return self._storage.take_name(ctx, inputs)


class _StoredResult(AttemptPart):
    """Stores results, and finds how this attempt ended before if its worker died after that."""

    __slots__ = ("_records_outcome", "_storage")
    replays = True

    def __init__(self, storage: ResultStorage | NoStorage, records_outcome: bool) -> None:
        self._storage = storage
        self._records_outcome = records_outcome

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        return self._storage.load_previous(ctx, inputs)

    def after_body(self, ctx: AttemptContext, inputs: Inputs, state: State) -> State:
        return self._storage.save(ctx, inputs, state)

    def end(self, ctx: AttemptContext, state: State) -> None:
        if self._records_outcome:
            self._storage.record_outcome(ctx, state)


class _StartMarker(AttemptPart):
    """Keeps a body with ``rerun_on_loss=False`` from running twice."""

    __slots__ = ("_storage",)

    def __init__(self, storage: ResultStorage) -> None:
        self._storage = storage

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        return start_marker.left_behind(self._storage, ctx, inputs)

    def begin(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        return start_marker.begin(self._storage, ctx, inputs)

    def end(self, ctx: AttemptContext, state: State) -> None:
        start_marker.end(self._storage, ctx, state)


class _Target(AttemptPart):
    """Looks for a result at the task's ``target``."""

    __slots__ = ("_storage",)

    def __init__(self, storage: ResultStorage | NoStorage) -> None:
        self._storage = storage

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        return self._storage.target_state(ctx, inputs)


class _CacheLookup(AttemptPart):
    """Looks the run up in the cache before the body, and adds what the body returned."""

    __slots__ = ("_cache",)

    def __init__(self, cache: CacheSpec) -> None:
        self._cache = cache

    def before_body(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        if ctx.miss is not None:  # a probe looked
            return None
        state, ctx.miss = self._cache.lookup(ctx, inputs)
        return state

    def after_body(self, ctx: AttemptContext, inputs: Inputs, state: State) -> State:
        return state if ctx.miss is None else self._cache.save(ctx, inputs, state, ctx.miss)


class _InputCheck(AttemptPart):
    """Fails a body that changes its arguments."""

    __slots__ = ()

    def begin(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        ctx.inputs = inputs, hashes(inputs)
        return None

    def after_body(self, ctx: AttemptContext, inputs: Inputs, state: State) -> State:
        before, ctx.inputs = ctx.inputs, None
        names = [] if before is None else changed(before)
        return failure(ctx, names) if names else state

    def end(self, ctx: AttemptContext, state: State) -> None:
        if ctx.inputs is not None and (names := changed(ctx.inputs)):  # it failed: a retry may be given what it left
            ctx["logger"].warning("%s", complaint(ctx, names))


class _LoggedPrints(AttemptPart):
    """Sends what the body prints to the logger of its task."""

    __slots__ = ()
    wraps = True
    calls_user = False

    def around(self, ctx: AttemptContext, inputs: Inputs, call: Call) -> Value | Error:
        from prefectish.engine.worker.logs.stdout import logged_prints

        with logged_prints(ctx["logger"]):
            return call()


class _Limits(AttemptPart):
    """Ends a body at its time limit, or that of its run, and calls one that is isolated in a process of its own."""

    __slots__ = ()
    wraps = True
    calls_user = False

    def begin(self, ctx: AttemptContext, inputs: Inputs) -> State | None:
        ctx.allowance = allowance_of(ctx)
        return None

    def around(self, ctx: AttemptContext, inputs: Inputs, call: Call) -> Value | Error:
        assert ctx.allowance is not None
        return call_limited(ctx, inputs, ctx.allowance, call)


_LIMITS = _Limits()


def parts_of(spec: StepSpec, checks_inputs: bool = False) -> Parts:
    """Return the parts of a step, in the order in which they act."""
    parts: list[AttemptPart] = []
    if spec.naming is not None:
        parts.append(_Naming(spec.naming))
    if checks_inputs:
        parts.append(_InputCheck())
    if spec.storage is not None:
        parts.append(_StoredResult(spec.storage, records_outcome=spec.start_marker is None))
    if spec.start_marker is not None:
        parts.append(_StartMarker(spec.start_marker))
    chosen = getattr(spec.storage, "chosen", None)
    if spec.storage is not None and chosen is not None:
        parts.append(_ResultName(cast("ResultStorage", spec.storage)))
    if spec.storage is not None:
        parts.append(_Target(spec.storage))
    if spec.cache is not None:
        parts.append(_CacheLookup(spec.cache))
    task = spec.task
    has_limits = bool(task.timeout or task.total_timeout or task.isolation != "thread")
    around = (
        (task.heartbeat_timeout is not None, _HEARTBEAT),
        (task.log_stdout, _LoggedPrints()),
        (has_limits, _LIMITS),
    )
    return (*parts, *(part for is_wanted, part in around if is_wanted))


def limited_by_run(parts: Parts) -> Parts:
    """Return parts with the one for limits, for a body that is called where a run with a time limit has its loop."""
    return parts if _LIMITS in parts else (*parts, _LIMITS)
