import pytest
from hypothesis import given
from strategies import build, programs

from prefectish import Flow, Parameter, flatten, task, unmapped
from prefectish.engine.plan.compile import GROUP_SIZE, compile_flow
from prefectish.engine.state import Success
from prefectish.errors import FlowDefinitionError


@task
def give(x, y=None):
    return x


def step_of(plan, made):
    (step,) = (step for step in plan.steps if step.task is made)
    return step


def groups(plan):
    """Names of the tasks that travel together, group by group."""
    return [[plan.steps[n].name for n in group.steps] for group in plan.groups]


def named(name, **options):
    return give.copy(name=name, **options)


def test_empty_flow_has_an_empty_plan():
    plan = compile_flow(Flow("empty"), {})
    assert plan == ("empty", (), (), (), (), (), False)


def test_constants_and_parameters_are_literals():
    with Flow("literals") as flow:
        mapped = give.map([1, 2], y=Parameter("p", default=5))
        given = give(Parameter("q"))
    plan = compile_flow(flow, {"q": 7})
    literals = {step.name: step.literal for step in plan.steps if step.literal is not None}
    assert literals == {"Constant[list]": Success(None, [1, 2]), "p": Success(None, 5), "q": Success(None, 7)}
    assert all(step.group is None for step in plan.steps if step.literal is not None)
    assert step_of(plan, mapped).literal is step_of(plan, given).literal is None


def test_constants_of_a_call_stay_with_the_step():
    with Flow("constants") as flow:
        out = give(1, y=[2])
    assert step_of(compile_flow(flow, {}), out).constants == {"x": 1, "y": [2]}


def test_steps_are_numbered_from_inputs_to_outputs():
    with Flow("order") as flow:
        c = named("c").bind(x=(b := named("b")(a := named("a")(1))))
    plan = compile_flow(flow, {})
    assert [step_of(plan, made).number for made in (a, b, c)] == [0, 1, 2]
    assert [step.consumers for step in plan.steps] == [[1], [2], []]
    assert plan.terminals == plan.references == (2,)


def test_references_are_those_of_the_flow():
    with Flow("references") as flow:
        a = named("a")(1)
        named("b")(a)
    flow.set_reference_tasks([a])
    plan = compile_flow(flow, {})
    assert (plan.references, plan.terminals) == ((0,), (1,))


def test_cycle_is_refused():
    a, b = named("a"), named("b")
    flow = Flow("cycle")
    flow.add_edge(a, b, "x")
    flow.add_edge(b, a, "x")
    with pytest.raises(FlowDefinitionError, match=r"^cycle: (a -> b -> a|b -> a -> b)$"):
        compile_flow(flow, {})


def test_edges_of_a_step_know_names_only():
    with Flow("names") as flow:
        b = named("b", tags=["t"])(a := named("a")(1))
    (read,) = step_of(compile_flow(flow, {}), b).inputs
    assert read.edge.upstream_task == (a.name, "a-1", frozenset(), "a")
    assert read.edge.downstream_task == ("b", "b-t-1", frozenset({"t"}), "b")
    assert (read.key, read.mapped, read.flattened, read.source_slug) == ("x", False, False, "a-1")


# ---------------------------------------------------------------------- spaces


def test_elementwise_steps_share_a_space():
    with Flow("spaces") as flow:
        xs = give([1, 2])
        a = give.map(xs)
        b = give.map(a)
        c = give.map(xs)
        d = give.map(b, c)
    plan = compile_flow(flow, {})
    assert len(plan.domains) == 1
    assert {step_of(plan, made).domain for made in (a, b, c, d)} == {0}
    assert step_of(plan, xs).domain is None


def test_other_lists_and_pairs_make_other_spaces():
    with Flow("spaces") as flow:
        xs, ys = give([1, 2]), give([3, 4])
        a, b = give.map(xs), give.map(ys)
        pair, again, other_way = give.map(xs, ys), give.map(xs, ys), give.map(ys, xs)
        joined, joined_again = give.map(a, b), give.map(a, give.map(b))
    plan = compile_flow(flow, {})
    space = {made: step_of(plan, made).domain for made in (a, b, pair, again, other_way, joined, joined_again)}
    assert len({space[a], space[b], space[pair], space[joined]}) == 4
    assert space[pair] == space[again] == space[other_way]
    assert space[joined] == space[joined_again]


def test_strict_and_lenient_pairs_have_spaces_of_their_own():
    with Flow("spaces") as flow:
        xs, ys = give([1, 2]), give([3])
        strict, lenient = give.map(xs, ys), give.copy(strict_map=False).map(xs, ys)
        alone = give.copy(strict_map=False).map(xs)
    plan = compile_flow(flow, {})
    assert step_of(plan, strict).domain != step_of(plan, lenient).domain
    assert plan.domains[step_of(plan, alone).domain].strict in (True, False)


def test_only_a_flattened_map_grows():
    with Flow("grows") as flow:
        lists = give.map([[1], [2]])
        flat = give.map(flatten(lists))
        after = give.map(flat)
        of_list = give.map(flatten(give([[1]])))
        paired = give.map(flatten(lists), [1, 2])
    plan = compile_flow(flow, {})
    grows = {made: plan.domains[step_of(plan, made).domain].grows for made in (lists, flat, after, of_list, paired)}
    assert grows == {lists: False, flat: True, after: True, of_list: False, paired: False}


def test_measure_says_what_consumers_need_to_know():
    with Flow("measure") as flow:
        nobody, item, element, both = (named(n)([1]) for n in "abcd")
        give(nobody)
        give.map(item)
        give.map(flatten(element))
        give.map(both)
        give.map(flatten(both))
    plan = compile_flow(flow, {})
    assert [step_of(plan, made).measure for made in (nobody, item, element, both)] == [0, 1, 2, 2]


# ---------------------------------------------------------------------- groups


def test_single_steps_in_a_row_travel_together():
    with Flow("groups") as flow:
        named("c")(named("b")(named("a")(1)))
    assert groups(compile_flow(flow, {})) == [["a", "b", "c"]]


def test_long_chain_is_cut_into_groups():
    with Flow("groups") as flow:
        out = give(0)
        for _ in range(3 * GROUP_SIZE):
            out = give(out)
    plan = compile_flow(flow, {})
    assert [len(group.steps) for group in plan.groups] == [GROUP_SIZE] * 3 + [1]
    assert [group.stage for group in plan.groups] == [1, 2, 3, 4]


def test_branches_of_single_steps_travel_apart_until_they_meet():
    with Flow("groups") as flow:
        left, right = named("left")(1), named("right")(2)
        named("meet")(left, right)
    assert groups(compile_flow(flow, {})) == [["left"], ["right"], ["meet"]]


def test_elementwise_steps_travel_together_also_where_two_meet():
    with Flow("groups") as flow:
        xs = named("xs")([1])
        a, b = named("a").map(xs), named("b").map(xs)
        c = named("c").map(a, b)
        named("d").map(c)
    assert groups(compile_flow(flow, {})) == [["xs"], ["a", "b", "c", "d"]]


def test_reduction_and_what_reads_it_begin_new_groups():
    with Flow("groups") as flow:
        a = named("a").map([1, 2])
        mean = named("mean")(a)
        c = named("c").map(a, unmapped(mean))
        named("d").map(c)
    plan = compile_flow(flow, {})
    assert groups(plan) == [["a"], ["mean"], ["c", "d"]]
    assert [group.stage for group in plan.groups] == [1, 2, 3]


def test_step_that_reads_an_earlier_single_travels_with_its_map():
    with Flow("groups") as flow:
        size = named("size")(3)
        a = named("a").map([1, 2], unmapped(size))
        named("b").map(a, unmapped(size))
    plan = compile_flow(flow, {})
    assert groups(plan) == [["size"], ["a", "b"]]


def test_step_that_reads_a_single_of_the_same_stage_begins_a_group():
    with Flow("groups") as flow:
        size = named("size")(3)
        a = named("a").map([1, 2])
        named("b").map(a, unmapped(size))
    assert groups(compile_flow(flow, {})) == [["size"], ["a"], ["b"]]


def test_flattened_step_begins_a_group():
    with Flow("groups") as flow:
        lists = named("lists").map([[1], [2]])
        named("after").map(named("flat").map(flatten(lists)))
    assert groups(compile_flow(flow, {})) == [["lists"], ["flat", "after"]]


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 2},
        {"rate": 10},
        {"resources": {"GPU": 1}},
        {"workers": ["tcp://one"]},
        {"batch_size": 4},
        {"isolation": "process"},
        {"tags": ["limited"]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_step_with_a_place_or_limit_of_its_own_travels_alone(options):
    with Flow("groups") as flow:
        named("c").map(named("b", **options).map(named("a").map([1, 2])))
    assert groups(compile_flow(flow, {}, limited_tags=["limited"])) == [["a"], ["b"], ["c"]]


def test_steps_of_equal_placement_travel_together():
    with Flow("groups") as flow:
        gpu = {"resources": {"GPU": 1}}
        named("b", **gpu).map(named("a", **gpu).map([1, 2]))
    assert groups(compile_flow(flow, {})) == [["a", "b"]]


def test_wide_graph_compiles_in_a_moment():
    with Flow("wide") as flow:
        row = [give(n) for n in range(300)]
        for _ in range(20):
            row = [give(a, b) for a, b in zip(row, row[1:] + row[:1], strict=True)]
    plan = compile_flow(flow, {})
    assert len(plan.steps) == 21 * 300


@given(programs(largest=12))
def test_any_plan_can_be_carried_out(program):
    flow, _ = build(program)
    plan = compile_flow(flow, {})
    assert {step.task for step in plan.steps} == set(flow.tasks)
    assert all(i.source < step.number for step in plan.steps for i in step.inputs)
    grouped = [n for group in plan.groups for n in group.steps]
    assert sorted(grouped) == [step.number for step in plan.steps if step.literal is None]
    for group in plan.groups:
        assert len(group.steps) <= GROUP_SIZE
        assert list(group.steps) == sorted(group.steps)
        for number in group.steps:
            step = plan.steps[number]
            assert (step.group, step.stage, step.domain) == (group.number, group.stage, group.domain)
            # Nothing that a group waits for can wait for the group.
            assert all(plan.steps[i.source].stage < group.stage for i in step.inputs if i.source not in group.steps)
