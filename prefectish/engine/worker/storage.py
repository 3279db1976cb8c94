"""Results in a store: written where they are made, read where they are needed, found when a body would run twice.

A result is written to the store before its child is reported as successful. The record that travels has its location,
and the value itself only if it is small. If the cluster runs the same attempt again, because a worker died with its
value, the stored result is used and the body does not run. For that, the state of an attempt that failed or returned
None is stored too.

Results lie under the run, the task and the position of the child. The history knows where a
resumed run finds the result of an item that has another position now.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.jobs.envelope import SIMPLE, encode
from prefectish.engine.plan.item_key import ITEM_KEY
from prefectish.engine.state import Cached, Failed, Retrying, State, Success
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker import notes
from prefectish.engine.worker.notes import HOLDS, STATE
from prefectish.engine.worker.redaction import redacted_state
from prefectish.engine.worker.result_names import (
    TAKEN,
    UNCLAIMED,
    UNRECORDED,
    Holder,
    NameTable,
    leave_in_store,
    lower_in_store,
    take_in_store,
    taken_text,
)
from prefectish.engine.worker.stored_result import ATTEMPT, NOTHING, TASK, Stored
from prefectish.engine.worker.template_fields import TemplateFields
from prefectish.errors import ResultCorrupt, describe, text_of
from prefectish.kinds import is_a
from prefectish.process_tree import process_id
from prefectish.results.envelope import NotAResultFile
from prefectish.results.templates import place
from prefectish.secrets import masking

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext
    from prefectish.results.base import Result

#: Header of a stored result whose attempt knows it: the key of its item, by which a resumed run finds the child.
ITEM = "item"
#: Header of a stored result in a flow function: the version of the code of its task.
VERSION = "version"
#: The place that an attempt has of its own, see :meth:`ResultStorage.own_place`.
_OWN_PLACE = re.compile(r"(?P<run>.+)/(?P<part>\d+)/(?P<slug>[^/]+)/(?P<index>\d+|single)\.\d+")
#: Results of at most so many bytes travel with their record as well.
SMALL = 4096


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
    names
        Who has which name, in the process of the client.
    location
        Template of the place of a result without a target; None for a place of its own.

    Attributes
    ----------
    owner
        Id of the process of the client.
    chosen
        The target, else the location.
    """

    __slots__ = ("checkpoint", "chosen", "folder", "names", "owner", "store", "target", "version")

    def __init__(
        self,
        store: Result,
        checkpoint: bool,
        target: Any,
        folder: str,
        names: NameTable | None = None,
        location: Any = None,
        version: str | None = None,
    ) -> None:
        self.store = store
        self.checkpoint = checkpoint
        self.target = target
        self.chosen = location if target is None else target
        self.folder = folder
        self.owner = process_id()
        self.names = NameTable() if names is None else names
        self.version = version  # of the code of a task of a flow function, for a run that is resumed

    def __getstate__(self) -> tuple[Any, ...]:
        chosen = None if self.chosen is self.target else self.chosen
        return (
            self.store,
            self.checkpoint,
            self.target,
            self.folder,
            self.owner,
            chosen,
            self.version,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self.store,
            self.checkpoint,
            self.target,
            self.folder,
            self.owner,
            location,
            self.version,
        ) = state
        self.chosen = location if self.target is None else self.target
        self.names = NameTable()

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.folder.rpartition("/")[0]

    @property
    def names_result(self) -> bool:
        """Whether the user chose a name that is read or written."""
        return self.target is not None or (self.chosen is not None and self.checkpoint)

    def load_previous(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Return how this very attempt ended before, if that was stored; None if it was not."""
        if not self.checkpoint:
            return None
        found = capture(self._load_previous, ctx, inputs)
        return None if isinstance(found, Error) else found.value

    def _load_previous(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        own = self.own_place(ctx)
        if self.store.exists(own) and (facts := self.store.facts(own)):  # some stores only say that something is there
            if facts.get(HOLDS) == STATE:
                return notes.read(self.store, own)
            return Success(SUCCEEDED, Stored(self.store, own, label_of(ctx)))
        name = self._chosen_place(ctx, inputs)
        if name is None or not self.store.exists(name):
            return None
        facts = self.store.facts(name)
        if facts.get(ATTEMPT) != own and not self._is_of_earlier_part(ctx, facts):
            return None
        return Success(SUCCEEDED, Stored(self.store, name, label_of(ctx), run_id=self.run_id))

    def _is_of_earlier_part(self, ctx: AttemptContext, facts: dict[str, Any]) -> bool:
        """Whether a result is of the same child, and its end was not recorded before its client was killed."""
        since = ctx.start.context.get(UNRECORDED)
        place = _OWN_PLACE.fullmatch(str(facts.get(ATTEMPT)))
        if since is None or place is None or (place["run"], place["slug"]) != (self.run_id, ctx.spec.slug):
            return False
        part = int(self.folder.rpartition("/")[2])
        if not since <= int(place["part"]) < part or facts.get(VERSION) != self.version:
            return False
        item = self._item(ctx)
        if item.get(ITEM) is not None:
            return bool(facts.get(ITEM) == item[ITEM])
        return place["index"] == (str(ctx.index) if ctx.index >= 0 else "single")

    def _chosen_place(self, ctx: AttemptContext, inputs: dict[str, Any]) -> str | None:
        """Return the location of the result if the user chose it; other children may have written there."""
        return None if self.chosen is None else place(self.chosen, TemplateFields(ctx, inputs))

    def take_name(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Take the name that the user chose for the result; return Failed if another child of the run has it."""
        if not self.names_result:
            return None
        outcome = capture(self._take_name, ctx, inputs)
        return failed("result could not be stored", outcome.exception) if isinstance(outcome, Error) else None

    def _take_name(self, ctx: AttemptContext, inputs: dict[str, Any]) -> None:
        name = self._chosen_place(ctx, inputs)
        assert name is not None
        child = holder_of(ctx)
        holder = ctx.start.context.get(TAKEN)
        if holder is not None:
            raise ValueError(taken_text(name, Holder(*holder), child, self.target is not None))
        if self.owner == process_id():
            other = self.names.take(self.store, name, child)
        elif UNCLAIMED in ctx.start.context:
            other = take_in_store(self.store, self.folder, name, child) or self._writer_of(name, child)
            if other is not None:
                leave_in_store(self.store, self.folder, name, child)
        else:
            other = None  # the client has looked
        if other is not None:
            raise ValueError(taken_text(name, other, child, self.target is not None))

    def _check_name(self, name: str, child: Holder, unclaimed: bool) -> None:
        """Raise ValueError if another child of the run has a name by now."""
        other = self._writer_of(name, child)
        if other is None and unclaimed and self.owner != process_id():
            other = lower_in_store(self.store, self.folder, name, child)
        if other is not None:
            raise ValueError(taken_text(name, other, child, self.target is not None))

    def _writer_of(self, name: str, child: Holder) -> Holder | None:
        """Return the other child of this run whose result is at a name, None if there is none."""
        if not self.store.exists(name):
            return None
        found = capture(self.store.facts, name)  # a damaged one counts as free
        facts = found.value if isinstance(found, Value) else {}
        writer = facts.get(ATTEMPT)
        if not isinstance(writer, str) or not writer.startswith(f"{self.folder}/"):
            return None
        slug, _, index = writer.removeprefix(f"{self.folder}/").rpartition(".")[0].rpartition("/")
        holder = Holder(-1, -1 if index == "single" else int(index), slug, facts.get(TASK, slug))
        return None if holder[1:3] == child[1:3] else holder

    def record_outcome(self, ctx: AttemptContext, state: State) -> None:
        """Store how an attempt ended that stored no result: it failed, or there was none.

        It is read if the worker dies before the client has the record; in the process of the client none is needed.
        """
        if not self.checkpoint or is_a(state._raw_result, Stored) or self.owner == process_id():
            return
        if not (state.is_finished() or isinstance(state, Retrying)):
            return
        shown = redacted_state(state) if masking.pattern is not None else state
        outcome = capture(notes.write, self.store, self.own_place(ctx), shown, label_of(ctx), self._item(ctx))
        if isinstance(outcome, Error):
            text = "Task %r: how it ended could not be stored: %s; if its worker dies now it runs again"
            ctx["logger"].warning(text, label_of(ctx), describe(outcome.exception))

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
        name = place(self.target, TemplateFields(ctx, inputs))
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
        if not self.checkpoint or state._raw_result is None:
            return state
        outcome = capture(self._write, ctx, inputs, state.result)
        if isinstance(outcome, Error):
            return failed("result could not be stored", outcome.exception)
        return state.replace(result=outcome.value)

    def _write(self, ctx: AttemptContext, inputs: dict[str, Any], value: Any) -> Stored:
        own = self.own_place(ctx)
        chosen = self._chosen_place(ctx, inputs)
        if chosen is not None:
            self._check_name(chosen, holder_of(ctx), UNCLAIMED in ctx.start.context)
        facts = {} if chosen is None else {ATTEMPT: own, TASK: ctx.spec.label}
        name = own if chosen is None else chosen
        location = self.store.save_result(name, value, {**facts, **self._item(ctx)}, inputs)
        run_id = None if chosen is None else self.run_id
        return Stored(self.store, location, label_of(ctx), _small(value), value, run_id)

    def _item(self, ctx: AttemptContext) -> dict[str, Any]:
        """Return what is stored about a child beside its result."""
        key = ctx.key if ctx.spec.computes_key else ctx.start.context.get(ITEM_KEY)
        made_by = {} if self.version is None else {VERSION: self.version}
        return made_by if key is None and not ctx.spec.computes_key else {ITEM: key, **made_by}

    def own_place(self, ctx: AttemptContext) -> str:
        """Return the place of this attempt, which no other attempt of any run has."""
        index = str(ctx.index) if ctx.index >= 0 else "single"
        return f"{self.folder}/{ctx.spec.slug}/{index}.{ctx.run_count}"


def _small(value: Any) -> Any:
    """Return a value in the form in which it rides along with its record; nothing if it is too large for that."""
    if type(value) in SIMPLE:
        return value if not is_a(value, (str, bytes)) or len(value) <= SMALL else NOTHING
    packed = encode(value, "a stored result", keep=False)
    return packed if packed.nbytes <= SMALL else NOTHING


def holder_of(ctx: AttemptContext) -> Holder:
    """Return the child of an attempt as the holder of a name."""
    return Holder(ctx.spec.number, ctx.index, ctx.spec.slug, ctx.spec.label)


def label_of(ctx: AttemptContext) -> str:
    """Return what an attempt is called in messages."""
    return ctx.spec.label_of(ctx.index)


def failed(text: str, error: BaseException) -> Failed:
    """Return the state of an attempt whose store raised."""
    number = f" [Errno {error.errno}]" if isinstance(error, OSError) and error.errno else ""
    words = error.strerror if number and isinstance(error, OSError) else text_of(error)
    return Failed(f"{text}: {type(error).__name__}{number}{'' if number else ':'} {words}", error)
