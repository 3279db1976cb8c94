"""How an attempt ended, as a file in the result store of the user.

In a store of pickles it is a pickle, as the results are. Any other store is kept free of pickles, since its
serializer may have been chosen because strangers can write there: a note is JSON then, values are written by that
serializer, and an exception is a text. A note of another format than its store's is ignored: the attempt runs again.
"""

from __future__ import annotations

import json
import pickle
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import SIMPLE, dumps, encode_state, remote_error
from prefectish.engine.signals import StateSignal, signal_from_state
from prefectish.engine.state import State
from prefectish.engine.worker.stored_result import Stored
from prefectish.exception_pickling import from_record
from prefectish.kinds import is_a

if TYPE_CHECKING:
    from prefectish.results.base import Result

#: Fact of a file that has the state of an attempt, and not its result.
HOLDS, STATE = "holds", "state"
_FORM = "note"
_JSON = "json"
#: Values of these types are written as they are.
_PLAIN = SIMPLE - {complex, bytes}
_SHARED = frozenset({"message", "_raw_result", "_context", "_cached_inputs"})


def write(store: Result, name: str, state: State, label: str, facts: Mapping[str, Any] | None = None) -> None:
    """Store a state; raises what pickling, the serializer or the store raises.

    Parameters
    ----------
    label
        What the child is called in messages.
    facts
        What else is noted with it.
    """
    if store.holds_pickles:
        store.write(name, dumps(encode_state(state, label)), {**(facts or {}), HOLDS: STATE})
        return
    text = json.dumps(_parts(store, state), separators=(",", ":"), allow_nan=True)
    store.write(name, text.encode(), {**(facts or {}), HOLDS: STATE, _FORM: _JSON})


def read(store: Result, name: str) -> State | None:
    """Return the state that a note holds; None for anything else than a note of this kind of store.

    Raises
    ------
    ResultCorrupt, FileNotFoundError
        As :meth:`Result.read`.
    """
    facts, content = store.read_with_facts(name)
    form = _FORM in facts
    if form is store.holds_pickles or facts.get(_FORM, _JSON) != _JSON:
        return None
    state = _state(store, json.loads(content)) if form else pickle.loads(content)
    return state if issubclass(type(state), State) else None


def _parts(store: Result, state: State) -> dict[str, Any]:
    own = {name: getattr(state, name) for name in type(state)._slots if name not in _SHARED}
    own["_traceback"] = getattr(state, "traceback", None)
    return {
        "state": type(state).__name__,
        "message": None if state.message is None else str(state.message),
        "result": _packed(store, state._raw_result),
        "context": {str(name): _packed(store, value) for name, value in state.context.items()},
        "cached_inputs": {name: _packed(store, value) for name, value in state.cached_inputs.items()},
        "own": {name: _packed(store, value) for name, value in own.items() if value is not None},
    }


def _packed(store: Result, value: Any) -> Any:
    """Return a value as plain JSON: other than simple values become a list that begins with their kind."""
    if type(value) in _PLAIN:
        return value
    if is_a(value, Stored):
        return ["stored", value.location, value.label]
    if is_a(value, Deferred):
        return _packed(store, value.get())
    if is_a(value, StateSignal) and type(value).__module__ == StateSignal.__module__:
        return ["signal", type(value.state).__name__, *value.args]
    if is_a(value, BaseException):
        return ["error", *remote_error(value).args]
    if type(value) is datetime:
        return ["time", value.isoformat()]
    if type(value) in (list, dict) and json.loads(json.dumps(value)) == value:
        return ["json", value]
    return ["value", b64encode(store.serializer.serialize(value)).decode()]


def _state(store: Result, parts: dict[str, Any]) -> State:
    cls = _class_of(parts["state"])
    own = {name.removeprefix("_"): _opened(store, value) for name, value in parts["own"].items()}
    for name in ("context", "cached_inputs"):
        own[name] = {key: _opened(store, value) for key, value in parts[name].items()} or None
    return cls(parts["message"], _opened(store, parts["result"]), **own)


def _class_of(name: str, base: type[State] = State) -> type[State]:
    """Return the class of states with this name; KeyError if there is none."""
    if base.__name__ == name:
        return base
    for below in base.__subclasses__():
        with suppress(KeyError):
            return _class_of(name, below)
    raise KeyError(name)


def _opened(store: Result, value: Any) -> Any:
    if type(value) is not list:
        return value
    kind, *parts = value
    if kind == "stored":
        return Stored(store, *parts)
    if kind == "signal":
        return signal_from_state(_class_of(parts[0])())(*parts[1:])
    if kind == "error":
        return from_record(*parts)
    if kind == "time":
        return datetime.fromisoformat(*parts)
    return parts[0] if kind == "json" else store.serializer.deserialize(b64decode(*parts))
