"""Pictures of flows: nodes, edges, colours, and names that must not become syntax."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from bodies import total

from prefectish import Flow, Parameter, allow_failure, flatten, task, unmapped
from prefectish.engine.state import Cancelled, Failed, Mapped, Paused, Pending, Running, Success
from prefectish.errors import FlowDefinitionError
from prefectish.visualize import SMALL_MAP, picture_of

DOT = shutil.which("dot")


@task
def load(url):
    return url


@task
def add(x, y=0):
    return x + y


@task
def pair(x):
    return [x, x]


@pytest.fixture
def flow():
    with Flow("picture") as flow:
        first = load(Parameter("url"))
        many = add.map([1, 2], y=unmapped(first))
        total(add.map(many), upstream_tasks=[first])
    return flow


def drawn(flow, state=None):
    """The lines of a picture, by labels: what one sees."""
    picture = picture_of(flow, flow.name, state)
    labels = {node.ident: " / ".join(node.lines) for node in picture.nodes}
    return [(labels[a], labels[b], label, dashed) for a, b, label, dashed in picture.lines]


def kinds(flow, state):
    return {
        " / ".join(node.lines): type(node.state).__name__ if node.state else None
        for node in picture_of(flow, "", state).nodes
    }


# ---------------------------------------------------------------------- what is drawn


def test_picture_of_a_flow(flow):
    assert sorted(drawn(flow)) == [
        ("Constant[list]", "add-1 <map>", "x", True),
        ("add-1 <map>", "add-2 <map>", "x", True),
        ("add-2 <map>", "total", "xs", False),
        ("load", "add-1 <map>", "y", False),
        ("load", "total", "", False),
        ("url", "load", "url", False),
    ]
    assert [node.mapped for node in picture_of(flow, "").nodes if "<map>" in node.lines[0]] == [True, True]


def test_small_maps_of_a_run_are_drawn_child_by_child(flow):
    state = flow.run(url=5)
    lines = [line for line in drawn(flow, state) if "add" in line[0] or "add" in line[1]]
    assert sorted(lines) == [
        ("Constant[list]", "add-1[0]", "x", True),
        ("Constant[list]", "add-1[1]", "x", True),
        ("add-1[0]", "add-2[0]", "x", True),
        ("add-1[1]", "add-2[1]", "x", True),
        ("add-2[0]", "total", "xs", False),
        ("add-2[1]", "total", "xs", False),
        ("load", "add-1[0]", "y", False),
        ("load", "add-1[1]", "y", False),
    ]
    assert set(kinds(flow, state).values()) == {"Success"}


@pytest.mark.parametrize(("count", "nodes"), [(SMALL_MAP, SMALL_MAP), (SMALL_MAP + 1, 1)])
def test_large_maps_of_a_run_are_counted(count, nodes):
    with Flow("large") as flow:
        out = add.map(list(range(count)))
    children = [Failed("no"), *[Success()] * (count - 1)]
    state = Failed(result={out: Mapped(map_states=children)})
    found = [label for label in kinds(flow, state) if label.startswith("add")]
    assert len(found) == nodes
    if nodes == 1:
        assert found == [f"add <map> / {count - 1} Success, 1 Failed"]


@pytest.mark.parametrize(
    ("children", "kind"),
    [
        ([Success()], "Mapped"),
        ([Success(), None], "Pending"),
        ([Success(), Cancelled(), Paused()], "Paused"),
        ([Success(), Cancelled()], "Cancelled"),
        ([Running(), Failed(), Success()], "Failed"),
    ],
)
def test_large_map_has_the_colour_of_its_worst_child(children, kind):
    with Flow("large") as flow:
        out = add.map(list(range(30)))
    states = [*children, *[Success()] * (30 - len(children))]
    assert (
        next(k for n, k in kinds(flow, Running(result={out: Mapped(map_states=states)})).items() if "add" in n) == kind
    )


def test_children_that_are_not_known_are_pending():
    with Flow("unknown") as flow:
        out = add.map([1, 2, 3])
    state = Running(result={out: Mapped(map_states=[Success(), None], n_map_states=3)})
    found = {name: kind for name, kind in kinds(flow, state).items() if "add" in name}
    assert found == {"add[0]": "Success", "add[1]": "Pending", "add[2]": "Pending"}


def test_maps_without_children_are_one_node():
    with Flow("empty") as flow:
        empty, failed = add.map([]), add.map([1])
    state = Failed(result={empty: Mapped(map_states=[]), failed: Failed("no")})
    assert [k for n, k in kinds(flow, state).items() if n == "add-2 <map>"] == ["Failed"]
    assert sum("add" in line[1] for line in drawn(flow, state)) == 2


def test_flattened_maps_are_joined_where_children_do_not_pair():
    with Flow("flat") as flow:
        pairs = pair.map([1, 2])
        add.map(flatten(pairs))
    lines = drawn(flow, flow.run())
    assert sorted(line[:2] for line in lines if line[0] != "Constant[list]") == [
        ("flatten", "add[0]"),
        ("flatten", "add[1]"),
        ("flatten", "add[2]"),
        ("flatten", "add[3]"),
        ("pair[0]", "flatten"),
        ("pair[1]", "flatten"),
    ]


def test_flattened_maps_do_not_pair_though_they_are_equally_wide():
    @task
    def several(n):
        return [n] * n

    with Flow("flat") as flow:
        add.map(flatten(several.map([2, 0])))
    lines = drawn(flow, flow.run(history=False))
    assert ("several[1]", "flatten", "", True) in lines
    assert ("several[1]", "add[1]", "x", True) not in lines


def test_state_without_tasks_colours_nothing(flow):
    assert set(kinds(flow, Failed("broke", ValueError())).values()) == {None}
    assert set(kinds(flow, Pending()).values()) == {None}


def test_allowed_failures_are_drawn_like_other_edges():
    with Flow("allowed") as flow:
        load(allow_failure(load(1)))
    assert drawn(flow) == [("load-1", "load-2", "url", False)]


def test_cycle_is_refused():
    a, b = load.copy(name="a"), load.copy(name="b")
    flow = Flow("cycle")
    flow.add_edge(b, a)
    flow.add_edge(a, b)
    with pytest.raises(FlowDefinitionError, match=r"^cycle: (a -> b -> a|b -> a -> b)$"):
        flow.visualize()


def test_empty_flow_has_an_empty_picture():
    assert Flow("empty").visualize() == "flowchart TD\n"
    assert "->" not in Flow("empty").visualize(format="dot")


def test_wrong_arguments_are_named(flow):
    with pytest.raises(ValueError, match=r"^format must be one of 'mermaid', 'dot', got 'svg'$"):
        flow.visualize(format="svg")
    with pytest.raises(TypeError, match=r"^state must be the state of a run of the flow, got \{\}$"):
        flow.visualize({})
    with pytest.raises(ValueError, match=r"^filename must end in one of \.png, \.svg, \.pdf, \.mmd, \.mermaid,"):
        flow.visualize(filename="a.jpg")


# ---------------------------------------------------------------------- the two languages


def test_mermaid_text():
    with Flow("text") as flow:
        out = add.map([1], y=unmapped(load("u")))
    assert flow.visualize() == (
        "flowchart TD\n"
        '    t0(["load"])\n'
        '    t1(["Constant[list]"])\n'
        '    t2["add #60;map#62;"]\n'
        '    t1 -.->|"x"| t2\n'
        '    t0 -->|"y"| t2\n'
    )
    state = Success(result={out: Mapped(map_states=[Failed()])})
    text = flow.visualize(state)
    assert '    t2_0["add[0]"]:::Failed\n' in text
    assert text.endswith("    classDef Failed fill:#eb000080,stroke:#eb0000\n")


def test_dot_text():
    with Flow('a "text"') as flow:
        out = add.map([1], y=unmapped(load("u")))
    assert flow.visualize(format="dot") == (
        'digraph "a \\"text\\"" {\n'
        '    node [fontname="sans-serif"]\n'
        '    t0 [label="load" shape=ellipse]\n'
        '    t1 [label="Constant[list]" shape=ellipse]\n'
        '    t2 [label="add <map>" shape=box]\n'
        '    t1 -> t2 [label="x" style=dashed]\n'
        '    t0 -> t2 [label="y"]\n'
        "}\n"
    )
    state = Success(result={out: Mapped(map_states=[Failed()])})
    line = '    t2_0 [label="add[0]" shape=box style=filled color="#eb0000" fillcolor="#eb000080"]\n'
    assert line in flow.visualize(state, format="dot")


NAMES = [
    'say "hello"',
    "<script>alert(1)</script>",
    "two\nlines",
    "back\\slash\\",
    "`**markdown**`",
    '"]; click t0 "javascript:alert(1)',
    '%%{init: {"securityLevel": "loose"}}%%',
    "#quot; &lt;",
    "ansi \x1b[31m red",
    "grüße 你好 \u202e",
    "end",
    "x" * 5000,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_becomes_syntax(name):
    with Flow(name) as flow:
        task(lambda: 1, name=name)()
    _, line = flow.visualize().splitlines()
    label = re.fullmatch(r'    t0\(\["(.*)"\]\)', line)[1]
    assert not re.search(r'["<>`%{}\\]|&|#(?!\d+;)', label)
    assert len(label) < 2000
    assert label.isprintable()
    dot = flow.visualize(format="dot")
    assert re.fullmatch(r'    t0 \[label="((?:[^"\\]|\\["\\])*)" shape=ellipse\]', dot.splitlines()[2])
    assert dot.count("\n") == 4


@pytest.mark.skipif(DOT is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_graphviz_reads_every_name(name):
    with Flow(name) as flow:
        task(lambda: 1, name=name)()
    text = flow.visualize(format="dot")
    svg = subprocess.run([DOT, "-Tsvg"], input=text, capture_output=True, text=True, check=True)
    assert svg.stderr == ""
    assert svg.stdout.count("<g id=") == 2  # the graph, and one node


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize(("ending", "begins"), [("mmd", "flowchart TD"), ("dot", "digraph"), ("gv", "digraph")])
def test_text_file_is_in_the_language_of_its_ending(flow, tmp_path, ending, begins):
    path = tmp_path / f"flow.{ending}"
    assert flow.visualize(filename=path).startswith("flowchart TD")
    assert path.read_text().startswith(begins)


@pytest.mark.skipif(DOT is None, reason="Graphviz is not installed")
@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_picture_file_is_made_by_graphviz(flow, tmp_path, ending, begins):
    path = tmp_path / f"flow.{ending}"
    flow.visualize(flow.run(url=1), filename=str(path))
    assert path.read_bytes().startswith(begins)


def test_picture_file_without_the_program_says_what_is_missing(flow, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"^filename='flow.png' needs the program `dot` of Graphviz"):
        flow.visualize(filename="flow.png")


def test_picture_file_without_the_package_says_what_is_missing(flow, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "graphviz", None)
    with pytest.raises(ImportError, match=r"needs graphviz, .*; pip install \"prefectish\[graphviz\]\"$"):
        flow.visualize(filename="flow.png")


def test_notebook_shows_the_picture_of_a_flow_and_of_its_run():
    @task
    def half(x):
        return 1 / x

    with Flow("halves") as flow:
        half.map([1, 0])
    state = flow.run(history=False)
    for drawn, word in ((flow.visualize(), "half"), (flow.visualize(state), "1 of 2 failed")):
        shown = drawn._repr_mimebundle_()
        assert shown["text/html"].count("<svg") == 1
        assert word in shown["text/html"]
        assert shown["text/vnd.mermaid"] == shown["text/plain"] == drawn
        assert isinstance(drawn, str)
    assert "text/vnd.mermaid" not in flow.visualize(format="dot")._repr_mimebundle_()
