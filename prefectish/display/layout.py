"""Layered layout of a graph: from top to bottom, with few crossings.

The steps are the usual ones for layered drawings: (1) each node goes one layer below its lowest predecessor; (2) an
edge that passes layers gets a joint in each; (3) layers are ordered by the mean place of the neighbours, sweeping down
and up; (4) nodes move sideways towards their neighbours as far as the order and the gaps allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from prefectish.graphs import order as topological

#: What names a node: anything that can be hashed.
Key: TypeAlias = Any
Point: TypeAlias = tuple[float, float]

#: Gaps between neighbours in a layer and between layers, in pixels.
NODE_GAP, LAYER_GAP = 26.0, 46.0
#: Sweeps over the layers to order them, and to move their nodes.
SWEEPS = 8


class Layout(NamedTuple):
    """A drawing of a graph."""

    centres: dict[Key, Point]  # middle of each node
    #: Points of each edge, in the order of the edges, from the lower rim of its start to the upper rim of its end.
    routes: list[list[Point]]
    #: Of the whole drawing, in pixels.
    width: float
    height: float


def layout(sizes: Mapping[Key, Point], edges: Sequence[tuple[Key, Key]]) -> Layout:
    """Place nodes, by width and height, and edges (from, to), which have no cycles.

    Examples
    --------
    >>> drawing = layout({"a": (40, 20), "b": (40, 20)}, [("a", "b")])
    >>> drawing.centres["a"], drawing.centres["b"]
    ((20.0, 10.0), (20.0, 76.0))
    >>> drawing.routes
    [[(20.0, 20.0), (20.0, 66.0)]]
    """
    if not sizes:
        return Layout({}, [], 0.0, 0.0)
    layers, pieces, chains = _with_joints(_layers(sizes, edges), edges)
    size = {**{joint: (0.0, 0.0) for layer in layers for joint in layer if joint not in sizes}, **sizes}
    up, down = _neighbours(pieces)
    _order(layers, up, down)
    x = _spread(layers, up, down, size)
    tops, height = _rows(layers, size)
    centres = {key: (x[key], tops[n] + _tallest(layer, size) / 2) for n, layer in enumerate(layers) for key in layer}
    routes = [_route(chain, centres, size) for chain in chains]
    width = max(x[key] + size[key][0] / 2 for key in x)
    return Layout({key: centres[key] for key in sizes}, routes, width, height)


def _layers(sizes: Iterable[Key], edges: Sequence[tuple[Key, Key]]) -> dict[Key, int]:
    above: dict[Key, list[Key]] = {key: [] for key in sizes}
    for start, end in edges:
        above[end].append(start)
    layer: dict[Key, int] = {}
    for key in topological(above, above.__getitem__):
        layer[key] = 1 + max((layer[start] for start in above[key]), default=-1)
    below: dict[Key, list[Key]] = {key: [] for key in above}
    for start, end in edges:
        below[start].append(end)
    for key in above:  # what nothing leads to goes as near to its first reader as it can
        if not above[key] and below[key]:
            layer[key] = min(layer[end] for end in below[key]) - 1
    return layer


def _with_joints(
    layer: Mapping[Key, int], edges: Sequence[tuple[Key, Key]]
) -> tuple[list[list[Key]], list[tuple[Key, Key]], list[list[Key]]]:
    """Return the layers, the edges cut at each layer, and for each edge the nodes and joints it goes through."""
    layers: list[list[Key]] = [[] for _ in range(1 + max(layer.values()))]
    for key, number in layer.items():
        layers[number].append(key)
    chains: list[list[Key]] = []
    for number, (start, end) in enumerate(edges):
        joints: list[Key] = [("joint", number, n) for n in range(layer[start] + 1, layer[end])]
        for n, joint in enumerate(joints, layer[start] + 1):
            layers[n].append(joint)
        chains.append([start, *joints, end])
    pieces = [pair for chain in chains for pair in pairwise(chain)]
    return layers, pieces, chains


def _neighbours(pieces: Iterable[tuple[Key, Key]]) -> tuple[dict[Key, list[Key]], dict[Key, list[Key]]]:
    up: dict[Key, list[Key]] = {}
    down: dict[Key, list[Key]] = {}
    for start, end in pieces:
        up.setdefault(end, []).append(start)
        down.setdefault(start, []).append(end)
    return up, down


def _order(layers: list[list[Key]], up: Mapping[Key, list[Key]], down: Mapping[Key, list[Key]]) -> None:
    """Order each layer by the mean place of the neighbours in the one before; keep the best order seen."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers, down)
    for sweep in range(SWEEPS):
        near, numbers = (down, range(len(layers) - 2, -1, -1)) if sweep % 2 else (up, range(1, len(layers)))
        for n in numbers:
            place = {key: p for p, key in enumerate(layers[n + 1 if sweep % 2 else n - 1])}
            means = {key: _mean([place[k] for k in near.get(key, ())], float(own)) for own, key in enumerate(layers[n])}
            layers[n].sort(key=means.__getitem__)
        crossings = _crossings(layers, down)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _crossings(layers: Sequence[Sequence[Key]], down: Mapping[Key, list[Key]]) -> int:
    """Count crossings of edges between neighbouring layers; in a large graph only tell that there are some."""
    total = 0
    for upper, lower in pairwise(layers):
        place = {key: p for p, key in enumerate(lower)}
        ends = [place[k] for key in upper for k in sorted(down.get(key, ()), key=place.__getitem__)]
        if len(ends) > 400:
            continue
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _spread(
    layers: Sequence[Sequence[Key]],
    up: Mapping[Key, list[Key]],
    down: Mapping[Key, list[Key]],
    size: Mapping[Key, Point],
) -> dict[Key, float]:
    """Return the horizontal middle of each node: near its neighbours, in order, apart from each other."""
    x: dict[Key, float] = {}
    for layer in layers:
        left = 0.0
        for key in layer:
            x[key] = left + size[key][0] / 2
            left += size[key][0] + NODE_GAP
    for sweep in range(SWEEPS):
        near, across = (up, layers) if sweep % 2 == 0 else (down, layers[::-1])
        for layer in across:
            wanted = [_mean([x[k] for k in near.get(key, ())], x[key]) for key in layer]
            x.update(zip(layer, _apart(wanted, [size[key][0] for key in layer]), strict=True))
    left = min(x[key] - size[key][0] / 2 for key in x)
    return {key: place - left for key, place in x.items()}


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Return places as near to the wanted ones as gaps allow, in order: blocks that collide share their shift."""
    blocks: list[tuple[float, int]] = []  # sum of the shifts wanted by a block's members, and their number
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + NODE_GAP)
    for place, offset in zip(wanted, offsets, strict=True):
        total, count = place - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, members = blocks.pop()
            total, count = total + before, count + members
        blocks.append((total, count))
    shifts = [total / count for total, count in blocks for _ in range(count)]
    return [offset + shift for offset, shift in zip(offsets, shifts, strict=True)]


def _rows(layers: Sequence[Sequence[Key]], size: Mapping[Key, Point]) -> tuple[list[float], float]:
    tops = []
    y = 0.0
    for layer in layers:
        tops.append(y)
        y += _tallest(layer, size) + LAYER_GAP
    return tops, y - LAYER_GAP


def _tallest(layer: Sequence[Key], size: Mapping[Key, Point]) -> float:
    return max(size[key][1] for key in layer)


def _route(chain: Sequence[Key], centres: Mapping[Key, Point], size: Mapping[Key, Point]) -> list[Point]:
    first, last = chain[0], chain[-1]
    start = centres[first][0], centres[first][1] + size[first][1] / 2
    end = centres[last][0], centres[last][1] - size[last][1] / 2
    return [start, *(centres[joint] for joint in chain[1:-1]), end]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
