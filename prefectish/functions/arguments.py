"""Arguments of calls in a flow function: values, and futures at any depth of their collections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from prefectish.edges import Annotation, Unwrapped, flattened_once, unwrap
from prefectish.edges import allow_failure as allowing_failure
from prefectish.engine.capture import Value, capture
from prefectish.engine.context import current
from prefectish.engine.jobs.envelope import SIMPLE
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.state import State
from prefectish.engine.worker.decide import flattened
from prefectish.errors import PrefectishError
from prefectish.functions.call_requests import Argument
from prefectish.functions.dynamic_plan import InputSpec
from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.functions.settled import Settled
from prefectish.hashing import stable_hash
from prefectish.kinds import is_a
from prefectish.members import Slot, holds, members_of, rebuilt
from prefectish.tasks.mapping import check_constant, check_mappable
from prefectish.tasks.secrets import SecretBase

#: What the context calls the run whose flow function runs in this thread.
FUNCTION_RUN = "function_run"
_NO_TAGS: frozenset[str] = frozenset()
_STATE = TaskName("wait_for", "wait_for", _NO_TAGS, "wait_for")  # what a state in `wait_for` comes from
_given: dict[str, InputSpec] = {}
#: What is looked for in arguments; an annotation may hold one of the others.
_SOUGHT = (TaskFuture, MapFuture, State, SecretBase, Annotation)


class Arguments(NamedTuple):
    """The arguments of a call."""

    specs: tuple[InputSpec, ...]  # their kinds: calls with equal specs share a chain
    values: tuple[Any, ...]  # one for each spec: a value, a state, or an outcome
    sources: tuple[Settled, ...]  # the outcomes among them
    by_position: tuple[str, ...] = ()  # names of those that the body is given by position


#: Calls a task in between, and returns its future; of an annotated value, what the annotations make of it.
StepBetween = Callable[[Any], Any]


def arguments_of(
    task_name: str, bound: Mapping[str, Any], wait_for: Iterable[Any], allow_failure: bool, step_between: StepBetween
) -> Arguments:
    """Return the arguments of a call; TypeError if `wait_for` holds, also in lists, something other than futures.

    If `allow_failure`, failures among what it reads and waits for do not keep it from running.
    """
    specs: list[InputSpec] = []
    values: list[Any] = []
    for key, value in bound.items():
        if type(value) in SIMPLE:
            specs.append(_given_spec(key))
            values.append(value)
        else:
            unwrapped = unwrap(flattened_once(value, step_between))
            check_constant(unwrapped.value, task_name, f"argument {key!r}", unwrapped.flattened)
            _add(specs, values, key, unwrapped, allow_failure, step_between)
    for entry in _waited_for(wait_for):
        is_state = is_a(entry.value, State)
        name = _STATE if is_state else entry.value.task_name
        specs.append(InputSpec(None, -1, name, allow_failure=allow_failure or entry.allow_failure))
        values.append(_outcome_of_state(entry.value) if is_state else _outcome_of(entry.value))
    sources = tuple(value for value in values if type(value) is Settled)
    return Arguments(_distinct(specs) if sources else tuple(specs), tuple(values), sources)


def key_of(given: Arguments) -> str | None:
    """Return the key of a call, by its arguments: a hash, the same in another run of the flow function.

    A future counts by its own key, not by its result. None if an argument has no stable hash.
    """
    named = [
        (spec.key or spec.inside or "", _named(value) if type(value) is Settled else rebuilt(value, _hashable))
        for spec, value in zip(given.specs, given.values, strict=True)
    ]
    hashed = capture(stable_hash, named)
    return hashed.value if isinstance(hashed, Value) else None


def _named(outcome: Settled) -> Any:
    if outcome.step_state is None and outcome.state is not None:  # a state that was passed, of whatever run
        return _hashable(outcome.state)
    slug = outcome.slug if outcome.step_state is None else outcome.step_state.step.slug
    return slug, outcome.key or ("" if outcome.row is None else outcome.row)


def _hashable(member: Any) -> Any:
    if is_a(member, State):
        return type(member).__name__, member.result
    return ("place", member.key) if type(member) is Slot else member


def _given_spec(key: str) -> InputSpec:
    spec = _given.get(key)
    if spec is None:
        spec = _given[key] = InputSpec(key, -1, TaskName(key, key, _NO_TAGS, key), given=True)
    return spec


def _add(
    specs: list[InputSpec],
    values: list[Any],
    key: str,
    unwrapped: Unwrapped,
    allow_failure: bool,
    step_between: StepBetween,
) -> None:
    value = _asked_for(unwrapped.value)
    allowed = allow_failure or unwrapped.allow_failure
    if is_a(value, (TaskFuture, MapFuture)):
        specs.append(InputSpec(key, -1, value.task_name, False, unwrapped.flattened, allowed))
        values.append(_outcome_of(value))
    elif is_a(value, State):
        specs.append(InputSpec(key, -1, TaskName(key, key, _NO_TAGS, key), False, unwrapped.flattened, allowed))
        values.append(_outcome_of_state(value))
    elif holds_futures(value):
        if unwrapped.flattened:  # once it is filled
            made = step_between(allowing_failure(value) if allowed else value)
            _add(specs, values, key, unwrapped._replace(value=made), allowed, step_between)
        else:
            _add_filled(specs, values, key, value, allowed, step_between)
    else:
        specs.append(_given_spec(key))
        values.append(flattened(value) if unwrapped.flattened else value)


def _add_filled(
    specs: list[InputSpec], values: list[Any], key: str, value: Any, allowed: bool, step_between: StepBetween
) -> None:
    """Add a collection with futures in it: each fills a slot of its own."""

    def fill(member: Any, allowed: bool = allowed) -> Any:
        unwrapped = unwrap(flattened_once(member, step_between))
        inner, allow = _asked_for(unwrapped.value), allowed or unwrapped.allow_failure
        if not is_a(inner, (TaskFuture, MapFuture, State)):
            if not is_a(member, Annotation) or not holds_futures(inner):
                return member
            if not unwrapped.flattened:
                return rebuilt(inner, partial(fill, allowed=allow))
            inner = step_between(allowing_failure(inner) if allow else inner)
        name = f"_{len(specs)}_in_{key}"
        task_name = TaskName(key, key, _NO_TAGS, key) if is_a(inner, State) else inner.task_name
        specs.append(InputSpec(name, -1, task_name, False, unwrapped.flattened, allow, inside=key))
        values.append(_outcome_of_state(inner) if is_a(inner, State) else _outcome_of(inner))
        return Slot(name)

    try:
        template = rebuilt(value, fill)
    except RecursionError:
        text = f"a {type(value).__name__} that holds itself, and a future, cannot be passed; pass the future alone"
        raise TypeError(text) from None
    specs.append(_given_spec(key))
    values.append(template)


def _distinct(specs: list[InputSpec]) -> tuple[InputSpec, ...]:
    """Return specs of which no two make equal edges, so that triggers see as many states as there are."""
    seen: dict[InputSpec, int] = {}
    distinct: list[InputSpec] = []
    for spec in specs:
        count = seen[spec] = seen.get(spec, 0) + 1
        if count > 1:
            name = spec.upstream
            spec = spec._replace(upstream=name._replace(slug=f"{name.slug}#{count}"))
        distinct.append(spec)
    return tuple(distinct)


def _asked_for(value: Any) -> Any:
    """Return the future of a secret, which is looked up where it is read, as in a graph; any other value as it is."""
    return value.submit() if is_a(value, SecretBase) else value


def _outcome_of(future: TaskFuture[Any] | MapFuture[Any]) -> Settled:
    _check_own(future)
    outcome = future._map_call.outcome if isinstance(future, MapFuture) else future._outcome
    outcome.read = True
    return outcome


def _outcome_of_state(state: State) -> Settled:
    outcome = Settled("a state")
    outcome.settle(state)
    return outcome


def _check_own(future: TaskFuture[Any] | MapFuture[Any]) -> None:
    """Refuse a future of another run, and name the way out."""
    here = current().get(FUNCTION_RUN)
    if future._run is not here:
        this = "no flow function" if here is None else f"run {here.control.run_id} of {here.plan.flow_name}"
        raise PrefectishError(
            f"{future.name} belongs to run {future._run.control.run_id} of {future._run.plan.flow_name}, "
            f"and this is {this}; pass its .result() instead"
        )


def holds_futures(value: Any, around: tuple[int, ...] = ()) -> bool:
    """Whether a future, a state or a secret is somewhere in a value; `around` are those it is in."""
    if not around and not is_a(value, _SOUGHT) and not holds(value, _SOUGHT):
        return False
    if is_a(value, Annotation):
        value = unwrap(value).value
    if is_a(value, (TaskFuture, MapFuture, State, SecretBase)):
        return True
    members = members_of(value)
    if members is None or id(value) in around:  # a list that holds itself
        return False
    around = (*around, id(value))
    return any(type(member) not in SIMPLE and holds_futures(member, around) for member in members)


def waited_in(value: Any) -> list[Unwrapped]:
    """Return the futures and states in a value, at any depth of its collections, as `allow_failure` marks them."""
    unwrapped = unwrap(value)
    if is_a(unwrapped.value, (TaskFuture, MapFuture, State)):
        return [unwrapped]
    inside = [
        entry
        for member in members_of(unwrapped.value) or ()
        if type(member) not in SIMPLE
        for entry in waited_in(member)
    ]
    return [e._replace(allow_failure=True) for e in inside] if unwrapped.allow_failure else inside


def _waited_for(wait_for: Iterable[Any]) -> list[Unwrapped]:
    found: list[Unwrapped] = []
    for entry in _entries(wait_for):
        if unwrap(entry).mapped:
            raise TypeError("wait_for=[mapped(...)]: one call cannot wait item by item; use .map(..., wait_for=...)")
        found.extend(_futures_of(entry))
    return found


def _futures_of(entry: Any) -> list[Unwrapped]:
    """Return the futures and states in something to wait for; TypeError if it has members, and none of them is one."""
    inside = waited_in(entry)
    if not inside and not _is_empty(unwrap(entry).value):
        raise _not_a_future(unwrap(entry).value)
    return inside


def _is_empty(value: Any, around: tuple[int, ...] = ()) -> bool:
    """Whether a value is a collection of nothing, also in lists of lists; `around` are those it is in."""
    members = members_of(value) if id(value) not in around else None
    return members is not None and all(_is_empty(member, (*around, id(value))) for member in members)


def _entries(wait_for: Iterable[Any]) -> Iterable[Any]:
    """Return what to wait for one by one; a map is one."""
    return [wait_for] if isinstance(wait_for, TaskFuture | MapFuture | State) else wait_for


def _not_a_future(value: Any) -> TypeError:
    return TypeError(
        f"wait_for must hold futures, got {value!r}; .submit(...) and .map(...) return futures, and states count too"
    )


# -- maps --------------------------------------------------------------------------------------------------------------


def map_arguments(
    name: str,
    bound: Mapping[str, Any],
    wait_for: Iterable[Any],
    allow_failure: bool,
    mapped: bool,
    step_between: StepBetween,
) -> tuple[Argument, ...]:
    """Return the arguments of a map; `mapped` says whether those are mapped over that no annotation says it of.

    Raises TypeError if a value cannot be mapped over, or `wait_for` holds something other than futures.
    """
    made = [
        _map_argument(name, key, unwrap(value), allow_failure, mapped, step_between) for key, value in bound.items()
    ]
    for entry in _entries(wait_for):
        unwrapped = unwrap(entry)
        waited = [unwrapped] if unwrapped.mapped else _futures_of(entry)
        made += [_map_argument(name, None, one, allow_failure, False, step_between) for one in waited]
    return _distinguished(made)


def _distinguished(arguments: list[Argument]) -> tuple[Argument, ...]:
    """Return arguments of which no two make equal edges, as of a call: what is waited for counts one by one."""
    edges = _distinct([InputSpec(a.key, -1, a.name, a.mapped, a.flattened, a.allow_failure) for a in arguments])
    return tuple(a._replace(name=edge.upstream) for a, edge in zip(arguments, edges, strict=True))


def _map_argument(
    name: str,
    key: str | None,
    unwrapped: Unwrapped,
    allow_failure: bool,
    mapped: bool,
    step_between: StepBetween,
) -> Argument:
    value = _asked_for(unwrapped.value)
    is_mapped = mapped if unwrapped.mapped is None else unwrapped.mapped
    allowed = allow_failure or unwrapped.allow_failure
    if is_a(value, MapFuture):
        _check_own(value)
        value._map_call.outcome.read = True
        return Argument(key, value._map_call, value.task_name, is_mapped, unwrapped.flattened, allowed, False)
    if is_a(value, TaskFuture):
        return Argument(key, _outcome_of(value), value.task_name, is_mapped, unwrapped.flattened, allowed, True)
    word = key or "wait_for"
    task_name = TaskName(word, word, _NO_TAGS, word)
    holds = holds_futures(value)
    if not is_a(value, State):
        check = check_mappable if is_mapped else check_constant
        check(value, name, "wait_for" if key is None else f"argument {key!r}", unwrapped.flattened)
        if holds:
            value = rebuilt(value, partial(_stand_in, step_between=step_between))
    return Argument(key, value, task_name, is_mapped, unwrapped.flattened, allowed, holds)


def _stand_in(member: Any, step_between: StepBetween) -> Any:
    """Return the outcome of a future inside a value; of an annotated one, that of a step in between."""
    unwrapped = unwrap(member)
    inner = _asked_for(unwrapped.value)
    if is_a(member, Annotation) and holds_futures(inner):
        if unwrapped.flattened or unwrapped.allow_failure:
            inner = step_between(member)
        elif members_of(inner) is not None:
            return rebuilt(inner, partial(_stand_in, step_between=step_between))
    if is_a(inner, State):
        return _outcome_of_state(inner)
    return _outcome_of(inner) if is_a(inner, (TaskFuture, MapFuture)) else member
