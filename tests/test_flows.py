"""Flows: what calls and hands record, what is refused, and what a run is given."""

from __future__ import annotations

import copy
import pickle
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from bodies import take

from prefectish import Flow, Parameter, Task, allow_failure, context, flatten, mapped, tags, task, unmapped
from prefectish.edges import Edge
from prefectish.engine.driver import run as engine
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.state import Failed, Scheduled, State, Success
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.tasks import Constant, List


@task
def add(x: Any, y: Any = 1) -> Any:
    return x + y


def named(*names: str) -> list[Task]:
    return [Task(name) for name in names]


def edge_of(flow: Flow, down: Task, key: str | None = "x") -> Edge:
    (edge,) = (edge for edge in flow.edges_to(down) if edge.key == key)
    return edge


# ---------------------------------------------------------------------- making


@pytest.mark.parametrize("name", ["", None, False])
def test_flow_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="a flow needs a name"):
        Flow(name)
    with pytest.raises(TypeError):
        Flow()  # type: ignore[call-arg]


def test_repr_is_what_handlers_print() -> None:
    assert repr(Flow(name="state-handler-demo")) == "<Flow: name=state-handler-demo>"


def test_flow_begins_with_tasks_and_edges() -> None:
    a, b, c = named("a", "b", "c")
    flow = Flow("f", tasks=[a], edges=[Edge(b, c)])
    assert list(flow.tasks) == [a, b, c]
    assert list(flow.edges) == [Edge(b, c)]


@pytest.mark.parametrize("handlers", [print, "print", [print, 3], {"print"}])
def test_state_handlers_are_several_callables(handlers: Any) -> None:
    with pytest.raises(TypeError, match="state_handlers"):
        Flow("f", state_handlers=handlers)


@pytest.mark.parametrize("option", ["on_failure", "terminal_state_handler"])
def test_single_handlers_are_callable(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option} must be a function, got 3"):
        Flow("f", **{option: 3})  # type: ignore[arg-type]


def test_on_failure_is_appended_to_the_handlers() -> None:
    seen: list[Any] = []
    flow = Flow("f", state_handlers=[print], on_failure=lambda *facts: seen.append(facts))
    assert flow.state_handlers[0] is print
    failed = Failed("no")
    flow.state_handlers[1](flow, Success(), failed)
    assert seen == [(flow, failed)]


def test_validating_flow_refuses_a_cycle_at_once() -> None:
    a, b = named("a", "b")
    with pytest.raises(FlowDefinitionError, match="cycle: a -> b -> a"):
        Flow("f", edges=[Edge(a, b), Edge(b, a)], validate=True)


# ---------------------------------------------------------------------- calls


def test_call_records_tasks_edges_and_constants() -> None:
    with Flow("f") as flow:
        first = add(1, 2)
        second = add(first, y=first)
    assert list(flow.tasks) == [first, second]
    assert list(flow.edges) == [Edge(first, second, "x"), Edge(first, second, "y")]
    assert flow.constants == {first: {"x": 1, "y": 2}}


def test_upstream_tasks_are_edges_without_a_key() -> None:
    with Flow("f") as flow:
        first = take(1)
        second = take(2, upstream_tasks=[first, 7])
    one, other = flow.edges_to(second)
    assert one == Edge(first, second)
    assert isinstance(other.upstream_task, Constant)
    assert (other.upstream_task.value, other.key) == (7, None)


def test_waiting_for_a_list_is_waiting_for_its_members() -> None:
    with Flow("f") as flow:
        a, b, c = take(1), take(2), take(3)
        last = take(4, upstream_tasks=[[a, (b, [c])]])
    assert flow.upstream_tasks(last) == {a, b, c}
    assert flow.tasks == {a, b, c, last}


@pytest.mark.parametrize(
    ("wrap", "flags"),
    [
        (lambda x: x, (False, False, False)),
        (mapped, (True, False, False)),
        (flatten, (False, True, False)),
        (allow_failure, (False, False, True)),
        (lambda x: mapped(flatten(allow_failure(x))), (True, True, True)),
    ],
)
def test_wrapper_shapes_its_edge_only(wrap: Any, flags: tuple[bool, ...]) -> None:
    with Flow("f") as flow:
        first = take(1)
        second = add(wrap(first), first)
    edge = edge_of(flow, second)
    assert (edge.mapped, edge.flattened, edge.allow_failure) == flags
    assert edge_of(flow, second, "y") == Edge(first, second, "y")


def test_flattened_constant_becomes_a_task() -> None:
    with Flow("f") as flow:
        result = take(flatten([[1]]))
    edge = edge_of(flow, result)
    assert (edge.upstream_task.value, edge.mapped, edge.flattened) == ([[1]], False, True)


# ---------------------------------------------------------------------- mapping


def test_map_maps_every_argument_that_is_not_unmapped() -> None:
    with Flow("f") as flow:
        first, wait, still = take(1), take(2), take(3)
        result = add.map(first, y=unmapped(first), upstream_tasks=[wait, unmapped(still)])
    assert result is not add
    assert list(flow.edges_to(result)) == [
        Edge(first, result, "x", mapped=True),
        Edge(first, result, "y"),
        Edge(wait, result, mapped=True),
        Edge(still, result),
    ]


def test_wrapper_beats_the_keyword_of_the_call() -> None:
    with Flow("f") as flow:
        first = take(1)
        result = add(first, unmapped(first), mapped=True)
    assert (edge_of(flow, result).mapped, edge_of(flow, result, "y").mapped) == (True, False)


def test_bind_mapped_maps_and_returns_the_same_task() -> None:
    made = Task("m")
    with Flow("f") as flow:
        first = take(1)
        assert made.bind(upstream_tasks=[first], mapped=True) is made
    assert edge_of(flow, made, None).mapped


def test_mapped_constant_is_a_task_and_an_unmapped_one_is_not() -> None:
    with Flow("f") as flow:
        result = add.map([1, 2], unmapped([3, 4]))
    edge = edge_of(flow, result)
    assert isinstance(edge.upstream_task, Constant)
    assert (edge.upstream_task.value, edge.mapped) == ([1, 2], True)
    assert flow.constants == {result: {"y": [3, 4]}}


def test_map_with_everything_unmapped_maps_nothing() -> None:
    with Flow("f") as flow:
        result = add.map(unmapped(1), unmapped(take(2)))
    assert not any(edge.mapped for edge in flow.edges_to(result))


def test_list_with_tasks_is_mapped_over_its_members() -> None:
    with Flow("f") as flow:
        first = take(1)
        result = take.map([first, 2])
    edge = edge_of(flow, result)
    assert isinstance(edge.upstream_task, List)
    assert edge.mapped


def test_iterator_is_kept_for_the_run_to_pull() -> None:
    items = iter([1, 2])
    with Flow("f") as flow:
        result = take.map(items)
    assert edge_of(flow, result).upstream_task.value is items
    assert list(items) == [1, 2]


@pytest.mark.parametrize("call", [lambda v: take.map(v), lambda v: take.map(x=v), lambda v: take(mapped(v))])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "argument 'x' cannot be mapped over: got int; .*unmapped"),
        (None, "got NoneType"),
        ({1, 2}, "got set; .*list"),
        ({"a": 1}, r"got dict; .*list\(d.items\(\)\)"),
    ],
)
def test_constant_that_cannot_be_mapped_is_refused_while_building(call: Any, value: Any, words: str) -> None:
    with Flow("f"), pytest.raises(TypeError, match=f"take.map: .*{words}"):
        call(value)


def test_collection_of_tasks_that_cannot_be_mapped_is_refused_too() -> None:
    with Flow("f"):
        first = take(1)
        with pytest.raises(TypeError, match="got dict"):
            take.map({"a": first})


# ---------------------------------------------------------------------- by hand


def test_set_upstream_and_downstream() -> None:
    a, b, c = named("a", "b", "c")
    with Flow("f") as flow:
        assert b.set_upstream(a) is b
        assert b.set_downstream(c, key="x", mapped=True) is b
    assert list(flow.edges) == [Edge(a, b), Edge(b, c, "x", mapped=True)]


def test_set_dependencies_by_task_and_by_flow() -> None:
    a, b, c, d = named("a", "b", "c", "d")
    flow, other = Flow("f"), Flow("f")
    b.set_dependencies(flow, upstream_tasks=[a], downstream_tasks=[c], keyword_tasks={"x": d, "y": 5})
    assert other.set_dependencies(b, [a], [c], {"x": d, "y": 5}) is b
    assert flow == other
    assert flow.edges == {Edge(d, b, "x"), Edge(a, b), Edge(b, c)}
    assert flow.constants == other.constants == {b: {"y": 5}}


def test_set_dependencies_makes_tasks_of_values() -> None:
    flow = Flow("f")
    made = flow.set_dependencies([1], downstream_tasks=[2])
    assert [each.value for each in (made, *flow.downstream_tasks(made))] == [[1], 2]  # type: ignore[attr-defined]


def test_add_edge_adds_its_ends_in_the_direction_of_data() -> None:
    a, b, c = named("a", "b", "c")
    flow = Flow("f")
    flow.add_edge(a, b)
    flow.chain(b, c)
    assert list(flow.tasks) == [a, b, c]


def test_add_edge_takes_a_wrapper_for_the_edge_and_not_for_a_value() -> None:
    flow, source = Flow("edges"), Task("source")
    shown = task(lambda x: x, name="show")
    assert flow.add_edge(unmapped(source), shown, key="x", mapped=True) == Edge(source, shown, "x")
    joined = task(lambda x: x, name="join")
    assert flow.add_edge(flatten([[1], [2]]), joined, key="x").flattened
    assert set(flow.tasks) >= {source, shown, joined}
    assert flow.run(history=False)[joined].result == [1, 2]


def test_add_edge_adds_its_ends_and_wraps_values() -> None:
    flow, (a,) = Flow("f"), named("a")
    edge = flow.add_edge([1, 2], a, key="x", mapped=True, flattened=True)
    assert flow.tasks == {edge.upstream_task, a}
    assert (edge.upstream_task.value, edge.mapped, edge.flattened) == ([1, 2], True, True)


def test_same_edge_is_added_once() -> None:
    a, b = named("a", "b")
    flow = Flow("f")
    flow.add_edge(a, b, "x")
    flow.add_edge(a, b, "x")
    assert len(flow.edges) == len(flow.edges_to(b)) == 1


def test_chain_joins_neighbours() -> None:
    a, b, c = named("a", "b", "c")
    flow = Flow("f")
    assert flow.chain(a, b, c) == [Edge(a, b), Edge(b, c)]
    assert flow.sorted_tasks() == [a, b, c]


def test_add_task_takes_tasks_only() -> None:
    with pytest.raises(TypeError, match="<Flow: name=f>: expected a Task, got 3"):
        Flow("f").add_task(3)  # type: ignore[arg-type]


def test_edges_of_a_new_flow_are_edges() -> None:
    a, b = named("a", "b")
    with pytest.raises(TypeError, match=r"<Flow: name=f>: expected an Edge\(upstream, downstream\), got \(<Task:"):
        Flow("f", edges=[(a, b)])  # type: ignore[list-item]


def test_edge_takes_the_place_of_a_constant() -> None:
    flow, (a, b) = Flow("f"), named("a", "b")
    flow.set_dependencies(b, keyword_tasks={"x": 1, "y": 2})
    flow.set_dependencies(b, keyword_tasks={"x": a})
    assert flow.constants == {b: {"y": 2}}


# ---------------------------------------------------------------------- slugs


def test_slugs_number_tasks_of_one_name() -> None:
    with Flow("f") as flow:
        first, second = take(1), take(2)
        with tags("b", "a"):
            third = take(3)
        fourth = Task("take", slug="own")()
    assert [flow.slugs[each] for each in (first, second, third, fourth)] == ["take-1", "take-2", "take-a-b-1", "own"]


def test_slug_stays_when_the_name_changes() -> None:
    with Flow("f") as flow:
        first = take(1)
    first.name = "other"
    assert flow.slugs[first] == "take-1"


def test_explicit_slug_is_unique() -> None:
    flow = Flow("f", tasks=[Task(slug="s")])
    with pytest.raises(ValueError, match="name=f>: the slug 's' of <Task: Task> is used by another task; give it"):
        flow.add_task(Task(slug="s"))
    assert len(flow.tasks) == 1


# ---------------------------------------------------------------------- reading


@pytest.fixture
def diamond() -> tuple[Flow, list[Task]]:
    a, b, c, d = nodes = named("a", "b", "c", "d")
    return Flow("f", tasks=nodes, edges=[Edge(a, b), Edge(a, c), Edge(b, d), Edge(c, d)]), nodes


def test_roots_terminals_and_order(diamond: Any) -> None:
    flow, (a, b, c, d) = diamond
    assert list(flow.root_tasks()) == [a]
    assert list(flow.terminal_tasks()) == [d]
    assert flow.sorted_tasks() == [a, b, c, d]
    assert flow.sorted_tasks(root_tasks=[c]) == [c, d]
    assert flow.sorted_tasks([d, b]) == [b, d]
    with pytest.raises(FlowDefinitionError):
        flow.sorted_tasks([Task("a")])
    assert list(flow.upstream_tasks(d)) == [b, c]
    assert list(flow.downstream_tasks(a)) == [b, c]
    assert list(flow.edges_from(a)) == [Edge(a, b), Edge(a, c)]
    assert flow.edges_to(d) == {Edge(b, d), Edge(c, d)}
    assert a in flow
    assert Task("a") not in flow


def test_reference_tasks_default_to_the_terminal_ones(diamond: Any) -> None:
    flow, (a, b, _, d) = diamond
    assert flow.reference_tasks() == {d}
    flow.set_reference_tasks([b, a])
    assert list(flow.reference_tasks()) == [b, a]
    flow.set_reference_tasks([])
    assert flow.reference_tasks() == {d}


def test_reference_tasks_belong_to_the_flow(diamond: Any) -> None:
    flow, (a, *_) = diamond
    with pytest.raises(FlowDefinitionError, match="<Task: x> is not in <Flow: name=f>"):
        flow.set_reference_tasks([Task("x")])
    with pytest.raises(TypeError, match="reference_tasks must be a list of tasks, got <Task: a>"):
        flow.set_reference_tasks(a)
    with pytest.raises(FlowDefinitionError, match="is not in"):
        Flow("g", reference_tasks=[a])
    assert flow.reference_tasks() == flow.terminal_tasks()


@pytest.mark.parametrize("ask", [Flow.edges_to, Flow.edges_from, Flow.upstream_tasks, Flow.downstream_tasks])
def test_asking_for_a_foreign_task_is_refused(ask: Any) -> None:
    with pytest.raises(FlowDefinitionError, match="<Task: x> is not in <Flow: name=f>"):
        ask(Flow("f"), Task("x"))


def test_get_tasks_filters_by_all_criteria() -> None:
    a, b, c = Task("a", tags=["t", "u"]), Task("a", tags=["t"]), Parameter("c", tags=["t"])
    flow = Flow("f", tasks=[a, b, c])
    assert flow.get_tasks() == [a, b, c]
    assert flow.get_tasks(name="a", tags=["t"]) == [a, b]
    assert flow.get_tasks(name="a", tags=["t", "u"]) == [a]
    assert flow.get_tasks(slug="c", task_type=Parameter) == [c]
    assert flow.get_tasks(name="a", task_type=Parameter) == []


def test_equality_is_of_name_tasks_edges_and_references(diamond: Any) -> None:
    flow, (a, b, c, d) = diamond
    same = Flow("f", tasks=[d, c, b, a], edges=[Edge(c, d), Edge(b, d), Edge(a, c), Edge(a, b)])
    assert flow == same
    assert flow != "f"
    same.set_reference_tasks([a])
    assert flow != same
    assert flow != Flow("g", tasks=flow.tasks, edges=flow.edges)
    with pytest.raises(TypeError, match="unhashable"):
        hash(flow)


# ---------------------------------------------------------------------- misuse


def test_cycle_is_named_when_asked_for_the_order() -> None:
    a, b = named("a", "b")
    flow = Flow("f")
    a.set_upstream(b, flow=flow)
    b.set_upstream(a, flow=flow)
    for ask in (flow.sorted_tasks, flow.validate, flow.run):
        with pytest.raises(FlowDefinitionError) as caught:
            ask()
        assert str(caught.value) == "cycle: a -> b -> a"
        assert caught.value.exit_code == 2


def test_cycle_is_refused_at_the_edge_if_asked() -> None:
    a, b = named("a", "b")
    flow = Flow("f", edges=[Edge(a, b)])
    with pytest.raises(FlowDefinitionError, match="cycle: a -> b -> a"):
        flow.add_edge(b, a, validate=True)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_task_that_waits_for_itself_is_refused_at_once(is_mapped: bool) -> None:
    (a,) = named("a")
    flow = Flow("f")
    with pytest.raises(FlowDefinitionError, match=r"^cycle: a -> a$"):
        flow.add_edge(a, a, "x", mapped=is_mapped)
    assert not flow.edges


def test_argument_with_two_sources_is_refused_by_validation() -> None:
    a, b, c = named("a", "b", "c")
    flow = Flow("f", edges=[Edge(a, c, "x"), Edge(b, c, "x")])
    with pytest.raises(FlowDefinitionError, match="c: argument 'x' has several sources: a and b"):
        flow.validate()


def test_result_of_a_call_in_another_flow_is_refused() -> None:
    with Flow("first") as first:
        foreign = take(1)
        item = foreign[0]
    with Flow("second"):
        here = take(2)
        uses: tuple[Callable[[], Any], ...] = (
            lambda: take(foreign),
            lambda: take([1, foreign]),
            lambda: take.map(foreign),
            lambda: take(1, upstream_tasks=[foreign]),
            lambda: here.set_upstream(foreign),
            lambda: here.set_downstream(foreign),
            lambda: foreign + 1,
        )
        for use in uses:
            with pytest.raises(FlowDefinitionError, match=r"^task take-1 belongs to flow first: .*again here"):
                use()
        with pytest.raises(FlowDefinitionError, match=r"task take\[0\]-1 belongs to flow first"):
            take(item)
    assert foreign in first


def test_result_is_foreign_even_when_its_flow_is_gone() -> None:
    def build() -> Task:
        with Flow("gone"):
            return take(1)

    with Flow("f"), pytest.raises(FlowDefinitionError, match="task take-1 belongs to flow gone"):
        take(build())


def test_task_added_by_hand_may_be_in_several_flows() -> None:
    made = Task("m")
    with Flow("first") as first:
        made.bind()
        result = take(made)
    second = Flow("second", tasks=first.tasks, edges=first.edges)
    with second:
        take(made)
        take(result)
    assert made in first
    assert made in second


def test_task_made_but_not_added_warns_once_at_the_end_of_the_block() -> None:
    def build() -> None:
        with Flow("f"):
            Task("lost")
            Task("other")

    with pytest.warns(UserWarning, match="created but not added") as caught:
        build()
    (warning,) = caught
    assert "<Task: lost>, <Task: other>" in str(warning.message)
    assert warning.filename == __file__


def test_used_tasks_and_constants_do_not_warn() -> None:
    with warnings.catch_warnings(record=True) as seen, Flow("f") as flow:
        warnings.simplefilter("always")
        Task("called")()
        flow.add_task(Task("added"))
        Task("bound").bind()
        Task("copied").copy().bind()
        Constant(3)
        take(1) + 1
    assert seen == []


def test_block_that_fails_does_not_warn() -> None:
    def build() -> None:
        with Flow("f"):
            Task("lost")
            raise KeyError

    with pytest.raises(KeyError):
        build()


def test_block_restores_the_flow_around_it() -> None:
    with Flow("outer") as outer:
        with Flow("inner") as inner:
            first = take(1)
        second = take(2)
        with outer:
            third = take(3)
    assert inner.tasks == {first}
    assert outer.tasks == {second, third}
    assert "flow" not in context


# ---------------------------------------------------------------------- size


def test_long_chain_builds_and_sorts_without_recursion() -> None:
    size = 10_000
    started = time.process_time()
    with Flow("f") as flow:
        result = take(0)
        for _ in range(size - 1):
            result = take(result)
    flow.validate()
    # Measured 0.15 s; what this holds off is a cost that grows with the square of the size.
    assert time.process_time() - started < 2
    assert len(flow.sorted_tasks()) == size
    assert flow.sorted_tasks()[-1] is result


# ---------------------------------------------------------------------- copy, update, replace


def test_copy_can_be_changed_by_itself(diamond: Any) -> None:
    flow, (a, _, _, d) = diamond
    flow.set_reference_tasks([a])
    for duplicate in (flow.copy(), copy.copy(flow)):
        assert duplicate == flow
        duplicate.add_edge(d, Task("e"), "x")
        duplicate.set_dependencies(d, keyword_tasks={"x": 1})
        duplicate.set_reference_tasks([])
        duplicate.state_handlers.append(print)
        assert duplicate.add_task(Task("a")) in duplicate
    assert len(flow.tasks) == 4
    assert not flow.edges_from(d)
    assert flow.reference_tasks() == {a}
    assert (flow.constants, flow.state_handlers) == ({}, [])


def test_copied_flow_knows_results_of_the_original() -> None:
    with Flow("f") as flow:
        first = take(1)
    with flow.copy() as other:
        second = take(first)
    assert second in other
    assert second not in flow


def test_flow_pickles(diamond: Any) -> None:
    flow, _ = diamond
    loaded = pickle.loads(pickle.dumps(flow))
    assert [task.name for task in loaded.sorted_tasks()] == ["a", "b", "c", "d"]
    with loaded:
        take_all = Task("all")
        take_all.bind()
    assert loaded.slugs[take_all] == "all-1"


def test_update_adds_everything() -> None:
    with Flow("one") as one:
        first = take(1)
    with Flow("two") as two:
        add(take(5), 2)
    one.update(two)
    assert one.tasks == {first, *two.tasks}
    assert one.edges == two.edges
    assert one.constants == {first: {"x": 1}, **two.constants}
    assert [one.slugs[each] for each in two.tasks] == ["take-2", "add-1"]


def test_update_may_merge_parameters_and_references() -> None:
    with Flow("one") as one:
        ours = Parameter("p")
        first = take(ours)
    with Flow("two") as two:
        theirs = Parameter("p")
        second = take(theirs)
        two.set_reference_tasks([theirs, second])
    with pytest.raises(FlowDefinitionError, match="slug 'p'"):
        one.copy().update(two)
    one.update(two, merge_parameters=True, merge_reference_tasks=True)
    assert one.tasks == {ours, first, second}
    assert one.edges == {Edge(ours, first, "x"), Edge(ours, second, "x")}
    assert list(one.reference_tasks()) == [first, ours, second]


def test_replace_rewires_edges_slug_constants_and_references() -> None:
    with Flow("f") as flow:
        first = take(1)
        middle = add(first, 5)
        last = take(middle, upstream_tasks=[middle])
    flow.set_reference_tasks([middle])
    new = Task("new")
    flow.replace(middle, new)
    assert list(flow.tasks) == [first, new, last]
    assert flow.slugs[new] == "add-1"
    assert flow.edges == {Edge(first, new, "x"), Edge(new, last, "x"), Edge(new, last)}
    assert flow.edges_to(new) == {Edge(first, new, "x")}
    assert flow.constants == {first: {"x": 1}, new: {"y": 5}}
    assert flow.reference_tasks() == {new}
    assert middle not in flow


def test_replace_by_a_value_turns_edges_into_constants() -> None:
    with Flow("f") as flow:
        p = Parameter("p")
        one = take(p)
        many = add.map(p, unmapped(p), upstream_tasks=[unmapped(p)])
    flow.replace(p, [1, 2])
    edge = edge_of(flow, many)
    assert flow.edges == {Edge(edge.upstream_task, many, "x", mapped=True)}
    assert edge.upstream_task.value == [1, 2]
    assert flow.constants == {one: {"x": [1, 2]}, many: {"y": [1, 2]}}
    assert flow.parameters() == set()
    with pytest.raises(TypeError, match=r"add.map: argument 'x' cannot be mapped over: got int"):
        flow.replace(edge.upstream_task, 3)


def test_replace_by_a_value_takes_the_task_out() -> None:
    with Flow("f") as flow:
        first = take(1)
        middle = take(first)
        last = take(middle)
    flow.set_reference_tasks([middle])
    flow.replace(middle, 7)
    assert list(flow.tasks) == [first, last]
    assert not flow.edges
    assert flow.constants[last] == {"x": 7}
    assert flow.reference_tasks() == {first, last}


def test_replace_by_a_task_of_the_flow() -> None:
    a, b, c, d = named("a", "b", "c", "d")
    flow = Flow("f", edges=[Edge(a, c), Edge(b, d)])
    flow.replace(a, b)
    assert flow.tasks == {b, c, d}
    assert list(flow.edges_from(b)) == [Edge(b, c), Edge(b, d)]
    with pytest.raises(FlowDefinitionError, match="cycle: b -> b"):
        flow.replace(c, b)
    assert flow.tasks == {b, c, d}


def test_replace_needs_a_task_of_the_flow() -> None:
    with pytest.raises(FlowDefinitionError, match="<Task: x> is not in"):
        Flow("f").replace(Task("x"), 1)


# ---------------------------------------------------------------------- running


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Flow, dict[str, Any], RunOptions]]:
    """What the engine is given."""
    seen: list[tuple[Flow, dict[str, Any], RunOptions]] = []

    def run_flow(flow: Flow, parameters: dict[str, Any], options: RunOptions) -> State:
        seen.append((flow, parameters, options))
        return Success("done")

    monkeypatch.setattr(engine, "run_flow", run_flow)
    return seen


def with_parameters() -> Flow:
    with Flow("f") as flow:
        take([Parameter("x"), Parameter("y", default=2), Parameter("executor", required=False)])
    return flow


def test_run_hands_everything_to_the_engine(runs: Any) -> None:
    flow, executor, start = with_parameters(), object(), Scheduled()
    states = {Task(): Success()}
    state = flow.run(
        {"x": 0, "executor": 5},
        executor=executor,
        context={"a": 1},
        task_states=states,
        state=start,
        flow_run_name="n",
        keep_results=False,
        timeout=timedelta(seconds=2),
        on_pause="prompt",
        history=False,
        progress=True,
        x=1,
    )
    assert state == Success("done")
    ((given, parameters, options),) = runs
    assert given is flow
    assert parameters == {"x": 1, "y": 2, "executor": 5}
    assert options == RunOptions(
        executor=executor,
        context={"a": 1},
        task_states=states,
        state=start,
        flow_run_name="n",
        keep_results=False,
        timeout=2.0,
        on_pause="prompt",
        history=False,
        progress=True,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": "soon"},
        {"on_pause": "ask"},
        {"parameters": [1]},
        {"context": 3},
        {"keep_results": 3},
    ],
)
def test_run_refuses_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Flow("options").run(**wrong)


def test_run_takes_parameters_of_the_context(runs: Any) -> None:
    with context(parameters={"x": 3, "y": 4}):
        with_parameters().run(context={"parameters": {"y": 5}})
    assert runs[0][1] == {"x": 3, "y": 5, "executor": None}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "missing: x"),
        ({"x": 1, "timeot": 3}, r"unknown: timeot; did you mean 'timeout', not 'timeot'\?"),
        ({"z": 1}, "missing: x; unknown: z"),
    ],
)
def test_run_refuses_wrong_parameters_before_anything_runs(given: Any, text: str, runs: Any) -> None:
    with pytest.raises(ParameterError, match=f"^{text}$"):
        with_parameters().run(**given)
    assert runs == []


def test_executor_of_the_call_beats_the_flows_beats_the_configured(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, given = object(), object()
    Flow("f", executor=mine).run(executor=given)
    Flow("f", executor=mine).run()
    Flow("f").run()
    monkeypatch.setenv("PREFECTISH_EXECUTOR", "builtins.object")
    Flow("f").run()
    chosen = [options.executor for _, _, options in runs]
    assert chosen[:3] == [given, mine, None]
    assert type(chosen[3]) is object


def test_finished_state_is_returned_as_it_is(runs: Any) -> None:
    done = Failed("before")
    assert Flow("f").run(state=done) is done
    assert runs == []


def test_run_inside_a_block_is_refused(runs: Any) -> None:
    with Flow("f") as flow, pytest.raises(RuntimeError, match="cannot run inside the block of <Flow: name=f>"):
        flow.run()
    assert runs == []
