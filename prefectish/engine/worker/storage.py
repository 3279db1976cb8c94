"""Results in a store: written where they are made, read where they are needed, found when a body would run twice.

A result is written to the store before its child is reported as successful. The record that travels has its location,
and the value itself only if it is small. If the cluster runs the same attempt again, because a worker died with its
value, the stored result is used and the body does not run. For that, the state of an attempt that failed or returned
None is stored too.

Results lie under the run, the task and the position of the child. The history knows where a
resumed run finds the result of an item that has another position now.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.jobs.envelope import SIMPLE, Encoded, dumps, encode, encode_state
from prefectish.engine.process_tree import process_id
from prefectish.engine.state import Cached, Deferred, Failed, Retrying, State, Success
from prefectish.engine.worker.redaction import redacted_state
from prefectish.errors import ResultCorrupt, ResultReleased, describe, text_of
from prefectish.results.envelope import NotAResultFile
from prefectish.results.templates import PARAMETER, place
from prefectish.secrets import masking

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext
    from prefectish.results.base import Result

#: Header of a stored result whose name the user chose: the attempt that wrote it.
ATTEMPT = "attempt"
#: Header of a file that has the state of an attempt, and not its result.
STATE = "state"
#: Results of at most so many bytes travel with their record as well.
SMALL = 4096
_NOTHING = object()


class Stored(Deferred):
    """A result in a store.

    Attributes
    ----------
    store
        Knows how to read it.
    location
        Where it is.
    label
        The child that made it, for errors.
    """

    __slots__ = ("_live", "_small", "label", "location", "store")

    def __init__(self, store: Result, location: str, label: str, small: Any = _NOTHING, live: Any = _NOTHING) -> None:
        self.store = store
        self.location = location
        self.label = label
        self._small = small
        self._live = live

    def get(self) -> Any:
        """Return the value, read once in each process.

        Raises
        ------
        ResultCorrupt
            What is stored is not what was written.
        ResultReleased
            It was deleted.
        OSError
            The store cannot be read.
        """
        if self._live is _NOTHING:
            small = self._small
            if small is _NOTHING:
                self._live = self._loaded()
            else:
                self._live = small.get() if isinstance(small, Encoded) else small
        return self._live

    def _loaded(self) -> Any:
        try:
            return self.store.load(self.location)
        except FileNotFoundError:
            raise ResultReleased(
                f"result of {self.label} is gone: there is no {self.location!r} in {self.store!r} any more"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        here = () if self._small is _NOTHING else (self._small,)
        return Stored, (self.store, self.location, self.label, *here)

    def __repr__(self) -> str:
        return f"<result of {self.label} at {self.location}>"


class ResultStorage:
    """Where and how a step keeps its results.

    Parameters
    ----------
    store
        The task's own, or the flow's.
    checkpoint
        False for a step that keeps nothing.
    target
        Template of a place that, where it exists, stands for a run of the task; None for none.
    folder
        First part of every place of this run, so that no two runs write to one.

    Attributes
    ----------
    owner
        Id of the process of the client.
    """

    __slots__ = ("_claimed", "checkpoint", "folder", "owner", "store", "target")

    def __init__(self, store: Result, checkpoint: bool, target: Any, folder: str) -> None:
        self.store = store
        self.checkpoint = checkpoint
        self.target = target
        self.folder = folder
        self.owner = process_id()
        self._claimed: dict[str, str] = {}

    def __getstate__(self) -> tuple[Any, ...]:
        return self.store, self.checkpoint, self.target, self.folder, self.owner

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.store, self.checkpoint, self.target, self.folder, self.owner = state
        self._claimed = {}

    def load_previous(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Return how this very attempt ended before, if that was stored; None if it was not."""
        if not self.checkpoint:
            return None
        found = capture(self._load_previous, ctx, inputs)
        return None if isinstance(found, Error) else found.value

    def _load_previous(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        own = self.own_place(ctx)
        if self.store.exists(own):
            if self.store.facts(own).get("holds") == STATE:
                state: State = pickle.loads(self.store.read(own))
                return state
            return Success("Task run succeeded.", Stored(self.store, own, label_of(ctx)))
        name = self._chosen_place(ctx, inputs)
        if name is None or not self.store.exists(name) or self.store.facts(name).get(ATTEMPT) != own:
            return None
        return Success("Task run succeeded.", Stored(self.store, name, label_of(ctx)))

    def _chosen_place(self, ctx: AttemptContext, inputs: dict[str, Any]) -> str | None:
        """Return the location of the result if the user chose it; other children may have written there."""
        where = self.target if self.target is not None else self.store.location
        return None if where is None else place(where, template_fields(ctx, inputs))

    def record_outcome(self, ctx: AttemptContext, state: State) -> None:
        """Store how an attempt ended that stored no result: it failed, or there was none.

        It is read if the worker dies before the client has the record; in the process of the client none is needed.
        """
        if not self.checkpoint or isinstance(state._result, Stored) or self.owner == process_id():
            return
        if not (state.is_finished() or isinstance(state, Retrying)):
            return
        shown = redacted_state(state) if masking.pattern is not None else state
        outcome = capture(lambda: dumps(encode_state(shown, label_of(ctx))))
        if isinstance(outcome, Value):
            outcome = capture(self.store.write, self.own_place(ctx), outcome.value, {"holds": STATE})
        if isinstance(outcome, Error):
            text = "Task %r: how it ended could not be stored: %s; if its worker dies now it runs again"
            ctx["logger"].warning(text, ctx["task_full_name"], describe(outcome.exception))

    def target_state(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Return Cached with the value at the target, Failed if it cannot be read, None if there is none."""
        if self.target is None:
            return None
        outcome = capture(self._read_target, ctx, inputs)
        if isinstance(outcome, Value):
            state: State | None = outcome.value
            return state
        return failed(f"target of {label_of(ctx)} could not be read", outcome.exception)

    def _read_target(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        name = place(self.target, template_fields(ctx, inputs))
        if not self.store.exists(name):
            return None
        try:
            value = self.store.load(name)
        except NotAResultFile:
            raise
        except ResultCorrupt:
            return None  # a stored result that was cut short or altered counts as absent
        return Cached("Result found at its target.", Stored(self.store, name, label_of(ctx), _small(value), value))

    def save(self, ctx: AttemptContext, inputs: dict[str, Any], state: State) -> State:
        """Return the state of a successful attempt with its result in the store; Failed if it cannot be written."""
        if not self.checkpoint or state._result is None:
            return state
        outcome = capture(self._write, ctx, inputs, state.result)
        if isinstance(outcome, Error):
            return failed("result could not be stored", outcome.exception)
        return state.replace(result=outcome.value)

    def _write(self, ctx: AttemptContext, inputs: dict[str, Any], value: Any) -> Stored:
        own = self.own_place(ctx)
        chosen = self._chosen_place(ctx, inputs)
        if chosen is not None and self.target is None:
            self._claim(chosen, own.rpartition(".")[0])
        location = self.store.save(own, value) if chosen is None else self.store.save(chosen, value, {ATTEMPT: own})
        return Stored(self.store, location, label_of(ctx), _small(value), value)

    def _claim(self, name: str, child: str) -> None:
        """Take a place for the result of a child.

        Raises
        ------
        ValueError
            Another child of this run has its result there, and would have this one from now on.
        """
        holder = self._claimed.setdefault(name, child)
        if holder == child and self.store.exists(name):
            found = capture(lambda: self.store.facts(name).get(ATTEMPT))  # a damaged one counts as free
            writer = found.value if isinstance(found, Value) else None
            if isinstance(writer, str) and writer.startswith(f"{self.folder}/"):
                holder = writer.rpartition(".")[0]
        if holder != child:
            slug, _, index = holder.removeprefix(f"{self.folder}/").rpartition("/")
            label = slug if index == "single" else f"{slug}[{index}]"
            raise ValueError(
                f"{name!r} is where {label} keeps its result; put ${{item_key}} or ${{map_index}} into the location"
            )

    def own_place(self, ctx: AttemptContext) -> str:
        """Return the place of this attempt, which no other attempt of any run has."""
        index = str(ctx.index) if ctx.index >= 0 else "single"
        return f"{self.folder}/{ctx.spec.slug}/{index}.{ctx.run_count}"


def _small(value: Any) -> Any:
    """Return a value in the form in which it rides along with its record; nothing if it is too large for that."""
    if type(value) in SIMPLE:
        return value if not isinstance(value, str | bytes) or len(value) <= SMALL else _NOTHING
    packed = encode(value, "a stored result", keep=False)
    return packed if packed.nbytes <= SMALL else _NOTHING


def template_fields(ctx: AttemptContext, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a template; inputs win."""
    run = ctx.run
    fields = {
        "flow_name": run["flow_name"],
        "flow_run_id": run["flow_run_id"],
        "task_name": ctx.spec.name,
        "task_slug": ctx.spec.slug,
        **{PARAMETER + name: value for name, value in run["parameters"].items()},
    }
    if ctx.index >= 0:
        fields["map_index"] = ctx.index
        fields["item_key"] = ctx.item_key if ctx.item_key is not None else str(ctx.index)
    return {**fields, **inputs}


def label_of(ctx: AttemptContext) -> str:
    """Return what an attempt is called in messages."""
    return ctx.spec.label(ctx.index)


def failed(text: str, error: BaseException) -> Failed:
    """Return the state of an attempt whose store raised."""
    number = f" [Errno {error.errno}]" if isinstance(error, OSError) and error.errno else ""
    words = error.strerror if number and isinstance(error, OSError) else text_of(error)
    return Failed(f"{text}: {type(error).__name__}{number}{'' if number else ':'} {words}", error)
