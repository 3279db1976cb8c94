"""Order and cycles of a graph given by its nodes and a function from a node to what it waits for.

Everything here is linear in nodes and edges and keeps its own stack, so only memory bounds the depth of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from prefectish.errors import FlowDefinitionError

Node = TypeVar("Node")


def order(
    nodes: Iterable[Node], upstream: Callable[[Node], Iterable[Node]], label: Callable[[Node], str] = str
) -> list[Node]:
    """Sort nodes so that each comes after what it waits for, else in the given order.

    Parameters
    ----------
    nodes
        Every node, hashable.
    upstream
        From a node to the nodes it waits for, all among `nodes`.
    label
        The name of a node in an error.

    Raises
    ------
    FlowDefinitionError
        ``cycle: a -> b -> a`` if nodes wait for one another.

    Examples
    --------
    >>> order("cab", {"a": "", "b": "a", "c": "b"}.__getitem__)
    ['a', 'b', 'c']
    """
    done: dict[Node, None] = {}
    for root in nodes:
        cycle = _visit(root, upstream, done)
        if cycle is not None:
            raise FlowDefinitionError(cycle_text(_rotated(cycle, label), label))
    return list(done)


def _visit(root: Node, upstream: Callable[[Node], Iterable[Node]], done: dict[Node, None]) -> list[Node] | None:
    """Add a root and all it waits for to `done`, depth first; a cycle, once met, in the direction of the data."""
    if root in done:
        return None
    path: dict[Node, Iterator[Node]] = {root: iter(upstream(root))}
    while path:
        node, waits_for = next(reversed(path.items()))
        for other in waits_for:
            if other in path:
                trail = list(path)
                return trail[trail.index(other) :][::-1]
            if other not in done:
                path[other] = iter(upstream(other))
                break
        else:
            done[node] = None
            path.popitem()  # a `del` would leave a gap that each look at the end has to pass
    return None


def _rotated(cycle: list[Node], label: Callable[[Node], str]) -> list[Node]:
    """Turn a cycle so that it is told in one way, in whatever order its edges came."""
    at = min(range(len(cycle)), key=lambda place: label(cycle[place]))
    return cycle[at:] + cycle[:at]


def cycle_text(cycle: list[Node], label: Callable[[Node], str] = str) -> str:
    """Name a cycle.

    Examples
    --------
    >>> cycle_text(["a", "b"])
    'cycle: a -> b -> a'
    """
    return "cycle: " + " -> ".join(label(node) for node in [*cycle, cycle[0]])
