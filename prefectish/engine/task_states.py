"""How the states of a run are read: by the name of a task, child by child, or as the results of a map.

The base class of all states has its reading methods here. Nothing here knows the classes of states; it asks each what
it is, so that the tree of states can stand on this file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from prefectish.engine.state_names import LaterNames, classes_above, classes_below
from prefectish.engine.task_counts import TASK_NAME, TaskCounts
from prefectish.kinds import is_a
from prefectish.safe_repr import as_html, printable
from prefectish.slugs import child_label, labels, meant
from prefectish.validation import only_task, unknown_task

if TYPE_CHECKING:
    from prefectish.engine.state import State

#: Children that a repr names, at most.
MAX_CHILDREN_SHOWN = 5
#: Longest line of such a repr, in characters.
MAX_LINE_LENGTH = 200
#: Entries that the story of a run keeps, at most, and stories that a process keeps.
MAX_ENTRIES = 50_000
MAX_STORIES = 5


class Arrow(NamedTuple):
    """An edge of the flow that ran, between tasks by their slugs."""

    start: str
    end: str
    key: str | None
    mapped: bool


class SlowChild(NamedTuple):
    """A child that took long: the slug of its task, its map index (None for a single task), its seconds."""

    slug: str
    map_index: int | None
    seconds: float


class TaskStates(dict[Any, Any]):
    """The states of the tasks of a run, by task: the result of a flow's state.

    Attributes
    ----------
    flow_name
        Of the flow that ran.
    slugs
        Name of each task that is unique in the flow, in topological order.
    labels
        What each task is called, by its slug.
    arrows
        How the tasks hang together.
    mapped
        Slugs of the tasks that map, whatever became of them.
    slowest
        The children that took longest, the longest first.
    given
        Slugs of what was given, parameters and constants, which did not run.
    """

    def __init__(
        self,
        states: Mapping[Any, State],
        flow_name: str,
        slugs: Mapping[Any, str],
        arrows: Sequence[Arrow],
        mapped: frozenset[str],
        slowest: Sequence[SlowChild] = (),
        given: frozenset[str] = frozenset(),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(states)
        self.flow_name = flow_name
        self.slugs = dict(slugs)
        self.labels = dict(zip(self.slugs.values(), self.slugs.values(), strict=True) if labels is None else labels)
        self.arrows = tuple(arrows)
        self.mapped = mapped
        self.slowest = tuple(slowest)
        self.given = given


class StoryEntry(NamedTuple):
    """What happened to a step, or to one row of it, at a moment in seconds of the run's monotonic clock."""

    seconds: float
    what: str
    slug: str
    row: int | None
    details: str


class Story(str):
    """What happened to a task or a child, line by line; its repr is the text, so that a terminal shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class RunStory:
    """What happened in a run, as far as it was noted: the last entries of a bounded log."""

    def __init__(self, run_id: str, names: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        self.run_id = run_id
        self.entries: deque[StoryEntry] = deque(maxlen=MAX_ENTRIES)
        # Rows in map order, of flattened maps that have ended: rows are numbered as they came.
        self.orders: dict[str, tuple[int, ...]] = {}
        self.count = 0
        self._names = names  # slug, label and name of each task

    def note(self, seconds: float, what: str, slug: str, row: int | None, details: str) -> None:
        """Note what happened."""
        self.count += 1
        self.entries.append(StoryEntry(seconds, what, slug, row, details))

    def of(self, key: str) -> Story:
        """Return what happened to a task, as ``load``, or to a child, as ``load[17]``; KeyError if there is none."""
        names = list(self._names())
        is_task = "[" not in key or bool(meant(key, names))  # a name may have brackets
        name, _, rest = (key, "", "") if is_task else key.rpartition("[")
        index = int(rest[:-1]) if rest.endswith("]") and rest[:-1].isdecimal() else None
        if index is None and not is_task:
            raise KeyError(f"{key!r} must be a task, as 'load', or a child of it, as 'load[17]'")
        slug = only_task(name, names)
        called = next(label for known, label, _ in names if known == slug)
        row = index
        if index is not None and slug in self.orders:
            row = self.orders[slug][index] if index < len(self.orders[slug]) else -1
        entries = list(self.entries)
        found = [e for e in entries if e.slug == slug and (row is None or e.row in (None, row))]
        lines = [f"{child_label(called, index)} in run {self.run_id}, by seconds since the first entry"]
        if self.count > len(entries):
            lines.append(f"  (the first {self.count - len(entries)} entries of the run were dropped)")
        begin = entries[0].seconds if entries else 0.0
        for entry in found:
            child = "" if entry.row is None or row is not None else f"[{entry.row}] "
            lines.append(f"  {entry.seconds - begin:9.3f}  {entry.what:<9}  {child}{entry.details}")
        if not found:
            lines.append("  nothing has happened to it")
        return Story("\n".join(lines))


#: The last runs of this process that kept their story, by identifier.
_stories: dict[str, RunStory] = {}


def keep_story(story: RunStory) -> None:
    """Keep a story as long as it is among the last ones of this process."""
    _stories[story.run_id] = story
    while len(_stories) > MAX_STORIES:
        _stories.pop(next(iter(_stories)), None)


def story_of(run_id: str | None, key: str) -> Story:
    """Return what happened to a task or a child in a run of this process, see :meth:`Readable.story`."""
    story = None if run_id is None else _stories.get(run_id)
    if story is None:
        raise RuntimeError(
            f"run {run_id} has no story here: run the flow with story=True, or with PREFECTISH_VALIDATE=1 in the "
            f"environment; this process keeps those of its last {MAX_STORIES} runs"
        )
    return story.of(key)


def _no_index(which: Any) -> TypeError:
    return TypeError(
        f"the index of a child must be an integer or a slice, got {which!r}; by the key of its item a child is found "
        "in the history: history.run(run_id).child(task, key)"
    )


class MapResult(Sequence[Any]):
    """The results of the children of a map, aligned with its items: ``results[i]`` is what came of item ``i``.

    That is what the child returned, the exception of a failed one, and None for one that was skipped, was cancelled or
    never ran. Results are read when they are asked for; large ones may have to be fetched.

    Attributes
    ----------
    states
        Of the children, in map order; None for a child of which nothing is known.

    Examples
    --------
    >>> from prefectish.engine.state import Failed, Mapped, Skipped, Success
    >>> children = [Success("", 1), Failed("", ValueError("odd")), Skipped(), Success("", 4)]
    >>> results = Mapped(map_states=children).results()
    >>> results
    <MapResult of 4: 2 ok, 1 failed, 1 skipped>
    >>> list(results)
    [1, ValueError('odd'), None, 4]
    >>> results.ok
    {0: 1, 3: 4}
    >>> results.failed
    {1: ValueError('odd')}
    """

    __slots__ = ("states",)

    def __init__(self, states: Sequence[State | None]) -> None:
        self.states = states

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> MapResult: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return MapResult(self.states[index])
        try:
            state = self.states[index]
        except TypeError:
            raise _no_index(index) from None
        return state.result if state is not None and _kind(state) in ("ok", "failed") else None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def ok(self) -> dict[int, Any]:
        """Return the results of the children that ran and succeeded, by map index."""
        return {i: state.result for i, state in self._known() if _kind(state) == "ok"}

    @property
    def failed(self) -> dict[int, Any]:
        """Return the exceptions of the children that failed, by map index."""
        return {i: state.result for i, state in self._known() if _kind(state) == "failed"}

    @property
    def skipped(self) -> dict[int, Any]:
        """Return why children were skipped, by map index."""
        return {i: state.message for i, state in self._known() if _kind(state) == "skipped"}

    @property
    def missing(self) -> dict[int, State | None]:
        """Return the states of the children that were cancelled or have not finished, by map index."""
        return {i: s for i, s in enumerate(self.states) if s is None or _kind(s) in ("cancelled", "unfinished")}

    def _known(self) -> Iterator[tuple[int, State]]:
        return ((i, state) for i, state in enumerate(self.states) if state is not None)

    def __repr__(self) -> str:
        kinds = ["unfinished" if state is None else _kind(state) for state in self.states]
        counts = {kind: kinds.count(kind) for kind in ("ok", "failed", "skipped", "cancelled", "unfinished")}
        always = ("ok", "failed", "skipped")
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n or kind in always)
        found = sum(state is not None and state.is_cached() and state.why_not_cached() is None for state in self.states)
        cached = f"; {found} of {len(kinds)} from the cache" if found else ""
        return f"<MapResult of {len(kinds)}: {told}{cached}>"


class ChildCost(NamedTuple):
    """What a child cost, as far as the history knows: a child of less than a millisecond is not measured.

    Attributes
    ----------
    seconds
        Time of its last attempt.
    cpu_time
        Time of the processor in the thread of its body.
    peak_memory
        By how much the peak memory of its process grew meanwhile.
    bytes_in, bytes_out
        Sizes of its inputs as they came, and of its result.
    """

    seconds: float | None = None
    cpu_time: float | None = None
    peak_memory: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None


class ChildStates(list[Any]):
    """States of some children of a task, in map order.

    Attributes
    ----------
    indices
        Map index of each; ``items()`` gives both.
    label
        What the children are called, up to their index.
    """

    def __init__(
        self, label: str, found: Sequence[tuple[int, State]], place: tuple[str | None, str] | None = None
    ) -> None:
        super().__init__(state for _, state in found)
        self.indices = [index for index, _ in found]
        self.label = label
        self._place = place  # their run, and the slug of their task; None if that is not known

    def costs(self) -> list[ChildCost]:
        """Return what each child cost, from the record of the run.

        Raises
        ------
        RuntimeError
            The run was not recorded, or this was asked of the state of a map, which does not know its run: write
            ``state.children("load").costs()``.
        """
        if self._place is None:
            raise RuntimeError('costs are asked of the state of a run: state.children("load").costs()')
        from importlib import import_module

        run_id, slug = self._place
        known = None if run_id is None else import_module("prefectish.history.outline").costs(run_id, slug)
        if known is None:
            raise RuntimeError(f"costs of children are in the history, and run {run_id} is not recorded there")
        return [known.get(index, ChildCost()) for index in self.indices]

    def items(self) -> Iterator[tuple[int, State]]:
        """Yield map index and state of each child."""
        return zip(self.indices, self, strict=True)

    def __repr__(self) -> str:
        first = list(self.items())[:MAX_CHILDREN_SHOWN]
        shown = [printable(f"{self.label}[{index}]: {state!r}", MAX_LINE_LENGTH) for index, state in first]
        if len(self) > MAX_CHILDREN_SHOWN:
            shown.append("...")
        what = "child" if len(self) == 1 else "children"
        return f"<{len(self)} {what}{''.join(f'{chr(10)}    {line}' for line in shown)}>"


class _Below:
    """What ``children`` is on a state: the classes below its class, or states of children."""

    __slots__ = ("_state",)

    def __init__(self, state: Any) -> None:
        self._state = state

    @overload
    def __call__(self, include_self: bool = ..., names_only: Literal[False] = ...) -> list[type[State]]: ...
    @overload
    def __call__(self, include_self: bool = ..., *, names_only: Literal[True]) -> list[str]: ...
    @overload
    def __call__(self, task: Any = ..., *, failed: bool | None = ..., state: Any = ...) -> ChildStates: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return states of children; called like the class's `children`, what that returns.

        Parameters
        ----------
        task
            A task of the flow, its name or its slug; left out on the state of a map.
        failed
            Only children that failed, or with False only those that did not.
        state
            Only children in a state of this class, or of the class of this name.
        """
        plain = not args or isinstance(args[0], bool)
        if plain and not kwargs.keys() & {"task", "failed", "state"}:
            return classes_below(type(self._state), *args, **kwargs)
        return _child_states(self._state, *args, **kwargs)


class Children:
    """The attribute ``children`` of states: of a class, the classes below it; of a state, also its children.

    ``Failed.children()`` walks the tree of classes, and so does ``state.children()``. With a task, or a wish which
    children are meant, the state answers for what ran: ``state.children("load", failed=True)``, and for the state of a
    map ``state["load"].children(failed=True)``.
    """

    __slots__ = ()

    @overload
    def __get__(self, state: None, owner: type[Any]) -> Classes: ...
    @overload
    def __get__(self, state: object, owner: type[Any]) -> _Below: ...
    def __get__(self, state: Any, owner: type[Any]) -> Any:
        return partial(classes_below, owner) if state is None else _Below(state)


class Parents:
    """The attribute ``parents`` of states and their classes: the classes above, nearest first."""

    __slots__ = ()

    def __get__(self, state: Any, owner: type[Any]) -> Classes:
        return partial(classes_above, owner)  # type: ignore[return-value]  # two overloads make one of it


class Classes:
    """How ``children`` and ``parents`` of a class are called; for readers of types only."""

    @overload
    def __call__(self, include_self: bool = ..., names_only: Literal[False] = ...) -> list[type[State]]: ...
    @overload
    def __call__(self, include_self: bool = ..., *, names_only: Literal[True]) -> list[str]: ...
    def __call__(self, include_self: bool = False, names_only: bool = False) -> Any:
        """Return the classes below, depth first, or above, nearest first."""
        raise NotImplementedError


class Readable(LaterNames):
    """What can be asked of every state: the state of a flow answers by task, that of a map by index."""

    __slots__ = ()
    children = Children()
    parents = Parents()

    #: A state has items, but it is not a sequence of them.
    __iter__ = None

    @overload
    def __getitem__(self, which: slice) -> list[State]: ...
    @overload
    def __getitem__(self, which: Any) -> State: ...
    def __getitem__(self, which: Any) -> Any:
        """Return the state of a task, by task, name or slug; of a map, the state of a child by its index.

        A task that was called in a flow stands for what that call recorded, if it was called once.

        Raises
        ------
        KeyError
            If there is none, or several tasks have the name.
        IndexError
            If the map has no such child.
        TypeError
            If the state is neither of a flow run nor of a map, or what is asked of a map is no index.
        """
        if _is_map(self):
            children = self.map_states  # type: ignore[attr-defined]
            try:
                return children[which]
            except IndexError:
                raise IndexError(f"there is no child {which!r}: the map has {len(children)}") from None
            except TypeError:
                raise _no_index(which) from None
        states = _tasks_of(self)
        return states[task_of({task: _slug(states, task) for task in states}, which, labels_of(states))]

    def story(self, key: str) -> str:
        """Return what happened to a task (``"load"``) or a child (``"load[17]"``) of the run, moment by moment.

        Asked of the state of a flow that ran in this process with ``story=True``, or ``PREFECTISH_VALIDATE=1``.

        Raises
        ------
        RuntimeError
            The run kept no story, or this is not the state of a flow.
        KeyError
            The run has no such task.
        """
        context: Mapping[str, Any] = self.context  # type: ignore[attr-defined]
        return story_of(context.get("flow_run_id"), key)

    def counts(self) -> TaskCounts | None:
        """Return how many items and tasks succeeded, failed, or did not run; None if this is not of a flow, or a map.

        Examples
        --------
        >>> from prefectish.engine.state import Failed, Mapped, Success
        >>> Mapped("Mapped tasks ended.", map_states=[Success(), Failed()])
        Mapped("Mapped tasks ended."): 1 of 2 items succeeded, 1 failed
        """
        if _is_map(self):
            return TaskCounts.of_states((self,))
        states: Any = getattr(self, "_raw_result", None)
        if not is_by_task(states):
            return None
        given = getattr(states, "given", ())
        return TaskCounts.of_states(state for task, state in states.items() if _slug(states, task) not in given)

    def _ipython_key_completions_(self) -> list[str]:
        """Return what completes ``state["...``."""
        states = _result(self)
        if _is_map(self) or not is_by_task(states):
            return []
        return list(labels_of(states).values())

    def _repr_html_(self) -> str:
        return as_html("of_state", self)

    def report(self, path: str | os.PathLike[str]) -> str:
        """Write a page about the run and return its path: one file, which needs nothing else to be read.

        It shows the graph with its states, how many children are in which state, failures by cause, and, if the run was
        recorded in a history, what ran where and when, and what took long.

        Parameters
        ----------
        path
            Of the file, usually ``.html``.

        Raises
        ------
        TypeError
            If it is not the state of a flow run, or of one of a flow function that was not recorded.
        """
        from importlib import import_module

        written: str = import_module("prefectish.display.report").of_state(self, path)
        return written

    def results(self, task: Any = None) -> MapResult:
        """Return the results of a map, aligned with its items.

        Parameters
        ----------
        task
            A mapped task of the flow, its name or its slug; left out on the state of the map itself.

        Raises
        ------
        KeyError
            If the flow has no such task.
        TypeError
            If it is not mapped.
        """
        state = self if task is None else self[task]
        if not _is_map(state):
            name = "it" if task is None else getattr(task, "name", task)
            raise TypeError(f"{state!r}: {name} is not mapped; its result is state.result")
        return MapResult(_complete(state))


def labels_of(states: Any) -> Mapping[str, str]:
    """Return what the tasks of states by task are called, by slug."""
    known: Mapping[str, str] | None = getattr(states, "labels", None)
    return labels((_slug(states, task), task.name) for task in states) if known is None else known


def task_of(slugs: Mapping[Any, str], which: Any, called: Mapping[str, str] | None = None) -> Any:
    """Return the task that a task, slug, label, name or called task means; KeyError if that is none, or several."""
    if isinstance(which, str):
        known = labels((slug, task.name) for task, slug in slugs.items()) if called is None else called
        wanted = meant(which, ((slug, known[slug], task.name) for task, slug in slugs.items()))
        found = [task for task, slug in slugs.items() if slug in wanted]
        what, none = f"are called {which!r}", unknown_task(which, known.values())
    elif which in slugs:
        return which
    else:
        found = [task for task in slugs if is_call(task, which)]
        what, none = f"are calls of {which!r}", f"{which!r} is not among the tasks of this run: {_listed(slugs)}"
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(repr(slugs[task]) for task in found)
        raise KeyError(f"{len(found)} tasks {what}; take one by its slug ({told}) or by what the call returned")
    raise KeyError(none)


def is_call(task: Any, called: Any) -> bool:
    """Whether a task is the copy that a call in a flow made of another."""
    body = getattr(called, "__dict__", {}).get("run")
    if body is not None:
        return task.__dict__.get("run") is body
    return type(task) is type(called) and task.name == called.name


def _listed(tasks: Iterable[Any]) -> str:
    names = [repr(task.name) for task in tasks]
    more = f", ... ({len(names)} in all)" if len(names) > 4 * MAX_CHILDREN_SHOWN else ""
    return ", ".join(names[: 4 * MAX_CHILDREN_SHOWN]) + more


def _slug(states: Any, task: Any) -> str:
    slugs = getattr(states, "slugs", {})
    slug: str = slugs.get(task) or getattr(task, "slug", None) or task.name
    return slug


def is_by_task(result: Any) -> bool:
    """Whether the result of a state is that of a flow run: states by task."""
    return is_a(result, TaskStates) or (
        is_a(result, dict)
        and bool(result)
        and all(is_a(state, Readable) and hasattr(task, "name") for task, state in result.items())
    )


def _tasks_of(state: Any) -> Mapping[Any, Any]:
    result = _result(state)
    if not is_by_task(result):
        raise TypeError(f"{state!r} is not the state of a flow run or of a map: it contains no states")
    return result  # type: ignore[no-any-return]


def _child_states(parent: Any, /, task: Any = None, *, failed: bool | None = None, state: Any = None) -> ChildStates:
    label, place = parent.context.get(TASK_NAME, ""), None
    if task is not None:
        states = _tasks_of(parent)
        slugs, called = {known: _slug(states, known) for known in states}, labels_of(states)
        slug = slugs[task_of(slugs, task, called)]
        place = parent.context.get("flow_run_id"), slug
        parent, label = parent[task], called[slug]
    found = [(i, child) for i, child in enumerate(_complete(parent)) if child is not None]
    if failed is not None:
        found = [(i, child) for i, child in found if child.is_failed() == failed]
    if state is not None:
        found = [(i, child) for i, child in found if _is_a(child, state)]
    return ChildStates(label, found, place)


def _is_a(state: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return any(base.__name__ == wanted for base in type(state).__mro__)
    return isinstance(state, wanted)


def _complete(state: Any) -> list[Any]:
    """Return the children of a map, as many as it has; any other state is its own only child."""
    if not _is_map(state):
        return [state]
    return [*state.map_states, *[None] * (state.n_map_states - len(state.map_states))]


def _result(state: Any) -> Any:
    return state.result


def _is_map(state: Any) -> bool:
    return bool(state.is_mapped())


def _kind(state: State) -> str:
    if state.is_successful():
        return "skipped" if state.is_skipped() else "ok"
    if state.is_failed():
        return "failed"
    return "cancelled" if state.is_finished() else "unfinished"
