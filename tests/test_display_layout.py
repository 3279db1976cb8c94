from __future__ import annotations

import random
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.display.layout import NODE_GAP, layout
from prefectish.display.svg import MAX_NODES, Box, SvgEdge, picture


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 14))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25)) if pairs else []
    sizes = {k: (float(draw(st.integers(10, 200))), float(draw(st.integers(10, 60)))) for k in range(n)}
    return sizes, edges


@given(graphs())
def test_nodes_do_not_overlap_and_stand_below_what_they_wait_for(graph):
    sizes, edges = graph
    drawing = layout(sizes, edges)
    assert drawing.centres.keys() == sizes.keys()
    for start, end in edges:
        low, high = drawing.centres[start][1] + sizes[start][1] / 2, drawing.centres[end][1] - sizes[end][1] / 2
        assert low < high
    for a in sizes:
        for b in range(a):
            (ax, ay), (bx, by) = drawing.centres[a], drawing.centres[b]
            beside = abs(ax - bx) >= (sizes[a][0] + sizes[b][0]) / 2 + NODE_GAP - 1e-6
            above = abs(ay - by) >= (sizes[a][1] + sizes[b][1]) / 2
            assert beside or above


@given(graphs())
def test_everything_is_inside_the_drawing(graph):
    sizes, edges = graph
    drawing = layout(sizes, edges)
    for key, (x, y) in drawing.centres.items():
        assert x - sizes[key][0] / 2 >= -1e-6
        assert x + sizes[key][0] / 2 <= drawing.width + 1e-6
        assert y - sizes[key][1] / 2 >= -1e-6
        assert y + sizes[key][1] / 2 <= drawing.height + 1e-6


@given(graphs())
def test_edges_go_down_from_rim_to_rim(graph):
    sizes, edges = graph
    drawing = layout(sizes, edges)
    for (start, end), route in zip(edges, drawing.routes, strict=True):
        assert route[0] == (drawing.centres[start][0], drawing.centres[start][1] + sizes[start][1] / 2)
        assert route[-1] == (drawing.centres[end][0], drawing.centres[end][1] - sizes[end][1] / 2)
        assert all(upper[1] <= lower[1] for upper, lower in pairwise(route))


def test_ladder_is_drawn_without_crossings():
    names = [f"{side}{n}" for n in range(4) for side in "lr"]
    random.Random(3).shuffle(names)
    edges = [(f"{side}{n}", f"{side}{n + 1}") for n in range(3) for side in "lr"]
    drawing = layout(dict.fromkeys(names, (30.0, 20.0)), edges)
    left = [drawing.centres[f"l{n}"][0] < drawing.centres[f"r{n}"][0] for n in range(4)]
    assert len(set(left)) == 1


def test_long_edge_passes_beside_the_nodes_between():
    drawing = layout(dict.fromkeys("abc", (60.0, 20.0)), [("a", "b"), ("b", "c"), ("a", "c")])
    (x, y) = drawing.routes[2][1]
    assert y == drawing.centres["b"][1]
    assert abs(x - drawing.centres["b"][0]) >= 30


def test_picture_is_well_formed_whatever_the_names():
    name = '"><script>alert(1)</script>&\x00\x1b[31m\n]]>'
    text = picture(
        [Box("a", [name, name], True, "#27b558", [("#eb0000", 1.0)], name), Box("b", [name])], [SvgEdge("a", "b", name)]
    )
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert tags == {"svg", "g", "rect", "path", "text", "title"}
    assert "\x1b" not in text


@pytest.mark.parametrize("number", [0, MAX_NODES + 1])
def test_nothing_and_too_much_are_not_drawn(number):
    assert picture([Box(str(n), ["x"]) for n in range(number)], []) == ""


def test_large_flow_is_drawn_in_time():
    boxes = [Box(str(n), [f"task {n}"]) for n in range(MAX_NODES)]
    chooses = random.Random(5)
    wires = [SvgEdge(str(chooses.randrange(n)), str(n)) for n in range(1, MAX_NODES) for _ in range(2)]
    assert picture(boxes, wires).count("<text") == MAX_NODES
