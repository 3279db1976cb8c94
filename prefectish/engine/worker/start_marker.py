"""``rerun_on_loss=False``: an attempt that was lost is not run again.

Before its body an attempt writes a marker to the store that all workers share, and after it the state in which it
ended. If the same attempt is started again, because a worker died or the run was resumed, and finds the marker without
a state, it was lost and ends Crashed; if it finds both, it ends in that state.

This narrows the window in which a body may run twice; it is not a transaction with the outside world. What an attempt
did before it was lost is unknown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.state import Crashed, State
from prefectish.engine.worker import notes
from prefectish.engine.worker.redaction import redacted_state
from prefectish.engine.worker.storage import ResultStorage, failed, label_of
from prefectish.errors import RemoteError, describe
from prefectish.hashing import stable_hash
from prefectish.process_tree import process_name
from prefectish.secrets import masking

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext

#: Key of the context of a resumed run: whether attempts that were lost run again all the same.
RETRIES = "flow_run_retry_failed"


def left_behind(storage: ResultStorage, ctx: AttemptContext, inputs: Mapping[str, Any]) -> State | None:
    """Return what became of an earlier start of this attempt; None if there was none.

    Parameters
    ----------
    inputs
        Of the body. In a run that is resumed another item may stand at this position: its start does not count.
    """
    found = capture(_look, storage, ctx, inputs)
    if isinstance(found, Error):  # it may have run: without the marker this is unknown
        return failed(f"start marker of {label_of(ctx)} could not be read", found.exception)
    state: State | None = found.value
    return state


def _look(storage: ResultStorage, ctx: AttemptContext, inputs: Mapping[str, Any]) -> State | None:
    store = storage.store
    for own, place in _places(storage, ctx):
        if not store.exists(f"{place}.started"):
            continue
        mark = json.loads(store.read(f"{place}.started"))
        if not own and mark["inputs"] != _digest(inputs):
            continue
        if store.exists(f"{place}.ended"):
            # Anything but a note says nothing: then it counts as lost.
            return notes.read(store, f"{place}.ended") or _lost(ctx, mark)
        return _lost(ctx, mark)
    return None


def _places(storage: ResultStorage, ctx: AttemptContext) -> Iterator[tuple[bool, str]]:
    """Yield where this attempt may have left its marker: in this part of the run, and in those that it resumes."""
    own = storage.own_place(ctx)
    yield True, own
    run_id, part, rest = own.split("/", 2)
    if not ctx.run.get(RETRIES):
        for earlier in range(int(part) - 1, -1, -1):
            yield False, f"{run_id}/{earlier}/{rest}"


def begin(storage: ResultStorage, ctx: AttemptContext, inputs: Mapping[str, Any]) -> State | None:
    """Leave the marker; return Failed if that cannot be done, since the body must not run then."""
    mark = {"worker": process_name(), "at": round(time.time(), 3), "inputs": _digest(inputs)}
    name = f"{storage.own_place(ctx)}.started"
    written = capture(storage.store.write, name, json.dumps(mark).encode())
    if isinstance(written, Error):
        return failed(f"start marker of {label_of(ctx)} could not be stored", written.exception)
    return None


def end(storage: ResultStorage, ctx: AttemptContext, state: State) -> None:
    """Store how the attempt ended; if that fails, it counts as lost when it is started again."""
    label = label_of(ctx)
    shown = redacted_state(state) if masking.pattern is not None else state
    outcome = capture(notes.write, storage.store, f"{storage.own_place(ctx)}.ended", shown, label)
    if isinstance(outcome, Error):
        text = "Task %r: how it ended could not be stored: %s; if its worker dies now it counts as lost"
        ctx["logger"].warning(text, label_of(ctx), describe(outcome.exception))


def _lost(ctx: AttemptContext, mark: Mapping[str, Any]) -> Crashed:
    text = f"{label_of(ctx)} was lost: it was started on {mark['worker']}, and rerun_on_loss=False"
    evidence = {"worker": mark["worker"], "started": mark["at"]}
    return Crashed(text, RemoteError("AttemptLost", text), cause="attempt-lost", evidence=evidence)


def _digest(inputs: Mapping[str, Any]) -> str | None:
    outcome = capture(stable_hash, dict(inputs))
    return None if isinstance(outcome, Error) else str(outcome.value)
