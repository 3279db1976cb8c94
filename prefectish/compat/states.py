"""What states had in Prefect 1 besides: methods that read results, and one more class."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefectish.compat.configuration import __version__
from prefectish.compat.results import Result
from prefectish.engine.state import Mapped, Queued, State, Submitted, innermost
from prefectish.engine.worker.stored_result import Stored
from prefectish.safe_repr import printable

#: What of a state is a time.
TIMES = frozenset({"start_time", "cached_result_expiration"})


class ClientFailed(State, public=("state",)):
    """Could not be told to a server, which there is none of here.

    Parameters
    ----------
    state
        The state that could not be told.
    """

    __slots__ = ("state",)
    color = "#eb0000"
    state: State | None

    def __init__(self, message: Any = None, result: Any = None, *, state: State | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        object.__setattr__(self, "state", innermost(state))


def is_meta_state(self: State) -> bool:
    """Tell whether it wraps another state."""
    return isinstance(self, Queued | Submitted | ClientFailed)


def load_result(self: State, result: Any = None) -> State:
    """Return the state with its result read: by its own result object, or by `result`, where it only has a location."""
    if isinstance(self, Mapped):
        return self.replace(
            map_states=[None if child is None else load_result(child, result) for child in self.map_states]
        )
    return self.replace(result=_read(self._raw_result, result))


def load_cached_results(self: State, results: dict[str, Any] | None = None) -> State:
    """Return the state with its cached inputs read, by the result objects of these names."""
    read = {name: _read(value, (results or {}).get(name)) for name, value in self.cached_inputs.items()}
    return self.replace(cached_inputs=read)


def _read(kept: Any, reader: Any) -> Any:
    """Return a result with its value, which is read if only its location is known."""
    if not isinstance(kept, Result) or kept.value is not None or not isinstance(kept.location, str):
        return kept
    return (reader or kept).read(kept.location)


def serialize(self: State) -> dict[str, Any]:
    """Return what the state is as a dict; results and messages as they are, times as text."""
    own = {name: getattr(self, name) for name in self._public}
    own = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in own.items()}
    facts = {"type": type(self).__name__, "message": self.message, "result": self.result, "context": self.context}
    return {**facts, **own, "__version__": __version__}


def deserialize(json_blob: dict[str, Any]) -> State:
    """Return the state of a dict."""
    classes = {cls.__name__: cls for cls in State.children(include_self=True)}
    facts = {name: value for name, value in json_blob.items() if name not in ("type", "__version__")}
    for name in TIMES & facts.keys():
        if isinstance(facts[name], str):
            facts[name] = datetime.fromisoformat(facts[name])
    return classes[json_blob["type"]](**facts)


def represent(self: State) -> str:
    """Return the state as Prefect 1 showed it: ``<Success: "Task run succeeded.">``."""
    return f'<{type(self).__name__}: "{printable(self.message)}">' if self.message else f"<{type(self).__name__}>"


#: Methods that the engine's states have while `prefect` is installed.
METHODS: dict[str, Any] = {
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
