"""What states had in Prefect 1 besides: methods that read results, and one more class."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from inspect import getattr_static
from typing import Any

from prefectish.compat.configuration import __version__
from prefectish.compat.results import NoResult, Result
from prefectish.compat.stores import PrefectStore
from prefectish.engine.deferred import Deferred
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN
from prefectish.engine.state import Mapped, Pending, Queued, State, Submitted, innermost
from prefectish.engine.worker.attempt import PENDING, RUNNING
from prefectish.engine.worker.stored_result import Stored
from prefectish.safe_repr import printable

#: What of a state is a time.
TIMES = frozenset({"start_time", "cached_result_expiration"})
#: States that the engine gives to many tasks.
_SHARED = (PENDING, RUNNING, NOT_RUN, NEVER_STARTED)


class ClientFailed(State, public=("state",)):
    """Could not be sent to the server of Prefect 1; there is no server here, so it never arises.

    Parameters
    ----------
    state
        The state that could not be sent.
    """

    __slots__ = ("state",)
    color = "#eb0000"
    state: State | None

    def __init__(self, message: Any = None, result: Any = None, *, state: State | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        object.__setattr__(self, "state", innermost(state))


#: The names of states there; more classes below them are the user's own.
NAMES = frozenset({
    "Cached", "Cancelled", "Cancelling", "ClientFailed", "Failed", "Finished", "Looped", "Mapped", "Paused", "Pending",
    "Queued", "Resume", "Retrying", "Running", "Scheduled", "Skipped", "State", "Submitted", "Success", "TimedOut",
    "TriggerFailed", "ValidationFailed",
})  # fmt: skip


#: What the engine's states answer to `children`.
_CHILDREN = getattr_static(State, "children")


class Children:
    """The attribute ``children`` of states: of a class, the classes below it there."""

    __slots__ = ()

    def __get__(self, state: Any, owner: type[Any]) -> Any:
        return _CHILDREN.__get__(state, owner) if state is not None else partial(_classes_below, owner)


def _classes_below(cls: type[State], include_self: bool = False, names_only: bool = False) -> list[Any]:
    """Return the classes below a class: states that wrap another one stand beside the rest there."""
    found = _CHILDREN.__get__(None, cls)(include_self=include_self)
    shown = [
        each
        for each in found
        if (each.__name__ in NAMES or not each.__module__.startswith("prefectish."))
        and not (issubclass(each, Queued) and issubclass(cls, Pending) and not issubclass(cls, Queued))
    ]
    return [each.__name__ for each in shown] if names_only else shown


def is_meta_state(self: State) -> bool:
    """Tell whether it wraps another state."""
    return isinstance(self, Queued | Submitted | ClientFailed)


def is_pending(self: State) -> bool:
    """Tell whether it has not started; one that wraps another state is not asked."""
    return isinstance(self, Pending) and not isinstance(self, Queued)


def _get_result(self: State) -> Any:
    raw = self._raw_result
    if isinstance(raw, Stored) and isinstance(raw.store, PrefectStore):
        return raw.store.as_result(raw)
    if isinstance(raw, Deferred):
        return raw
    return NoResult if raw is None else Result(raw)


def _set_result(self: State, result: Any) -> None:
    object.__setattr__(self, "_raw_result", None if result is NoResult else result)


def set_attribute(self: State, name: str, value: Any) -> None:
    """Set what the class of the state has, as a handler did; its other names stay unknown."""
    if any(self is shared for shared in _SHARED):
        raise AttributeError(f"{self!r} is the state of many tasks; return state.replace({name}=...) from the handler")
    name = {"result": "_raw_result", "context": "_context", "cached_inputs": "_cached_inputs"}.get(name, name)
    if name == "_result":
        _set_result(self, value)
    elif name == "n_map_states":
        object.__setattr__(self, "_n_map_states", value)
    elif name in self._slots or hasattr(self, "__dict__"):
        object.__setattr__(self, name, innermost(value) if name == "state" else value)
    else:
        raise AttributeError(f"{type(self).__name__} has no {name!r}; keep it in its context: state.context[{name!r}]")


def get_context(self: State) -> dict[str, Any]:
    """Return values that describe the run in which the state arose; a handler may add to them."""
    if self._context is None and not any(self is shared for shared in _SHARED):
        object.__setattr__(self, "_context", {})
    found: dict[str, Any] | None = self._context
    return {} if found is None else found


def load_result(self: State, result: Any = None) -> State:
    """Read the result: by its own result object, or by `result`, where it only has a location; return the state."""
    if isinstance(self, Mapped):
        for child in self.map_states:
            if child is not None:
                load_result(child, result)
    else:
        _set_result(self, _read(self._raw_result, result))
    return self


def load_cached_results(self: State, results: dict[str, Any] | None = None) -> State:
    """Read the cached inputs by the result objects of these names; return the state."""
    for name, value in self.cached_inputs.items():
        self.cached_inputs[name] = _read(value, (results or {}).get(name))
    return self


def _read(kept: Any, reader: Any) -> Any:
    """Return a result with its value, which is read if only its location is known."""
    if not isinstance(kept, Result) or kept.value is not None or not isinstance(kept.location, str):
        return kept
    return (reader or kept).read(kept.location)


def serialize(self: State) -> dict[str, Any]:
    """Return what the state is as JSON takes it: of a result its location alone, times as text."""
    own = {name: _plain(getattr(self, name)) for name in self._public if name != "cached_inputs"}
    raw = self._raw_result
    kind = "NoResultType" if raw is None or raw is NoResult else "Result"
    return {
        "type": type(self).__name__,
        "__version__": __version__,
        "message": None if self.message is None else str(self.message),
        "context": {name: _plain(value) for name, value in self.context.items()},
        "cached_inputs": {
            name: {"type": "Result", "location": _place(value)} for name, value in self.cached_inputs.items()
        },
        "_result": {"type": kind, "location": _place(raw), "__version__": __version__},
        **own,
    }


def _place(value: Any) -> str | None:
    location = getattr(value, "location", None)
    return location if isinstance(location, str) else None


def _plain(value: Any) -> Any:
    """Return a value of a state as JSON takes it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, State):
        return serialize(value)
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def deserialize(json_blob: dict[str, Any]) -> State:
    """Return the state of a dict."""
    known: list[type[State]] = _CHILDREN.__get__(None, State)(include_self=True)
    cls = {cls.__name__: cls for cls in known}[json_blob["type"]]
    facts = {name: value for name, value in json_blob.items() if name in {"message", "context", *cls._public}}
    for name in TIMES & facts.keys():
        if isinstance(facts[name], str):
            facts[name] = datetime.fromisoformat(facts[name])
    if isinstance(facts.get("state"), dict):
        facts["state"] = deserialize(facts["state"])
    facts["map_states"] = [
        deserialize(child) if isinstance(child, dict) else None for child in facts.get("map_states") or ()
    ]
    if not issubclass(cls, Mapped):
        del facts["map_states"]
    inputs = json_blob.get("cached_inputs") or {}
    facts["cached_inputs"] = {name: Result(location=value["location"]) for name, value in inputs.items()}
    location = (json_blob.get("_result") or {}).get("location")
    return cls(result=None if location is None else Result(location=location), **facts)


def names_of(self: State) -> list[str]:
    """Return the names of its attributes: those that Prefect 1 had, and the rest but questions."""
    return [name for name in object.__dir__(self) if not name.startswith("is_") or name in QUESTIONS]


def represent(self: State) -> str:
    """Return the state as Prefect 1 showed it: ``<Success: "Task run succeeded.">``."""
    return f'<{type(self).__name__}: "{printable(self.message)}">' if self.message else f"<{type(self).__name__}>"


#: The questions that a state of Prefect 1 answers.
QUESTIONS = frozenset({
    "is_cached", "is_failed", "is_finished", "is_looped", "is_mapped", "is_meta_state", "is_pending", "is_queued",
    "is_retrying", "is_running", "is_scheduled", "is_skipped", "is_submitted", "is_successful",
})  # fmt: skip
#: Methods that the engine's states have while `prefect` is installed.
METHODS: dict[str, Any] = {
    "__setattr__": set_attribute,
    "__dir__": names_of,
    "_result": property(_get_result, _set_result),
    "context": property(get_context),
    "children": Children(),
    "is_pending": is_pending,
    "__hash__": object.__hash__,
    "is_meta_state": is_meta_state,
    "load_result": load_result,
    "load_cached_results": load_cached_results,
    "serialize": serialize,
    "deserialize": staticmethod(deserialize),
    "__repr__": represent,
}


def extend_states() -> None:
    """Give states their methods: the engine makes states of its own classes, which take no other base."""
    for name, method in METHODS.items():
        setattr(State, name, method)
    Stored.value = property(lambda stored: stored.get())  # type: ignore[attr-defined]
