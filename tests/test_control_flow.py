"""What branches and resources record while a flow is built."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest
from bodies import give

from prefectish import (
    Flow,
    Parameter,
    Task,
    case,
    context,
    ifelse,
    merge,
    resource_manager,
    switch,
    tags,
    task,
    triggers,
)
from prefectish.control_flow.resources import ResourceCleanup, ResourceInit, ResourceSetup
from prefectish.edges import Edge
from prefectish.engine.signals import SKIP
from prefectish.engine.state import Cancelled, Failed, Skipped, Success
from prefectish.errors import FlowDefinitionError
from prefectish.tasks import Constant
from prefectish.tasks.collections import List
from prefectish.tasks.control_flow import AsBool, Compare, FilterTask, Merge


@task
def inc(x: Any) -> Any:
    return x + 1


def compares(flow: Flow) -> list[Task]:
    return flow.get_tasks(task_type=Compare)


def gated(flow: Flow) -> set[Task]:
    return {edge.downstream_task for compare in compares(flow) for edge in flow.edges_from(compare)}


# ---------------------------------------------------------------------- case


def test_case_restricts_only_tasks_without_an_upstream_in_the_block() -> None:
    with Flow("f") as flow:
        before = give(1)
        with case(before, "a"):
            first = inc(before)
            second = inc(first)
            alone = Task("alone")()
        inc(second)
    (compare,) = compares(flow)
    assert gated(flow) == {first, alone}
    assert Edge(compare, first) in flow.edges
    assert flow.edges_to(compare) == {Edge(before, compare, "value")}
    assert compare.expected == "a"


def test_parameters_and_constants_stay_outside() -> None:
    with Flow("f") as flow, case(give(1), 1):
        x = Parameter("x")()
        out = inc.map([1, 2])
        both = give([x, 3])
    assert gated(flow) == {out, *flow.upstream_tasks(both)}
    assert not flow.edges_to(x)
    assert all(not flow.edges_to(constant) for constant in flow.get_tasks(task_type=Constant))


def test_expressions_of_the_condition_in_the_block_are_gated() -> None:
    with Flow("f") as flow:
        pair = give([1, 2])
        with case(pair, [1, 2]):
            item = pair[0]
    assert gated(flow) == {item}


def test_task_added_before_the_block_is_not_gated() -> None:
    with Flow("f") as flow:
        asked, before = give(1), inc(1)
        with case(asked, 1):
            before.set_upstream(Task("first")())
    assert {t.name for t in gated(flow)} == {"first"}


def test_condition_that_comes_into_the_flow_in_the_block_does_not_wait_for_itself() -> None:
    asked, after = Task("asked"), Task("after")
    with Flow("f") as flow, case(asked, 1):
        after.set_upstream(asked)
    flow.validate()
    assert gated(flow) == {after}


def test_empty_block_adds_nothing() -> None:
    with Flow("f") as flow:
        asked = give(1)
        with case(asked, 1):
            Parameter("x")()
        with case(asked, 2):
            pass
    assert not compares(flow)
    assert not flow.edges


def test_nested_blocks_add_up() -> None:
    with Flow("f") as flow:
        a, b = give(1), give(2)
        with case(a, 1):
            outside = inc(1)
            with case(b, 2):
                inside = inc(2)
            after = inc(3)
    by_value = {compare.expected: compare for compare in compares(flow)}
    assert flow.upstream_tasks(by_value[2]) == {b, by_value[1]}
    assert flow.upstream_tasks(inside) == {by_value[2]}
    assert flow.upstream_tasks(outside) == flow.upstream_tasks(after) == {by_value[1]}


def test_block_gates_the_tasks_of_other_functions_and_updates() -> None:
    part = Flow("part", tasks=[first := Task("first")])
    with Flow("f") as flow, case(give(1), 1):
        flow.update(part)
    assert gated(flow) == {first}


def test_case_works_without_a_block_of_a_flow() -> None:
    flow = Flow("f")
    asked = give(1, flow=flow)
    with case(asked, 1):
        out = inc(1, flow=flow)
    assert gated(flow) == {out}


def test_block_belongs_to_one_flow() -> None:
    one, other = Flow("one"), Flow("other")
    words = r"has tasks of <Flow: name=one>, and now <Task: give> of <Flow: name=other>"
    with case(Parameter("x"), 1):
        give(1, flow=one)
        with pytest.raises(ValueError, match=words):
            give(1, flow=other)
    assert "block" not in context


def test_block_that_fails_adds_nothing_and_is_closed() -> None:
    with Flow("f") as flow:
        block = case(give(1), 1)
        with pytest.raises(KeyError), block:
            {}[inc(1)]
        out = inc(1)
    assert not compares(flow)
    assert not flow.edges_to(out)


def test_same_case_may_be_used_again_but_not_in_itself() -> None:
    with Flow("f") as flow:
        again = case(give(1), 1)
        with again:
            first = inc(1)
        with again:
            second = inc(1)
        with (
            again,
            pytest.raises(
                FlowDefinitionError, match=r"case\(<Task: give>, 1\) is already open; create another one for a"
            ),
            again,
        ):
            pass
    assert gated(flow) == {first, second}
    assert len(compares(flow)) == 2


def test_case_value_is_not_a_task() -> None:
    with (
        Flow("f"),
        pytest.raises(TypeError, match="value must not be a task, got <Task: give>; compare two results with"),
    ):
        case(give(1), give(2))


def test_case_takes_a_constant_for_a_condition() -> None:
    with Flow("f") as flow, case(3, 3):
        out = inc(1)
    (compare,) = compares(flow)
    assert flow.constants[compare] == {"value": 3}
    assert flow.upstream_tasks(out) == {compare}


def test_case_name_is_short() -> None:
    assert Compare("a").name == "case['a']"
    assert len(Compare("a" * 1000).name) == 46
    assert Compare({"a", "b"}).name == "case[set]"


def test_flow_in_a_block_of_another_is_refused() -> None:
    with Flow("outer"), case(give(1), 1):
        inc(1)
        with Flow("inner"), pytest.raises(FlowDefinitionError, match="a block belongs to one flow"):
            inc(1)


def test_block_does_not_reach_into_a_run() -> None:
    with Flow("f") as flow:
        out = give.copy(name="seen")(1)
    with case(1, 1):
        state = flow.run()
    assert state.result[out].result == 1


def test_validating_flow_validates_the_edges_of_a_block() -> None:
    with Flow("f", validate=True):
        asked = give(1)
        with pytest.raises(ValueError, match="cycle"), case(asked, 1):
            asked.set_upstream(inc(1))


def test_compare_skips_what_is_not_equal() -> None:
    assert Compare(1).run(True) is None
    with pytest.raises(SKIP, match="got 'b', this branch is for 'a'"):
        Compare("a").run("b")
    assert pickle.loads(pickle.dumps(Compare([1]))).expected == [1]


# ---------------------------------------------------------------------- switch, ifelse, merge


def test_switch_adds_a_comparison_a_case() -> None:
    with Flow("f") as flow:
        asked, a, b = give(1), inc(1), inc(2)
        assert switch(asked, {"a": a, 2: b}) is None
    by_value = {compare.expected: compare for compare in compares(flow)}
    assert by_value.keys() == {"a", 2}
    assert flow.upstream_tasks(a) == {by_value["a"]}
    assert flow.upstream_tasks(b) == {by_value[2]}
    assert all(flow.upstream_tasks(compare) == {asked} for compare in by_value.values())


def test_switch_on_a_list_makes_and_gates_the_list_task() -> None:
    with Flow("f") as flow:
        inside = inc(1)
        switch(give(1), {1: [inside, 2]})
    (made,) = flow.get_tasks(task_type=List)
    assert gated(flow) == {made}
    assert not flow.edges_to(inside)


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([1], r"cases must be a dict from value to task, got \[1\]"),
        ({"a": 5}, r"case 'a' is the constant 5, which cannot be skipped"),
        ({"a": None}, r"case 'a' is the constant None"),
    ],
)
def test_switch_refuses_what_cannot_be_a_branch(cases: Any, words: str) -> None:
    with Flow("f"), pytest.raises(TypeError, match=words):
        switch(give(1), cases)


def test_switch_on_a_parameter_as_branch_is_refused() -> None:
    with Flow("f"), pytest.raises(FlowDefinitionError, match="<Parameter: x> cannot wait for"):
        switch(give(1), {1: Parameter("x")})


def test_switch_value_is_not_a_task() -> None:
    with (
        Flow("f"),
        pytest.raises(TypeError, match=r"<Task: give>; compare two results with case\(x\.is_equal\(y\), True\)"),
    ):
        switch(give(1), {give(2): inc(1)})


def test_mapped_switch_maps_its_comparisons() -> None:
    with Flow("f") as flow:
        branch = inc.map([1, 2])
        switch(give([1, 2]), {1: branch}, mapped=True)
    (compare,) = compares(flow)
    assert [edge.mapped for edge in (*flow.edges_to(compare), *flow.edges_to(branch))] == [True] * 3


def test_ifelse_asks_for_the_truth_once() -> None:
    with Flow("f") as flow:
        asked, a, b = give(1), inc(1), inc(2)
        ifelse(asked, a, b)
    (truth,) = flow.get_tasks(task_type=AsBool)
    assert flow.upstream_tasks(truth) == {asked}
    assert {compare.expected for compare in flow.downstream_tasks(truth)} == {True, False}
    assert (AsBool().run([]), AsBool().run([0])) == (False, True)


def test_ifelse_without_branches_adds_nothing() -> None:
    with Flow("f") as flow:
        asked = give(1)
        ifelse(asked, None, None)
    assert flow.tasks == {asked}


def test_merge_numbers_what_has_no_name() -> None:
    with Flow("f") as flow:
        a, b, c = give(1), give(2), give(3)
        out = merge(a, b, last=c)
    assert isinstance(out, Merge)
    assert (out.trigger, out.skip_on_upstream_skip) == (triggers.not_all_skipped, False)
    assert flow.edges == {Edge(a, out, "task_1"), Edge(b, out, "task_2"), Edge(c, out, "last")}


def test_merge_refuses_two_of_a_name_and_nothing() -> None:
    with Flow("f"):
        with pytest.raises(TypeError, match="task_1= is also the name"):
            merge(give(1), task_1=give(2))
        with pytest.raises(TypeError, match="merge: no tasks to merge; pass the last task of each branch"):
            merge()


def test_merge_result_goes_by_text_order_and_identity_with_none() -> None:
    assert Merge().run(task_2="second", task_10="tenth") == "tenth"
    assert Merge().run(b=False, a=None) is False
    assert Merge().run(a=None) is None


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: switch(inc, {1: inc}), "switch"),
        (lambda: ifelse(inc, inc, inc), "ifelse"),
        (lambda: merge(inc), "merge"),
    ],
    ids=["switch", "ifelse", "merge"],
)
def test_without_a_flow_the_way_out_is_named(call: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^no active Flow: use {name} inside `with Flow\(...\)`, or pass flow="):
        call()


def test_flow_may_be_given() -> None:
    flow = Flow("f")
    a, b = inc(1, flow=flow), inc(2, flow=flow)
    switch(a, {1: b}, flow=flow)
    ifelse(a, b, None, flow=flow)
    assert merge(a, b, flow=flow) in flow


def test_tags_reach_the_tasks_of_control_flow() -> None:
    with Flow("f") as flow, tags("red"), case(give(1), 1):
        inc(1)
    assert all(task.tags == {"red"} for task in flow.tasks)


# ---------------------------------------------------------------------- FilterTask


def test_filter_defaults() -> None:
    made = FilterTask()
    assert (made.skip_on_upstream_skip, made.name) == (False, "FilterTask")
    assert made.run([0, "", None, [], ValueError(), SKIP("no"), KeyboardInterrupt()]) == [0, "", []]


@pytest.mark.parametrize("nothing", [None, ValueError("whole")])
def test_filter_needs_a_list(nothing: Any) -> None:
    with pytest.raises(TypeError, match="FilterTask: expected a list, got "):
        FilterTask().run(nothing)


def test_filter_takes_options_and_a_function() -> None:
    made = FilterTask(str.isalpha, "letters", trigger=triggers.all_successful, skip_on_upstream_skip=True)
    assert (made.trigger, made.skip_on_upstream_skip, made.name) == (triggers.all_successful, True, "letters")
    assert pickle.loads(pickle.dumps(made)).run(["a", "1"]) == ["a"]
    with pytest.raises(TypeError, match="filter_func must be a function, got 3"):
        FilterTask(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- resource managers


@resource_manager
class Thing:
    """A thing."""

    def __init__(self, size: int, color: str = "red") -> None:
        self.size = size

    def setup(self) -> int:
        return self.size

    def cleanup(self, size: int) -> None: ...


class Bare:
    def cleanup(self, resource: None) -> None: ...


def three(flow: Flow) -> tuple[Task, Task, Task]:
    return tuple(flow.get_tasks(task_type=kind)[0] for kind in (ResourceInit, ResourceSetup, ResourceCleanup))  # type: ignore[return-value]


def test_resource_wires_its_body_between_set_up_and_clean_up() -> None:
    with Flow("f") as flow:
        size = give(3)
        with Thing(size, color="blue") as thing:
            user = inc(thing)
            last = inc(user)
            beside = Task("beside")()
        after = inc(last)
    init, setup, cleanup = three(flow)
    assert thing is setup
    assert [t.name for t in (init, setup, cleanup)] == ["Thing", "Thing.setup", "Thing.cleanup"]
    assert flow.constants[init] == {"color": "blue"}
    assert set(flow.edges) == {
        Edge(size, init, "size"),
        Edge(init, setup, "manager"),
        Edge(setup, user, "x"),
        Edge(user, last, "x"),
        Edge(setup, beside),
        Edge(init, cleanup, "manager"),
        Edge(setup, cleanup, "resource"),
        Edge(last, cleanup),
        Edge(beside, cleanup),
        Edge(last, after, "x"),
    }


def test_resource_without_set_up_waits_for_the_manager() -> None:
    with Flow("f") as flow, resource_manager(Bare)() as nothing:
        user = inc(1)
    (init,), (cleanup,) = flow.get_tasks(task_type=ResourceInit), flow.get_tasks(task_type=ResourceCleanup)
    assert nothing is None
    assert flow.constants[cleanup] == {"resource": None}
    assert set(flow.edges) == {Edge(init, user), Edge(init, cleanup, "manager"), Edge(user, cleanup)}


def test_resource_with_an_empty_block() -> None:
    with Flow("f") as flow, Thing(1):
        pass
    init, setup, cleanup = three(flow)
    assert flow.sorted_tasks() == [init, setup, cleanup]
    assert flow.reference_tasks() == {setup}


def test_init_and_clean_up_are_no_default_reference_tasks() -> None:
    with Flow("f") as flow:
        size = give(1)
        with Thing(size) as thing, Thing(thing) as inner:
            user = inc(inner)
            other = inc(thing)
    assert flow.terminal_tasks() == set(flow.get_tasks("Thing.cleanup")[-1:])
    assert flow.reference_tasks() == {user, other}
    flow.set_reference_tasks(flow.get_tasks("Thing.cleanup"))
    assert flow.reference_tasks() == set(flow.get_tasks("Thing.cleanup"))


def test_flow_of_nothing_but_init_and_clean_up_has_its_last_task_for_reference() -> None:
    with Flow("f") as flow, resource_manager(Bare)():
        pass
    assert flow.reference_tasks() == flow.terminal_tasks() == set(flow.get_tasks("Bare.cleanup"))


def test_resource_options_reach_its_tasks() -> None:
    @resource_manager(
        name="thing",
        init_task_kwargs={"max_retries": 1, "retry_delay": 0},
        setup_task_kwargs={"name": "make", "tags": ["slow"]},
        cleanup_task_kwargs={"trigger": triggers.all_successful},
    )
    class Named(Bare):
        def setup(self) -> None: ...

    with Flow("f") as flow, Named():
        pass
    init, setup, cleanup = three(flow)
    assert (init.name, init.max_retries) == ("thing", 1)
    assert (setup.name, setup.tags) == ("make", {"slow"})
    assert (cleanup.name, cleanup.trigger) == ("thing.cleanup", triggers.all_successful)
    assert cleanup.skip_on_upstream_skip is False


def test_resource_manager_says_what_it_is() -> None:
    assert repr(Thing) == "<ResourceManager: Thing>"
    assert Thing.__doc__ == "A thing."


def test_resource_manager_needs_a_class_with_a_clean_up() -> None:
    with pytest.raises(TypeError, match=r"resource_manager must be used on a class, got .*\.<lambda> at 0x.*>"):
        resource_manager(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"Nothing has no method cleanup\(self, resource\)"):
        resource_manager(type("Nothing", (), {}))


def test_resource_arguments_are_checked_while_building() -> None:
    with Flow("f"), pytest.raises(TypeError, match="colour"), Thing(1, colour="red"):
        pass


def test_resource_needs_a_flow() -> None:
    with pytest.raises(ValueError, match=r"^no active Flow: use Thing\(...\)"), Thing(1):
        pass
    flow = Flow("f")
    with Thing(1, flow=flow) as thing:
        inc(thing, flow=flow)
    assert len(flow.tasks) == 4


def test_resource_block_is_entered_once_at_a_time() -> None:
    with Flow("f") as flow:
        block = Thing(1)
        with (
            block,
            pytest.raises(FlowDefinitionError, match=r"Thing\(\.\.\.\) is already open; call Thing\(\.\.\.\) again"),
            block,
        ):
            pass
        with block:
            pass
    assert len(flow.get_tasks(task_type=ResourceInit)) == 2


def test_resource_block_that_fails_wires_nothing() -> None:
    with Flow("f") as flow, pytest.raises(KeyError), Thing(1):
        raise KeyError
    assert not flow.get_tasks(task_type=ResourceCleanup)


def test_resource_block_leaves_no_warning() -> None:
    with warnings.catch_warnings(record=True) as seen, Flow("f"):
        warnings.simplefilter("always")
        Thing(1)
    assert seen == []


@pytest.mark.parametrize(
    ("manager", "resource", "body", "runs"),
    [
        (Success(), Success(), Failed(), True),
        (Success(), Success(), Skipped(), True),
        (Success(), Success(), Cancelled(), True),
        (Failed(), Success(), Success(), False),
        (Success(), Failed(), Success(), False),
        (Skipped(), Success(), Success(), False),
        (Success(), Skipped(), Success(), False),
        (Success(), Cancelled(), Success(), False),
    ],
)
def test_clean_up_runs_if_there_is_something_to_clean_up(manager: Any, resource: Any, body: Any, runs: bool) -> None:
    cleanup = ResourceCleanup("cleanup")
    a, b, c = Task("a"), Task("b"), Task("c")
    upstream = {Edge(a, cleanup, "manager"): manager, Edge(b, cleanup, "resource"): resource, Edge(c, cleanup): body}
    if runs:
        assert cleanup.trigger(upstream) is True
    else:
        with pytest.raises(SKIP, match="nothing to clean up"):
            cleanup.trigger(upstream)
