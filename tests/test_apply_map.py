"""What `apply_map` records: a function's tasks as maps of the flow around it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from bodies import give

from prefectish import (
    Flow,
    Parameter,
    Task,
    allow_failure,
    apply_map,
    case,
    flatten,
    mapped,
    merge,
    resource_manager,
    task,
    unmapped,
)
from prefectish.control_flow.submaps import Item
from prefectish.edges import Edge
from prefectish.errors import FlowDefinitionError
from prefectish.tasks import Constant, List
from prefectish.tasks.control_flow import Compare


@task
def inc(x: Any) -> Any:
    return x + 1


@task
def add(x: Any, y: Any) -> Any:
    return x + y


@task
def source() -> int:
    return 1


def edges_to(flow: Flow, made: Task) -> set[Edge]:
    return set(flow.edges_to(made))


# ---------------------------------------------------------------------- edges


def test_edges_of_the_function_become_mapped() -> None:
    with Flow("f") as flow:
        xs = give([1, 2])
        first, second = apply_map(lambda x: ((a := inc(x)), inc(a)), xs)
    assert edges_to(flow, first) == {Edge(xs, first, "x", mapped=True)}
    assert edges_to(flow, second) == {Edge(first, second, "x", mapped=True)}
    assert not flow.get_tasks(task_type=Item)


def test_first_tasks_wait_for_every_argument_but_unmapped_constants() -> None:
    with Flow("f") as flow:
        xs, whole, ys = give([1]), give(2), give([3])
        out, later, alone = apply_map(
            lambda x, a, b, y: ((i := inc(x)), add(i, y), source()), xs, unmapped(whole), unmapped(7), y=ys
        )
    waits = {Edge(xs, out, "x", mapped=True), Edge(whole, out), Edge(ys, out, mapped=True)}
    assert edges_to(flow, out) == waits
    assert edges_to(flow, later) == {Edge(out, later, "x", mapped=True), Edge(ys, later, "y", mapped=True)}
    assert edges_to(flow, alone) == {Edge(xs, alone, mapped=True), Edge(whole, alone), Edge(ys, alone, mapped=True)}


def test_constants_inside_stay_constants() -> None:
    with Flow("f") as flow:
        out = apply_map(lambda x: add(x, [1, 2]), give([1]))
        waits = apply_map(lambda x: inc.copy(name="waits")(x, upstream_tasks=[5]), give([1]))
    assert flow.constants == {out: {"y": [1, 2]}, **{t: v for t, v in flow.constants.items() if t is not out}}
    (five,) = [edge for edge in flow.edges_to(waits) if isinstance(edge.upstream_task, Constant)]
    assert (five.upstream_task.value, five.mapped) == (5, False)
    assert not flow.edges_to(five.upstream_task)


def test_lists_of_tasks_inside_are_put_together_for_each_item() -> None:
    with Flow("f") as flow:
        xs = give([1])
        out = apply_map(lambda x: give([inc(x), x, 3]), xs)
    (made,) = flow.upstream_tasks(out)
    assert isinstance(made, List)
    assert {edge.key: edge.mapped for edge in flow.edges_to(made)} == {"item_0": True, "item_1": True}
    assert flow.constants[made] == {"item_2": 3}


def test_tasks_and_parameters_around_are_the_same_for_every_item() -> None:
    with Flow("f") as flow:
        xs, around, limit = give([1]), give(5), Parameter("limit")
        near, far = apply_map(lambda x: (add(x, around), add(x, limit)), xs)
    assert Edge(around, near, "y") in flow.edges
    assert Edge(limit, far, "y") in flow.edges
    assert Edge(xs, near, "x", mapped=True) in flow.edges


def test_same_task_may_be_mapped_and_unmapped() -> None:
    with Flow("f") as flow:
        xs = give([1, 2])
        out = apply_map(add.__call__, xs, unmapped(xs))
    assert edges_to(flow, out) == {Edge(xs, out, "x", mapped=True), Edge(xs, out, "y")}


def test_wrappers_shape_the_edges_from_an_argument() -> None:
    with Flow("f") as flow:
        xs = give([[1]])
        flat = apply_map(inc, flatten(xs))
        whole = apply_map(add, [1], flatten(unmapped(xs)))
        allowed = apply_map(inc, allow_failure(xs))
        plain = apply_map(inc, mapped(xs))
    assert edges_to(flow, flat) == {Edge(xs, flat, "x", mapped=True, flattened=True)}
    assert Edge(xs, whole, "y", flattened=True) in flow.edges
    assert edges_to(flow, allowed) == {Edge(xs, allowed, "x", mapped=True, allow_failure=True)}
    assert edges_to(flow, plain) == {Edge(xs, plain, "x", mapped=True)}


def test_wrappers_inside_add_to_those_of_the_argument() -> None:
    with Flow("f") as flow:
        whole = give([[1]])
        out = apply_map(lambda x, y: add(allow_failure(x), flatten(y)), [1], unmapped(whole))
    assert Edge(whole, out, "y", flattened=True) in flow.edges
    assert {edge.allow_failure for edge in flow.edges_to(out) if edge.key == "x"} == {True}


def test_sequences_become_constants_and_lists_of_tasks_lists() -> None:
    with Flow("f") as flow:
        one, two = apply_map(inc, (1, 2)), apply_map(inc, [give(1), 2])
    (constant,), (made,) = flow.upstream_tasks(one), flow.upstream_tasks(two)
    assert isinstance(constant, Constant)
    assert constant.value == (1, 2)
    assert isinstance(made, List)


def test_without_a_mapped_argument_nothing_is_mapped() -> None:
    with Flow("f") as flow:
        whole = give(1)
        out = apply_map(lambda x, y: inc(add(x, y)), unmapped(whole), unmapped(2))
    assert not any(edge.mapped for edge in flow.edges)
    assert flow.run().result[out].result == 4


def test_argument_that_is_not_used_counts_nevertheless() -> None:
    with Flow("f") as flow:
        xs = give([1, 2, 3])
        out = apply_map(lambda x: source(), xs)
    assert edges_to(flow, out) == {Edge(xs, out, mapped=True)}


# ---------------------------------------------------------------------- what comes back, and where it lives


def test_result_keeps_its_shape_and_arguments_come_back_as_they_were() -> None:
    with Flow("f"):
        xs, whole = give([1]), give(2)

        def build(x: Any, w: Any) -> Any:
            return {"x": x, "all": [inc(x), (w, None)], "flat": flatten(x)}

        out = apply_map(build, xs, unmapped(whole))
    assert out["x"] is xs
    assert out["all"][0].name == "inc"
    assert out["all"][1] == (whole, None)
    assert isinstance(out["flat"], flatten)
    assert out["flat"].value is xs


def test_items_can_be_computed_with() -> None:
    with Flow("f") as flow:
        out = apply_map(lambda pair: pair[0] + 2 * pair[1], give([(1, 2), (3, 4)]))
    assert flow.run().result[out].result == [5, 11]


def test_unmapped_argument_can_be_unpacked() -> None:
    @task(nout=2)
    def two() -> tuple[int, int]:
        return 1, 2

    def build(x: Any, pair: Any) -> Any:
        a, b = pair
        return add(x, a - b)

    with Flow("f") as flow:
        out = apply_map(build, [1], unmapped(two()))
        with pytest.raises(TypeError, match="not iterable"):
            apply_map(lambda pair: list(pair), two())
    assert flow.run().result[out].result == [0]


def test_results_belong_to_the_flow() -> None:
    with Flow("f") as flow:
        out = apply_map(inc, [1])
        inc.map(out)
    assert out in flow
    with Flow("other"), pytest.raises(FlowDefinitionError, match=r"task inc-1 belongs to flow f"):
        inc(out)


def test_slugs_are_those_of_the_flow() -> None:
    with Flow("f") as flow:
        inc(1)
        out = apply_map(inc, [1])
    assert flow.slugs[out] == "inc-2"


def test_flow_may_be_given() -> None:
    flow = Flow("f")
    out = apply_map(lambda x: inc(x), [1], flow=flow)
    assert flow.run().result[out].result == [2]
    with pytest.raises(ValueError, match=r"^no active Flow: use apply_map"):
        apply_map(inc, [1])


def test_tasks_made_outside_and_called_inside_do_not_warn() -> None:
    with warnings.catch_warnings(record=True) as seen, Flow("f"):
        warnings.simplefilter("always")
        made = Task("made")
        apply_map(lambda x: made(upstream_tasks=[x]), [1])
    assert seen == []


def test_tasks_made_inside_but_not_called_warn() -> None:
    with Flow("f"), pytest.warns(UserWarning, match="created but not added"):
        apply_map(lambda x: (Task("forgotten"), inc(x))[1], [1])


# ---------------------------------------------------------------------- control flow inside and around


def test_branch_inside_is_decided_for_each_item() -> None:
    def build(x: Any) -> Any:
        with case(x, 1):
            one = inc(x)
        return one, merge(one, x)

    with Flow("f") as flow:
        xs = give([1, 2])
        one, out = apply_map(build, xs)
    (compare,) = flow.get_tasks(task_type=Compare)
    assert edges_to(flow, compare) == {Edge(xs, compare, "value", mapped=True)}
    assert edges_to(flow, one) == {Edge(xs, one, "x", mapped=True), Edge(compare, one, mapped=True)}
    assert edges_to(flow, out) == {Edge(one, out, "task_1", mapped=True), Edge(xs, out, "task_2", mapped=True)}


def test_branch_inside_does_not_gate_arguments_and_tasks_around() -> None:
    def build(x: Any, y: Any) -> Any:
        with case(x, 1):
            return add(y, around)

    with Flow("f") as flow:
        xs, ys, around = give([1]), give([2]), give(3)
        out = apply_map(build, xs, ys)
    (compare,) = flow.get_tasks(task_type=Compare)
    assert edges_to(flow, out) == {
        Edge(ys, out, "x", mapped=True),
        Edge(around, out, "y"),
        Edge(compare, out, mapped=True),
    }
    assert not flow.edges_to(around)


def test_block_around_gates_the_first_tasks() -> None:
    with Flow("f") as flow:
        asked = give(1)
        with case(asked, 1):
            first, second = apply_map(lambda x: ((a := inc(x)), inc(a)), [1, 2])
    (compare,) = flow.get_tasks(task_type=Compare)
    assert Edge(compare, first) in flow.edges
    assert compare not in flow.upstream_tasks(second)


def test_list_argument_is_made_in_the_block_around() -> None:
    with Flow("f") as flow, case(give(1), 1):
        out = apply_map(inc, [give(5), 6])
    (compare,) = flow.get_tasks(task_type=Compare)
    assert compare not in flow.upstream_tasks(out)
    assert type(flow.run().result[out].result) is list


def test_resource_inside_is_one_an_item() -> None:
    @resource_manager
    class Thing:
        def __init__(self, x: int) -> None:
            self.x = x

        def setup(self) -> int:
            return self.x

        def cleanup(self, x: int) -> None: ...

    def build(x: Any) -> Any:
        with Thing(x) as thing:
            return inc(thing)

    with Flow("f") as flow:
        out = apply_map(build, [1, 2])
    assert all(edge.mapped for edge in flow.edges)
    assert flow.reference_tasks() == {out}
    assert flow.run().result[out].result == [2, 3]


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [1, None, {1, 2}, {"a": 1}, iter([1]), object()], ids=lambda v: type(v).__name__)
def test_argument_that_is_not_a_sequence_is_refused(value: Any) -> None:
    words = rf"apply_map\(build\): argument (1|'y') is a non-sequence object of type {type(value).__name__}.*unmapped"

    def build(x: Any, y: Any) -> Any: ...

    with Flow("f"):
        with pytest.raises(TypeError, match=words):
            apply_map(build, [1], value)
        with pytest.raises(TypeError, match=words):
            apply_map(build, [1], y=mapped(value))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: inc.map(x),
        lambda x: inc.map([1, 2]),
        lambda x: inc(mapped(x)),
        lambda x: inc(x, mapped=True),
        lambda x: inc.copy().set_dependencies(keyword_tasks={"x": x}, mapped=True),
        lambda x: inc.copy().set_upstream(x, key="x", mapped=True),
        lambda x: apply_map(inc, [1, 2]),
    ],
)
def test_mapping_inside_is_refused(build: Any) -> None:
    with Flow("f") as flow:
        with pytest.raises(ValueError, match=r"apply_map\(<lambda>\): inc maps over Constant\[list\] inside, where"):
            apply_map(build, [1, 2])
        assert {type(t) for t in flow.tasks} <= {Constant}


def test_flattening_an_item_inside_is_refused() -> None:
    with Flow("f"):
        with pytest.raises(ValueError, match=r"inc flattens .* inside, where it is one item"):
            apply_map(lambda x: inc(flatten(x)), [[1]])
        with pytest.raises(ValueError, match=r"inc flattens inc inside, where it is one item"):
            apply_map(lambda x: inc(flatten(inc(x))), [[1]])


def test_arguments_and_tasks_around_cannot_wait_for_items() -> None:
    with Flow("f"):
        before = give(1)
        with pytest.raises(
            ValueError, match=r"apply_map\(<lambda>\): <Task: give> belongs to the enclosing flow, so it"
        ):
            apply_map(lambda x: before.set_upstream(x), [1])
        with pytest.raises(
            ValueError, match=r"apply_map\(<lambda>\): <Task: give> belongs to the enclosing flow, so it"
        ):
            apply_map(lambda x: x.set_upstream(inc(x)), give([1]))


def test_item_that_is_carried_into_the_flow_by_hand_is_refused() -> None:
    with Flow("f") as flow, pytest.raises(ValueError, match="stands for an item here; do not pass flow="):
        apply_map(lambda x: (inc(x), inc(x, flow=flow))[1], [1])


def test_function_that_fails_leaves_the_flow_as_it_was() -> None:
    with Flow("f") as flow:
        xs = give([1])
        with pytest.raises(ZeroDivisionError):
            apply_map(lambda x: (inc(x), 1 / 0)[1], xs)
        assert flow.tasks == {xs}
        inc(xs)
    assert len(flow.edges) == 1
