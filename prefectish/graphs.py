"""Topological order and cycles of a graph, given by its nodes and a function from a node to its upstream nodes.

All functions are linear in nodes and edges and not recursive, so only memory limits the depth of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from prefectish.errors import FlowDefinitionError

Node = TypeVar("Node")


def order(
    nodes: Iterable[Node], upstream: Callable[[Node], Iterable[Node]], label: Callable[[Node], str] = str
) -> list[Node]:
    """Sort nodes so that each comes after its upstream nodes, otherwise in the given order.

    Parameters
    ----------
    nodes
        Every node, hashable.
    upstream
        Function from a node to its upstream nodes, all among `nodes`.
    label
        Function from a node to its name in an error.

    Raises
    ------
    FlowDefinitionError
        ``cycle: a -> b -> a`` if the graph has a cycle.

    Examples
    --------
    >>> order("cab", {"a": "", "b": "a", "c": "b"}.__getitem__)
    ['a', 'b', 'c']
    """
    done: dict[Node, None] = {}
    for root in nodes:
        cycle = _visit(root, upstream, done)
        if cycle is not None:
            # From the first name on, so that the message does not depend on the order of edges.
            at = min(range(len(cycle)), key=lambda place: label(cycle[place]))
            raise FlowDefinitionError(cycle_text(cycle[at:] + cycle[:at], label))
    return list(done)


def _visit(root: Node, upstream: Callable[[Node], Iterable[Node]], done: dict[Node, None]) -> list[Node] | None:
    """Add a root and all nodes upstream of it to `done`, depth first; return the first cycle found, downstream."""
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
            path.popitem()  # after a `del`, each `reversed` would skip over the gap
    return None


def cycle_text(cycle: list[Node], label: Callable[[Node], str] = str) -> str:
    """Return the text for a cycle.

    Examples
    --------
    >>> cycle_text(["a", "b"])
    'cycle: a -> b -> a'
    """
    return "cycle: " + " -> ".join(label(node) for node in [*cycle, cycle[0]])
