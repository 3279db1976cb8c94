"""Draw a flow as Mermaid or DOT text, optionally with the states of a run.

Mapped tasks are boxes with a mark, others are rounded; mapped edges are dashed; the label of an edge is the
argument it is passed to. With the state of a run, nodes have the colours of their states: one per child for maps of at
most `SMALL_MAP` children, counts by state for larger ones.

First a :class:`Picture` of nodes and edges is built; then it is written in one of the two languages.
All user-defined names are escaped, so that they cannot become syntax.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prefectish.edges import Edge
from prefectish.engine.state import Cancelled, Mapped, Pending, State, Success
from prefectish.engine.task_states import TaskStates
from prefectish.optional_deps import load
from prefectish.slugs import labels_of_tasks
from prefectish.task_graph import TaskGraph
from prefectish.tasks.task import Task

#: Maximum number of children that are drawn individually.
SMALL_MAP = 20
#: Maximum length of the label of a node or an edge.
MAX_LABEL_LENGTH = 200
#: Mark after the name of a mapped task.
MAP_MARK = "<map>"

Format = Literal["mermaid", "dot"]


class Node(NamedTuple):
    """A task or a child; `state` is None if unknown, `lines` are those of the label."""

    ident: str
    lines: tuple[str, ...]
    mapped: bool
    state: State | None = None


class GraphLine(NamedTuple):
    """An edge between nodes, by id."""

    start: str
    end: str
    label: str
    dashed: bool


class Picture(NamedTuple):
    """Nodes and edges to draw."""

    name: str
    nodes: Sequence[Node]
    lines: Sequence[GraphLine]


def draw(
    flow: TaskGraph, name: str, state: State | None, format: Format, filename: str | os.PathLike[str] | None
) -> str:
    """Return the text of a flow's picture; see :meth:`prefectish.flows.Flow.visualize`."""
    _check(format)
    return Drawing(_written(picture_of(flow, name, state), format, filename), flow, state, format)


def draw_states(states: TaskStates, format: Format, filename: str | os.PathLike[str] | None) -> str:
    """Return the text of the picture of what a flow function called; see its `visualize`."""
    _check(format)
    text = _written(picture_of_states(states), format, filename)
    return Drawing(text, None, Success(result=states), format)


def _check(format: Format) -> None:
    if format not in _WRITERS:
        raise ValueError(f"format must be one of {', '.join(map(repr, _WRITERS))}, got {format!r}")


def _written(picture: Picture, format: Format, filename: str | os.PathLike[str] | None) -> str:
    if filename is not None:
        _save(picture, os.fspath(filename))
    return _WRITERS[format](picture)


class Drawing(str):
    """The text of a picture, which a notebook shows as the picture."""

    __slots__ = ("_flow", "_language", "_state")
    _flow: TaskGraph | None
    _state: State | None
    _language: Format

    def __new__(cls, text: str, flow: TaskGraph | None, state: State | None, language: Format) -> Drawing:
        """Keep what was drawn."""
        new = super().__new__(cls, text)
        new._flow, new._state, new._language = flow, state, language
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from importlib import import_module

        graph = import_module("prefectish.display.graph")
        html = graph.of_drawing(self._flow, self._state)
        text = {"text/vnd.mermaid": str(self)} if self._language == "mermaid" else {}
        return {**({"text/html": html} if html else {}), **text, "text/plain": str(self)}


def picture_of_states(states: TaskStates) -> Picture:
    """Return the picture of the tasks of a run, by their slugs."""
    nodes = {
        states.slugs[task]: list(
            _nodes(f"t{number}", states.labels[states.slugs[task]], states.slugs[task] in states.mapped, state)
        )
        for number, (task, state) in enumerate(states.items())
    }
    lines: list[GraphLine] = []
    for number, arrow in enumerate(dict.fromkeys(states.arrows)):
        joint = Node(f"j{number}", ("",), False)
        edge = _DrawnEdge(arrow.key, arrow.mapped)
        drawn = list(_lines(edge, nodes[arrow.start], nodes[arrow.end], joint.ident))
        lines.extend(drawn)
        if any(line.end == joint.ident for line in drawn):
            nodes[arrow.end].append(joint)
    return Picture(states.flow_name, [node for drawn in nodes.values() for node in drawn], lines)


class _DrawnEdge(NamedTuple):
    """What is drawn of an edge."""

    key: str | None
    mapped: bool
    flattened: bool = False


def picture_of(flow: TaskGraph, name: str, state: State | None = None) -> Picture:
    """Return the picture of a flow and its state; FlowDefinitionError if the flow has a cycle."""
    if state is not None and not isinstance(state, State):
        raise TypeError(f"state must be the state of a run of the flow, got {state!r}")
    result: Any = None if state is None else state.result
    states: Mapping[Task, State] = result if issubclass(type(result), Mapping) else {}
    called = labels_of_tasks(flow.slugs)
    nodes = {
        task: list(_nodes(f"t{number}", called[task], _has_children(flow, task), states.get(task)))
        for number, task in enumerate(flow.sorted_tasks())
    }
    lines: list[GraphLine] = []
    for number, edge in enumerate(flow.edges):
        joint = Node(f"j{number}", ("flatten" if edge.downstream_task._fan_in is None else "groups",), False)
        drawn = list(_lines(edge, nodes[edge.upstream_task], nodes[edge.downstream_task], joint.ident))
        lines.extend(drawn)
        if any(line.end == joint.ident for line in drawn):
            nodes[edge.downstream_task].append(joint)
    return Picture(name, [node for drawn in nodes.values() for node in drawn], lines)


def _nodes(ident: str, name: str, mapped: bool, state: State | None) -> Iterator[Node]:
    """Yield the node of a task, or one for each child of a small map."""
    if not isinstance(state, Mapped) or not state.n_map_states:
        yield Node(ident, (f"{name} {MAP_MARK}" if mapped else name,), mapped, state)
        return
    children = [*state.map_states, *[None] * (state.n_map_states - len(state.map_states))]
    if len(children) > SMALL_MAP:
        counts = Counter(type(child or Pending()).__name__ for child in children)
        texts = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        yield Node(ident, (f"{name} {MAP_MARK}", texts), mapped, _most_severe(state, children))
        return
    for index, child in enumerate(children):
        yield Node(f"{ident}_{index}", (f"{name}[{index}]",), mapped, child or Pending())


def _most_severe(parent: State, children: Sequence[State | None]) -> State:
    """Return the state whose colour represents many children: a failure, else one that is not finished."""
    known = [child or Pending() for child in children]
    for test in (State.is_failed, lambda child: not child.is_finished(), lambda child: isinstance(child, Cancelled)):
        found = next(filter(test, known), None)
        if found is not None:
            return found
    return parent


def _has_children(flow: TaskGraph, task: Task) -> bool:
    return task._fan_in is not None or any(edge.mapped for edge in flow.edges_to(task))


def _lines(edge: Edge | _DrawnEdge, up: Sequence[Node], down: Sequence[Node], joint: str) -> Iterator[GraphLine]:
    """Yield the lines of an edge: child by child if the maps have equal length, otherwise all pairs."""
    up, down = [_ for _ in up if _.ident[0] == "t"], [_ for _ in down if _.ident[0] == "t"]
    label = edge.key or ""
    if edge.mapped and not edge.flattened and len(up) == len(down):
        pairs = list(zip(up, down, strict=True))
    elif len(up) > 1 and len(down) > 1:  # items of any child may go to any other
        for node in up:
            yield GraphLine(node.ident, joint, "", edge.mapped)
        for node in down:
            yield GraphLine(joint, node.ident, label, edge.mapped)
        return
    else:
        pairs = [(start, end) for start in up for end in down]
    for start, end in pairs:
        yield GraphLine(start.ident, end.ident, label, edge.mapped)


# -- the two languages -------------------------------------------------------------------------------------------------


def _mermaid(picture: Picture) -> str:
    lines = ["flowchart TD"]
    for node in picture.nodes:
        opening, closing = ("[", "]") if node.mapped else ("([", "])")
        label = "<br/>".join(map(_for_mermaid, node.lines))
        kind = f":::{type(node.state).__name__}" if node.state is not None else ""
        lines.append(f'    {node.ident}{opening}"{label}"{closing}{kind}')
    for line in picture.lines:
        arrow = "-.->" if line.dashed else "-->"
        label = f'|"{_for_mermaid(line.label)}"|' if line.label else ""
        lines.append(f"    {line.start} {arrow}{label} {line.end}")
    kinds = {type(node.state).__name__: node.state.color for node in picture.nodes if node.state is not None}
    lines.extend(f"    classDef {kind} fill:{color}80,stroke:{color}" for kind, color in kinds.items())
    return "\n".join(lines) + "\n"


def _dot(picture: Picture) -> str:
    lines = [f'digraph "{_for_dot(picture.name)}" {{', '    node [fontname="sans-serif"]']
    for node in picture.nodes:
        label = "\\n".join(map(_for_dot, node.lines))
        shape = "box" if node.mapped else "ellipse"
        fill = f' style=filled color="{node.state.color}" fillcolor="{node.state.color}80"' if node.state else ""
        lines.append(f'    {node.ident} [label="{label}" shape={shape}{fill}]')
    for line in picture.lines:
        label = f'label="{_for_dot(line.label)}"' if line.label else ""
        options = " ".join(filter(None, (label, "style=dashed" if line.dashed else "")))
        lines.append(f"    {line.start} -> {line.end}{f' [{options}]' if options else ''}")
    return "\n".join([*lines, "}"]) + "\n"


_WRITERS: dict[str, Callable[[Picture], str]] = {"mermaid": _mermaid, "dot": _dot}

#: Mermaid has codes for what would end a label, or be read in it as HTML, Markdown or a directive (``%%{...}%%``).
_MERMAID_CODES = str.maketrans({char: f"#{ord(char)};" for char in '"#&<>\\`%{}'})
_DOT_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})


def _for_mermaid(text: str) -> str:
    return _printable_label(text).translate(_MERMAID_CODES)


def _for_dot(text: str) -> str:
    return _printable_label(text).translate(_DOT_ESCAPES)


def _printable_label(text: str) -> str:
    r"""Cut a text to `MAX_LABEL_LENGTH` and escape what cannot be printed, as Python does.

    Examples
    --------
    >>> print(_printable_label("two\nlines"))
    two\nlines
    """
    cut = text if len(text) <= MAX_LABEL_LENGTH else f"{text[:MAX_LABEL_LENGTH]}…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)


# -- files -------------------------------------------------------------------------------------------------------------

_TEXT_FILES: dict[str, Format] = {"mmd": "mermaid", "mermaid": "mermaid", "dot": "dot", "gv": "dot"}
_PICTURE_FILES = ("png", "svg", "pdf")


def _save(picture: Picture, filename: str) -> None:
    ending = os.path.splitext(filename)[1][1:].lower()
    if ending in _TEXT_FILES:
        content = _WRITERS[_TEXT_FILES[ending]](picture).encode()
    elif ending in _PICTURE_FILES:
        content = _rendered(picture, ending, filename)
    else:
        known = ", ".join(f".{known}" for known in (*_PICTURE_FILES, *_TEXT_FILES))
        raise ValueError(f"filename must end in one of {known}, got {filename!r}")
    with open(filename, "wb") as file:
        file.write(content)


def _rendered(picture: Picture, ending: str, filename: str) -> bytes:
    graphviz: Any = load("graphviz", "graphviz", f"a picture file ({filename})")
    try:
        rendered: bytes = graphviz.Source(_dot(picture)).pipe(format=ending)
    except graphviz.ExecutableNotFound as error:
        raise RuntimeError(
            f"filename={filename!r} needs the program `dot` of Graphviz, which is not on the PATH; install Graphviz, "
            f"or use a text file (.mmd, .dot)"
        ) from error
    return rendered
