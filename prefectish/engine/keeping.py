"""Results in a store: written where they are made, read where they are needed, found when a body would run twice.

With a store a result is written before its child is reported as successful. The record that travels carries the place,
and the value itself only if it is small. If the cluster runs the same attempt again, because a worker died with its
value, what was stored is taken and the body does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.state import Cached, Deferred, Failed, State, Success
from prefectish.errors import text_of

if TYPE_CHECKING:
    from prefectish.engine.facts import AttemptFacts
    from prefectish.results.base import Result

#: Results of at most so many bytes travel with their record as well.
SMALL = 4096
LEDGER = "ledger"


class Stored(Deferred):
    """A result in a store.

    Attributes
    ----------
    store : knows how to read it.
    location : where it is.
    label : the child that made it, for errors.
    nbytes : its size as stored.
    """

    __slots__ = ("_live", "_payload", "label", "location", "nbytes", "store")

    def __init__(
        self,
        store: Result,
        location: str,
        label: str,
        nbytes: int,
        payload: bytes | None = None,
        live: tuple[Any] | None = None,
    ) -> None:
        self.store = store
        self.location = location
        self.label = label
        self.nbytes = nbytes
        self._payload = payload
        self._live = live

    def get(self) -> Any:
        """Return the value, read once in each process.

        Raises
        ------
        ResultCorrupt : what is stored is not what was written.
        OSError : the store cannot be read.
        """
        if self._live is None:
            if self._payload is not None:
                self._live = (self.store.loads(self._payload),)
            else:
                self._live = (self.store.read(self.location),)
        return self._live[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.store, self.location, self.label, self.nbytes, self._payload)

    def __repr__(self) -> str:
        return f"<result of {self.label} at {self.location}, {self.nbytes} bytes>"


class Keeping:
    """Where and how a step keeps its results.

    Parameters
    ----------
    store : the task's own, or the flow's.
    checkpoint : False for a step that keeps nothing.
    target : template of a place that, where it exists, stands for a run of the task; None for none.
    folder : first part of every place of this run, so that no two runs write to one.
    """

    __slots__ = ("checkpoint", "folder", "store", "target")

    def __init__(self, store: Result, checkpoint: bool, target: Any, folder: str) -> None:
        self.store = store
        self.checkpoint = checkpoint
        self.target = target
        self.folder = folder

    def recalled(self, facts: AttemptFacts) -> State | None:
        """Return the state of this very attempt if it was stored before; None if it was not."""
        if not self.checkpoint:
            return None
        place = self._place(facts)
        found = capture(self.store.exists, place)
        if isinstance(found, Error) or not found.value:
            return None
        return Success("Task run succeeded.", Stored(self.store, place, _label(facts), SMALL + 1))

    def target_state(self, facts: AttemptFacts, inputs: dict[str, Any]) -> State | None:
        """Return Cached with the value at the target, Failed if it cannot be read, None if there is no target there."""
        if self.target is None:
            return None
        outcome = capture(self._read_target, facts, inputs)
        if isinstance(outcome, Value):
            state: State | None = outcome.value
            return state
        return _failed("target", facts, outcome.exception)

    def _read_target(self, facts: AttemptFacts, inputs: dict[str, Any]) -> State | None:
        place = self.store.render(self.target, facts, inputs)
        if not self.store.exists(place):
            return None
        value = self.store.read(place)
        return Cached(
            "Result found at its target.", Stored(self.store, place, _label(facts), SMALL + 1, None, (value,))
        )

    def kept(self, facts: AttemptFacts, inputs: dict[str, Any], state: State) -> State:
        """Return the state of a successful attempt with its result in the store; Failed if it cannot be written."""
        if not self.checkpoint or not isinstance(state, Success) or state._result is None:
            return state
        outcome = capture(self._write, facts, inputs, state._result)
        if isinstance(outcome, Error):
            return _failed("result", facts, outcome.exception)
        return state.replace(result=outcome.value)

    def _write(self, facts: AttemptFacts, inputs: dict[str, Any], value: Any) -> Stored:
        payload = self.store.dumps(value)
        place = self._place(facts) if self.target is None else self.store.render(self.target, facts, inputs)
        location = self.store.write(place, payload)
        return Stored(
            self.store, location, _label(facts), len(payload), payload if len(payload) <= SMALL else None, (value,)
        )

    def _place(self, facts: AttemptFacts) -> str:
        index = "single" if not facts.spec.mapped else str(facts.index)
        return f"{self.folder}/{facts.spec.slug}/{index}.{facts.run_count}"


def _label(facts: AttemptFacts) -> str:
    return facts.spec.label(facts.index)


def _failed(what: str, facts: AttemptFacts, error: BaseException) -> Failed:
    verb = "could not be read" if what == "target" else "could not be stored"
    return Failed(f"{what} of {_label(facts)} {verb}: {type(error).__name__}: {text_of(error)}", error)
