"""The contract of every executor, first part: what is mapped over what, and what becomes of parent and children.

Bodies may run in another process: they are functions of this module or closures, and what they do is seen through
results and files.
"""

from __future__ import annotations

import array
import itertools

import pytest
from bodies import add, give, inc, inverse, lines, note, skip_odd, state_names, total

from prefectish import Flow, Parameter, context, flatten, mapped, task, triggers, unmapped
from prefectish import flow as flow_function
from prefectish.engine import signals
from prefectish.engine.plan.map_domain import NO_UPSTREAM, SKIPPED_UPSTREAM, UNMAPPABLE_RESULT
from prefectish.engine.state import Failed, Mapped, Paused, Pending, Resume, Scheduled, Skipped, Success, TriggerFailed
from prefectish.errors import FlowDefinitionError

ALL_SUCCESSFUL = 'Trigger was "all_successful" but some of the upstream tasks failed.'


@task
def listed(xs):
    return list(xs)


@task
def mean(xs):
    return sum(xs) / len(xs)


@task
def fail():
    raise ValueError("no list today")


@task
def skip():
    raise signals.SKIP("nothing to do")


@task(trigger=triggers.always_run)
def described(xs):
    """Exceptions by name, so that the result is comparable wherever it was made."""
    return [type(x).__name__ if isinstance(x, BaseException) else x for x in xs]


@task(trigger=triggers.always_run)
def type_name(x):
    return type(x).__name__


def failures(state):
    return [(type(child.result).__name__, str(child.result)) for child in state.map_states if child.is_failed()]


# ---------------------------------------------------------------------- which edges map


@pytest.mark.parametrize(
    ("constant", "result"),
    [
        ([1, 2, 3], [2, 3, 4]),
        ((1, 2), [2, 3]),
        (range(4), [1, 2, 3, 4]),
        (array.array("i", [5, 6]), [6, 7]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_map_over_a_constant(run, constant, result):
    with Flow("constant") as flow:
        out = inc.map(constant)
    state = run(flow)
    assert state.is_successful()
    assert type(state.result[out]) is Mapped
    assert state.result[out].result == result
    assert state_names(state.result[out]) == ["Success"] * len(result)


def test_map_over_the_letters_of_a_string(run):
    with Flow("letters") as flow:
        out = add.map(list("abc"), unmapped("!"))
    assert run(flow).result[out].result == ["a!", "b!", "c!"]


@pytest.mark.parametrize("as_result", [False, True], ids=["constant", "task result"])
def test_map_over_a_numpy_array(run, as_result):
    numpy = pytest.importorskip("numpy")
    values = numpy.arange(3) * 1.5
    with Flow("array") as flow:
        out = inc.map(give(values) if as_result else values)
    state = run(flow)
    assert state.result[out].result == [1.0, 2.5, 4.0]
    assert type(state.result[out].result[0]) is numpy.float64


def test_map_over_a_matrix_goes_by_its_rows(run):
    numpy = pytest.importorskip("numpy")
    with Flow("rows") as flow:
        out = total.map(give(numpy.arange(6).reshape(2, 3)))
    assert run(flow).result[out].result == [3, 12]


@pytest.mark.parametrize("values", [[1, 2, 3], (1, 2, 3), range(1, 4)], ids=lambda value: type(value).__name__)
def test_map_over_the_result_of_a_task(run, values):
    with Flow("result") as flow:
        out = inc.map(give(values))
    assert run(flow).result[out].result == [2, 3, 4]


def test_map_over_a_parameter(run):
    with Flow("parameter") as flow:
        out = inc.map(Parameter("xs"))
    assert run(flow, parameters={"xs": [1, 2]}).result[out].result == [2, 3]


def test_map_over_an_iterator_pulls_it_once(run):
    pulled = []

    def numbers():
        for n in range(5):
            pulled.append(n)
            yield n

    with Flow("iterator") as flow:
        out = inc.map(numbers())
        again = inc.map(out)
        result = total(again)
    state = run(flow)
    assert state.result[out].result == [1, 2, 3, 4, 5]
    assert state.result[result].result == 20
    assert pulled == [0, 1, 2, 3, 4]


def test_iterator_that_an_earlier_run_has_read_is_refused(executor):
    with Flow("read once") as flow:
        mapped = inc.map(iter([1, 2, 3]))
    assert flow.run(executor=executor).result[mapped].result == [2, 3, 4]
    with pytest.raises(FlowDefinitionError, match=r"inc: argument 'x' must be unread, got an iterator that an earl"):
        flow.run(executor=executor)


def test_maps_over_one_iterator_read_the_same_items_in_a_graph(run):
    items = iter([1, 2, 3])
    with Flow("shared") as flow:
        first = inc.map(items)
        second = inc.copy(name="second").map(items)
        third = inc.copy(name="third").map(items)
        third.set_upstream(total(first))
    state = run(flow)
    assert [state.result[task].result for task in (first, second, third)] == [[2, 3, 4]] * 3


def test_iterator_that_another_map_of_a_flow_function_reads_is_refused(executor):
    @flow_function(executor=executor, history=False)
    def twice():
        items = iter([1, 2, 3])
        first = inc.map(items)
        with pytest.raises(FlowDefinitionError, match=r"inc-2: argument 'x' must be unread, got an iterator that"):
            inc.map(items)
        return first.result()

    assert twice() == [2, 3, 4]


def test_map_over_an_empty_iterator_has_no_children(run):
    with Flow("iterator") as flow:
        out = inc.map(iter(()))
        result = total(out)
    state = run(flow)
    assert state.result[out] == Mapped(map_states=[])
    assert state.result[result].result == 0


def test_two_maps_over_one_iterator_see_the_same_items(run):
    with Flow("iterator") as flow:
        numbers = iter([1, 2, 3])
        source = give.map(numbers)
        left = inc.map(source)
        right = add.map(source, left)
    assert run(flow).result[right].result == [3, 5, 7]


def test_iterator_that_raises_ends_the_map_with_a_failed_child(run):
    def numbers():
        yield 1
        raise OSError("the disk is gone")

    with Flow("iterator") as flow:
        out = inc.map(numbers())
    state = run(flow)
    assert state.is_failed()
    assert state_names(state.result[out]) == ["Success", "TriggerFailed"]
    assert state.result[out].map_states[0].result == 2


def test_iterator_cannot_be_paired(run):
    with Flow("iterator") as flow:
        out = add.map(iter([1, 2]), [3, 4])
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert state.result[out].message.startswith("mapped inputs may differ in length: x=?, y=2")


def test_map_over_two_lists_pairs_by_index(run):
    with Flow("zip") as flow:
        out = add.map([1, 2, 3], [10, 20, 30])
    assert run(flow).result[out].result == [11, 22, 33]


def test_map_by_keyword(run):
    with Flow("keyword") as flow:
        out = add.map(y=[10, 20], x=give([1, 2]))
    assert run(flow).result[out].result == [11, 22]


@pytest.mark.parametrize("as_result", [False, True], ids=["constant", "task result"])
def test_unmapped_argument_goes_whole_to_every_child(run, as_result):
    with Flow("unmapped") as flow:
        out = add.map([[1], [2]], unmapped(give([0]) if as_result else [0]))
    assert run(flow).result[out].result == [[1, 0], [2, 0]]


def test_mapped_marks_one_edge_of_a_plain_call(run):
    with Flow("mapped") as flow:
        out = add(mapped(give([1, 2])), 10)
    assert run(flow).result[out].result == [11, 12]


def test_bind_maps_the_task_itself(run):
    adder = add.copy()
    with Flow("bind") as flow:
        adder.bind([1, 2], unmapped(1), mapped=True)
    assert run(flow).result[adder].result == [2, 3]


def test_inner_wrapper_wins(run):
    with Flow("wrappers") as flow:
        out = add.map([1, 2], unmapped(mapped([10, 20])))
        other = add(1, mapped(unmapped(2)))
    state = run(flow)
    assert state.result[out].result == [11, 22]
    assert state.result[other].result == 3


def test_map_with_all_edges_unmapped_runs_once(run):
    with Flow("once") as flow:
        out = add.map(unmapped(give(1)), unmapped(2))
    state = run(flow)
    assert type(state.result[out]) is Success
    assert state.result[out].result == 3


def test_mapped_edge_without_key_sets_number_and_pairing(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("keyless") as flow:
        first = note.map(unmapped(str(path)), [1, 2, 3])
        second = note.map(unmapped(str(path)), unmapped("second"), upstream_tasks=[first])
    state = run(flow)
    assert state.result[second].result == ["second"] * 3
    assert sorted(lines(path)) == ["1", "2", "3", "second", "second", "second"]


def test_mapped_edge_without_key_pairs_with_the_child_of_the_same_index(run):
    with Flow("keyless") as flow:
        first = inverse.map([1, 0, 2])
        second = give.map(unmapped("fine"), upstream_tasks=[first])
    state = run(flow)
    assert state_names(state.result[second]) == ["Success", "TriggerFailed", "Success"]


def test_keyless_map_over_a_list_runs_as_many_children(run):
    with Flow("keyless") as flow:
        out = give.map(unmapped("x"), upstream_tasks=[[1, 2, 3]])
    assert run(flow).result[out].result == ["x", "x", "x"]


def test_children_with_equal_inputs_all_run(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("impure") as flow:
        note.map(unmapped(str(path)), ["same"] * 4)
    assert run(flow).is_successful()
    assert lines(path) == ["same"] * 4


def test_nested_lists_are_not_descended_into(run):
    with Flow("nested") as flow:
        out = total.map([[1, 2], [3]])
    assert run(flow).result[out].result == [3, 3]


# ---------------------------------------------------------------------- the parent's decision


@pytest.mark.parametrize("edge", ["mapped", "unmapped"])
def test_parent_whose_upstream_was_skipped_as_a_whole_is_skipped(run, edge):
    with Flow("skipped") as flow:
        upstream = skip()
        out = add.map(upstream, [1, 2]) if edge == "mapped" else add.map([1, 2], unmapped(upstream))
    state = run(flow)
    assert state.is_successful()
    assert type(state.result[out]) is Skipped
    assert state.result[out].message == SKIPPED_UPSTREAM
    assert state.result[out].result is None


def test_parent_with_a_skipped_child_behind_an_unmapped_edge_is_skipped(run):
    with Flow("skipped") as flow:
        evens = skip_odd.map([0, 1, 2])
        out = add.map([1, 2], unmapped(evens))
    state = run(flow)
    assert state_names(state.result[evens]) == ["Success", "Skipped", "Success"]
    assert type(state.result[out]) is Skipped


def test_parent_that_does_not_skip_maps_behind_a_skipped_child(run):
    with Flow("skipped") as flow:
        evens = skip_odd.map([0, 1, 2])
        out = listed.copy(skip_on_upstream_skip=False).map(unmapped(evens), upstream_tasks=[[1, 2]])
    state = run(flow)
    assert state_names(state.result[out]) == ["Success", "Success"]


def test_skipped_child_skips_only_the_child_of_its_index(run):
    with Flow("skipped") as flow:
        evens = skip_odd.map([0, 1, 2])
        out = inc.map(evens)
        last = inc.map(out)
    state = run(flow)
    assert state.is_successful()
    assert state_names(state.result[out]) == ["Success", "Skipped", "Success"]
    assert state.result[last].result == [2, None, 4]
    assert state.result[out].map_states[1].message == SKIPPED_UPSTREAM


def test_child_that_does_not_skip_gets_the_signal_or_nothing(run):
    keep = type_name.copy(skip_on_upstream_skip=False)
    with Flow("skipped") as flow:
        evens = skip_odd.map([0, 1])
        direct = keep.map(evens)
        behind = keep.map(inc.map(evens))
    state = run(flow)
    assert state.result[direct].result == ["int", "SKIP"]
    assert state.result[behind].result == ["int", "NoneType"]


@pytest.mark.parametrize("trigger", [triggers.all_successful, triggers.always_run], ids=lambda t: t.__name__)
def test_p16_parent_fails_if_no_mapped_upstream_succeeded(run, trigger):
    with Flow("failed") as flow:
        out = add.copy(trigger=trigger).map(fail(), unmapped([1, 2]))
        after = type_name(out)
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert state.result[out].message == NO_UPSTREAM == "No upstream states can be mapped over."
    assert type(state.result[after]) is Success


@pytest.mark.parametrize(
    "make",
    [lambda: None, lambda: 7, lambda: {1, 2}, object],
    ids=["None", "int", "set", "object"],
)
def test_p13_parent_fails_if_a_result_cannot_be_mapped(run, make):
    produce = task(make, name="produce")
    with Flow("unmappable") as flow:
        out = inc.map(produce())
        after = type_name(out)
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert UNMAPPABLE_RESULT == "At least one upstream state has an unmappable result."
    name = type(make()).__name__
    assert state.result[out].message.startswith(f"{UNMAPPABLE_RESULT} x is a {name} (produce): map over ")
    assert type(state.result[after]) is Success


def test_p13_parent_fails_if_a_result_is_a_generator(run):
    """Also where the generator, by row P1, does not even leave the process that made it."""
    produce = task(lambda: (n for n in range(3)), name="produce")
    with Flow("unmappable") as flow:
        out = inc.map(produce())
    state = run(flow)
    assert type(state.result[out]) is Failed
    way_out = "x is a generator (produce): map over a list: collect the items in the body"
    assert state.result[out].message == f"{UNMAPPABLE_RESULT} {way_out}"


class Labelled:
    """Has items, but not at every position."""

    def __len__(self):
        return 3

    def __getitem__(self, label):
        return {0: "a", 2: "c"}[label]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_item_that_cannot_be_taken_fails_its_child_alone(run, large):
    @task
    def produce():
        made = Labelled()
        made.ballast = bytes(100_000 * large)
        return made

    with Flow("labels") as flow:
        out = give.map(produce())
    state = run(flow).result[out]
    assert state_names(state) == ["Success", "Failed", "Success"]
    told = state.map_states[1].message
    assert told.startswith("argument 'value': item [1] could not be read: KeyError(1); what is mapped over must have")
    assert state.map_states[1].traceback


def test_p13_unmappable_dict_names_the_way_out(run):
    with Flow("dict") as flow:
        out = inc.map(give({"a": 1}))
    state = run(flow).result[out]
    way_out = "x is a dict (give): map over list(d.items()), or a list of its keys or values"
    assert state.message == f"{UNMAPPABLE_RESULT} {way_out}"
    assert str(state.result) == way_out


def test_parent_with_some_failed_mapped_upstreams_gives_their_state_to_every_child(run):
    with Flow("partly") as flow:
        out = add.map([1, 2, 3], fail())
        seen = type_name.map(fail(), upstream_tasks=[[1, 2]])
    state = run(flow)
    assert state_names(state.result[out]) == ["TriggerFailed"] * 3
    assert {child.message for child in state.result[out].map_states} == {ALL_SUCCESSFUL}
    assert state.result[seen].result == ["ValueError", "ValueError"]


def test_failed_unmapped_upstream_fails_every_child_by_its_trigger(run):
    with Flow("unmapped") as flow:
        out = add.map([1, 2], unmapped(fail()))
    state = run(flow)
    assert type(state.result[out]) is Mapped
    assert state_names(state.result[out]) == ["TriggerFailed"] * 2


@pytest.mark.parametrize("as_result", [False, True], ids=["constant", "task result"])
def test_p15_empty_map_succeeds_without_children(run, as_result):
    with Flow("empty") as flow:
        out = inc.map(give([]) if as_result else [])
        more = inc.map(out)
        result = listed(more)
    state = run(flow)
    assert state.is_successful()
    assert type(state.result[more]) is Mapped
    assert state.result[more].map_states == []
    assert state.result[more].result == []
    assert state.result[result].result == []


def test_p14_unequal_lengths_fail_the_parent_and_name_each(run):
    with Flow("unequal") as flow:
        out = add.map([1, 2, 3], give([1, 2, 3, 4, 5]))
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert state.result[out].message == "mapped inputs differ in length: x=3, y=5"


def test_unequal_lengths_of_two_maps_fail_the_parent(run):
    with Flow("unequal") as flow:
        out = add.map(inc.map([1, 2]), inc.map([1, 2, 3]))
        short = add.map(inc.map([]), [1])
    state = run(flow)
    assert state.result[out].message == "mapped inputs differ in length: x=2, y=3"
    assert state.result[short].message == "mapped inputs differ in length: x=0, y=1"


def test_p14_shortest_length_wins_if_the_task_is_not_strict(run, caplog):
    with Flow("unequal") as flow:
        out = add.copy(strict_map=False).map([1, 2, 3], give([1, 2, 3, 4, 5]))
    state = run(flow)
    assert state.result[out].result == [2, 4, 6]
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert told == ["add: mapped inputs differ in length: x=3, y=5; the shortest wins"]


def test_shortest_of_two_maps_wins_if_the_task_is_not_strict(run):
    with Flow("unequal") as flow:
        short, long = inc.map([1, 2]), inc.map([1, 2, 3])
        out = add.copy(strict_map=False).map(short, long)
        after = inc.map(out)
        result = total(after)
    state = run(flow)
    assert state.result[out].result == [4, 6]
    assert state.result[result].result == 12
    assert state.result[long].result == [2, 3, 4]


# ---------------------------------------------------------------------- chains, diamonds, fan-in


def test_chain_of_maps_pairs_by_index(run):
    with Flow("chain") as flow:
        a = inc.map(range(20))
        b = inc.map(a)
        c = inc.map(b)
        result = total(c)
    state = run(flow)
    assert state.result[c].result == list(range(3, 23))
    assert state.result[result].result == sum(range(3, 23))


def test_long_chain_of_maps_runs_past_the_size_of_a_group(run):
    with Flow("chain") as flow:
        out = give.map([0, 100])
        for _ in range(40):
            out = inc.map(out)
    assert run(flow).result[out].result == [40, 140]


def test_failed_child_fails_only_its_own_chain(run):
    with Flow("chain") as flow:
        a = inverse.map([1, 0, 2])
        b = inc.map(a)
        c = inc.map(b)
    state = run(flow)
    assert state.is_failed()
    assert state_names(state.result[a]) == ["Success", "Failed", "Success"]
    assert state_names(state.result[c]) == ["Success", "TriggerFailed", "Success"]
    assert failures(state.result[a]) == [("ZeroDivisionError", "division by zero")]


def test_diamond_of_maps_joins_by_index(run):
    with Flow("diamond") as flow:
        top = give.map([1, 2, 3])
        left, right = inc.map(top), add.map(top, unmapped(10))
        bottom = add.map(left, right)
        result = total(bottom)
    assert run(flow).result[result].result == (2 + 11) + (3 + 12) + (4 + 13)


def test_child_that_is_read_twice_runs_once(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("twice") as flow:
        a = note.map(unmapped(str(path)), [1, 2])
        b, c = inc.map(a), inc.map(a)
        d = add.map(a, a)
    state = run(flow)
    assert sorted(lines(path)) == ["1", "2"]
    assert state.result[b].result == state.result[c].result == [2, 3]
    assert state.result[d].result == [2, 4]


def test_zip_of_two_maps_of_different_origin(run):
    with Flow("zip") as flow:
        a, b = inc.map([1, 2, 3]), inc.map(give([10, 20, 30]))
        out = add.map(a, b)
        after = inc.map(out)
    assert run(flow).result[after].result == [14, 25, 36]


def test_zip_of_a_map_with_a_list(run):
    with Flow("zip") as flow:
        out = add.map(inc.map([1, 2]), [10, 20])
    assert run(flow).result[out].result == [12, 23]


def test_map_over_a_map_and_its_own_reduction(run):
    with Flow("centre") as flow:
        a = inc.map([1, 2, 3])
        centre = mean(a)
        c = add.map(a, unmapped(centre))
        result = total(c)
    state = run(flow)
    assert state.result[c].result == [5.0, 6.0, 7.0]
    assert state.result[result].result == 18.0


def test_map_over_the_result_of_a_reduction(run):
    with Flow("again") as flow:
        a = inc.map([1, 2, 3])
        out = inc.map(listed(a))
    assert run(flow).result[out].result == [3, 4, 5]


def test_map_over_an_item_of_a_reduction(run):
    with Flow("getitem") as flow:
        a = give.map([[1, 2], [3]])
        out = inc.map(listed(a)[0])
    assert run(flow).result[out].result == [2, 3]


def test_item_of_a_mapped_task_is_that_of_its_list(run):
    with Flow("getitem") as flow:
        a = inc.map([10, 20])
        second = a[1]
    assert run(flow).result[second].result == 21


def test_list_of_mapped_tasks_is_a_fan_in(run):
    with Flow("list") as flow:
        out = listed([inc.map([1, 2]), inc.map([3])])
    assert run(flow).result[out].result == [[2, 3], [4]]


def test_unmapped_map_gives_the_whole_list_to_every_child(run):
    with Flow("unmapped") as flow:
        a = inc.map([1, 2])
        out = add.map([[0], [9]], unmapped(a))
    assert run(flow).result[out].result == [[0, 2, 3], [9, 2, 3]]


def test_u1_fan_in_after_a_failed_child_fails_by_its_trigger(run):
    with Flow("fan-in") as flow:
        out = total(inverse.map([1, 0]))
    state = run(flow)
    assert type(state.result[out]) is TriggerFailed
    assert state.result[out].message == ALL_SUCCESSFUL


def test_fan_in_that_runs_after_failures_gets_the_exceptions(run):
    with Flow("fan-in") as flow:
        out = described(inverse.map([1, 0, 2]))
    assert run(flow).result[out].result == [1.0, "ZeroDivisionError", 0.5]


def test_fan_in_of_a_map_that_was_skipped_in_part_is_skipped(run):
    with Flow("fan-in") as flow:
        out = total(skip_odd.map([0, 1, 2]))
        kept = described.copy(skip_on_upstream_skip=False)(skip_odd.map([0, 1, 2]))
    state = run(flow)
    assert type(state.result[out]) is Skipped
    assert state.result[kept].result == [0, "SKIP", 2]


@pytest.mark.parametrize(
    ("trigger", "values", "runs"),
    [
        (triggers.all_successful, [1, 2], True),
        (triggers.all_successful, [1, 0], False),
        (triggers.any_successful, [1, 0], True),
        (triggers.any_successful, [0, 0], False),
        (triggers.any_failed, [1, 0], True),
        (triggers.any_failed, [1, 1], False),
        (triggers.all_failed, [0, 0], True),
        (triggers.all_failed, [1, 0], False),
        (triggers.some_failed(at_least=0.5), [1, 0], True),
        (triggers.some_failed(at_least=2), [1, 0], False),
        (triggers.some_successful(at_most=1), [1, 0], True),
        (triggers.some_successful(at_least=2), [1, 0], False),
        (triggers.not_all_skipped, [1, 2], True),
        (triggers.all_successful, [], True),
        (triggers.all_failed, [], True),
        (triggers.all_finished, [], True),
        (triggers.any_failed, [], False),
        (triggers.any_successful, [], False),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_trigger_of_a_fan_in_sees_each_child(run, trigger, values, runs):
    with Flow("fan-in") as flow:
        out = described.copy(trigger=trigger)(inverse.map(values))
    state = run(flow)
    assert type(state.result[out]) is (Success if runs else TriggerFailed)


# ---------------------------------------------------------------------- flatten


def test_flatten_a_constant_list_of_lists(run):
    with Flow("flatten") as flow:
        out = inc.map(flatten([[1, 2], [], [3]]))
    assert run(flow).result[out].result == [2, 3, 4]


def test_flatten_the_result_of_a_task(run):
    with Flow("flatten") as flow:
        out = inc.map(flatten(give([[1, 2], (3,)])))
    assert run(flow).result[out].result == [2, 3, 4]


def test_flatten_children_of_different_length(run):
    with Flow("flatten") as flow:
        lists = listed.map([range(3), range(0), range(2)])
        out = inc.map(flatten(lists))
        result = total(out)
    state = run(flow)
    assert state.result[out].result == [1, 2, 3, 1, 2]
    assert state.result[result].result == 9


def test_flatten_of_an_empty_map_has_no_children(run):
    with Flow("flatten") as flow:
        out = inc.map(flatten(listed.map([])))
        none = inc.map(flatten(listed.map([[], []])))
    state = run(flow)
    assert state.result[out].result == state.result[none].result == []
    assert state.is_successful()


def test_flatten_of_a_flattened_map(run):
    with Flow("flatten") as flow:
        deep = give.map([[[1, 2], [3]], [[4]], []])
        middle = give.map(flatten(deep))
        out = inc.map(flatten(middle))
        after = inc.map(out)
    state = run(flow)
    assert state.result[middle].result == [[1, 2], [3], [4]]
    assert state.result[after].result == [3, 4, 5, 6]


def test_flatten_in_a_reduction(run):
    with Flow("flatten") as flow:
        lists = listed.map([range(3), range(2)])
        of_map = total(flatten(lists))
        of_list = listed(flatten(give([[1], [2, 3]])))
        of_constant = listed(flatten([[1], 2]))
    state = run(flow)
    assert state.result[of_map].result == 4
    assert state.result[of_list].result == [1, 2, 3]
    assert state.result[of_constant].result == [1, 2]


@pytest.mark.parametrize("order", ["unmapped of flatten", "flatten of unmapped"])
def test_flatten_and_unmapped_together_flatten_what_every_child_gets(run, order):
    wrap = (lambda x: unmapped(flatten(x))) if order == "unmapped of flatten" else (lambda x: flatten(unmapped(x)))
    with Flow("flatten") as flow:
        out = add.map([[0], [9]], wrap(give([[1], [2]])))
    assert run(flow).result[out].result == [[0, 1, 2], [9, 1, 2]]


def test_flatten_without_a_second_level_uses_the_list_as_it_is(run):
    with Flow("flatten") as flow:
        out = inc.map(flatten(give([1, 2])))
        constant = inc.map(flatten([1, 2]))
    state = run(flow)
    assert state.result[out].result == state.result[constant].result == [2, 3]


def test_flatten_takes_text_as_one_element(run):
    with Flow("flatten") as flow:
        out = give.map(flatten(give(["ab", ["cd", "ef"]])))
    assert run(flow).result[out].result == ["ab", "cd", "ef"]


def test_flatten_counts_a_child_that_is_not_a_list_as_one_element(run, caplog, in_process):
    with Flow("flatten") as flow:
        children = give.map([[1, 2], 3])
        out = inc.map(flatten(children))
    assert run(flow).result[out].result == [2, 3, 4]
    if in_process:
        told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert told == ["give[1] did not return an iterable but int; flatten takes it as one element"]


def test_flatten_does_not_warn_of_a_skipped_child(run, caplog, in_process):
    @task
    def parts(x):
        if not x:
            raise signals.SKIP("nothing in it")
        return [x, x]

    with Flow("flatten") as flow:
        out = inc.map(flatten(parts.map([1, 0, 2])))
    state = run(flow)
    kinds = [type(child).__name__ for child in state.result[out].map_states]
    assert kinds == ["Success", "Success", "Skipped", "Success", "Success"]
    assert not in_process or not [r for r in caplog.records if "flatten takes it" in r.getMessage()]


def test_flatten_keeps_a_failed_child_as_one_element(run):
    @task
    def divisors(x):
        return [1 // x, x]

    with Flow("flatten") as flow:
        out = inc.map(flatten(divisors.map([1, 0, 2])))
    state = run(flow)
    assert state_names(state.result[out]) == ["Success", "Success", "TriggerFailed", "Success", "Success"]
    assert [child.result for child in state.result[out].map_states if child.is_successful()] == [2, 2, 1, 3]


def test_flatten_keeps_a_skipped_child_as_one_element(run):
    @task
    def twice(x):
        if x == 1:
            raise signals.SKIP("not that one")
        return [x, x]

    keep = type_name.copy(skip_on_upstream_skip=False)
    with Flow("flatten") as flow:
        lists = twice.map([0, 1, 2])
        out = inc.map(flatten(lists))
        kept = keep.map(flatten(lists))
    state = run(flow)
    assert state_names(state.result[out]) == ["Success", "Success", "Skipped", "Success", "Success"]
    assert state.result[kept].result == ["int", "int", "SKIP", "int", "int"]


def test_flatten_continues_to_chains_and_fan_ins(run):
    with Flow("flatten") as flow:
        lists = listed.map([range(n) for n in range(6)])
        a = inc.map(flatten(lists))
        b = add.map(a, a)
        c = add.map(b, unmapped(total(a)))
        result = listed(c)
    flat = [x + 1 for n in range(6) for x in range(n)]
    assert run(flow).result[result].result == [2 * x + sum(flat) for x in flat]


def test_flatten_pairs_with_a_list_of_the_flat_length(run):
    with Flow("flatten") as flow:
        lists = listed.map([range(2), range(1)])
        out = add.map(flatten(lists), [10, 20, 30])
        both = add.map(flatten(lists), flatten(give([[1], [2, 3]])))
        bad = add.map(flatten(lists), [1, 2])
    state = run(flow)
    assert state.result[out].result == [10, 21, 30]
    assert state.result[both].result == [1, 3, 3]
    assert state.result[bad].message == "mapped inputs differ in length: x=3, y=2"


def test_flatten_pairs_two_maps_of_lists(run):
    with Flow("flatten") as flow:
        first, second = listed.map([range(2), range(1)]), listed.map([range(1), range(2)])
        out = add.map(flatten(first), flatten(second))
    assert run(flow).result[out].result == [0, 1, 1]


def test_flatten_beside_the_chain_that_it_flattens(run):
    with Flow("flatten") as flow:
        lists = listed.map([range(2), range(3)])
        sums = total.map(lists)
        flat = inc.map(flatten(lists))
        out = add(total(sums), total(flat))
    assert run(flow).result[out].result == 4 + 9


def test_flatten_of_an_upstream_that_failed_fails_the_parent(run):
    with Flow("flatten") as flow:
        out = inc.map(flatten(fail()))
        number = inc.map(flatten(give(5)))
    state = run(flow)
    assert state.result[out].message == NO_UPSTREAM
    assert state.result[number].message.startswith(f"{UNMAPPABLE_RESULT} x is a int (give): map over a list, or ")


# ---------------------------------------------------------------------- maps that go on from a former run


def test_children_of_a_given_map_are_used_by_index(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        out = note.map(unmapped(str(path)), ["a", "b", "c"])
        after = listed(out)
    given = Mapped(map_states=[Success("before", "A"), None, Failed("before", ValueError("c"))])
    state = run(flow, task_states={out: given})
    assert lines(path) == ["b"]
    assert state_names(state.result[out]) == ["Success", "Success", "Failed"]
    assert state.result[out].map_states[0].result == "A"
    assert type(state.result[after]) is TriggerFailed


def test_given_map_with_fewer_children_starts_the_rest_afresh(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        out = note.map(unmapped(str(path)), ["a", "b", "c"])
    state = run(flow, task_states={out: Mapped(map_states=[Success(None, "A"), Pending()])})
    assert sorted(lines(path)) == ["b", "c"]
    assert state.result[out].result == ["A", "b", "c"]


def test_given_map_with_all_children_finished_is_not_run(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        out = note.map(unmapped(str(path)), ["a", "b"])
        after = listed(out)
    state = run(flow, task_states={out: Mapped(map_states=[Success(None, 1), Success(None, 2)])})
    assert lines(path) == []
    assert state.result[after].result == [1, 2]


def test_given_count_rebuilds_that_many_children(run):
    with Flow("again") as flow:
        source = give([1, 2])
        out = type_name.map(source)
    state = run(flow, task_states={source: Success("its result is gone", None), out: Mapped(n_map_states=3)})
    assert state.result[out].result == ["NoneType"] * 3


def test_pending_state_given_to_a_map_starts_each_child(run):
    with Flow("again") as flow:
        out = inc.map([1, 2])
    state = run(flow, task_states={out: Scheduled("in the past")})
    assert state.result[out].result == [2, 3]


def test_children_of_a_chain_continue_where_they_were(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        a = note.map(unmapped(str(path)), [1, 2, 3])
        b = inc.map(a)
        result = total(b)
    given = {a: Mapped(map_states=[Success(None, 10), None, None]), b: Mapped(map_states=[None, Success(None, 100)])}
    state = run(flow, task_states=given)
    assert sorted(lines(path)) == ["2", "3"]
    assert state.result[b].result == [11, 100, 4]
    assert state.result[result].result == 115


def test_flattened_map_continues_whichever_of_its_elements_were_there_before(run):
    @task
    def pages(x):
        if x == 1 and not context.get("resume"):
            raise signals.PAUSE("not yet")
        return [10 * x, 10 * x + 1]

    @task
    def read(page):
        if page == 21 and not context.get("resume"):
            raise signals.PAUSE("not yet")
        return page

    with Flow("again") as flow:
        lists = pages.map([0, 1, 2])
        flat = read.map(flatten(lists))
        result = listed(inc.map(flat))
    before = run(flow).result
    assert state_names(before[lists]) == ["Success", "Paused", "Success"]
    assert state_names(before[flat]) == ["Success", "Success", "Success", "Paused"]
    given = {each: resumed(state) for each, state in before.items()}
    assert run(flow, task_states=given).result[result].result == [1, 2, 11, 12, 21, 22]
    alone = run(flow, task_states={flat: given[flat]}, context={"resume": True})
    assert alone.result[result].result == [1, 2, 21, 12, 21, 22], "without the states of its source, by place"


def test_flattened_map_of_which_all_known_elements_were_done_is_not_done(run):
    @task
    def page(x):
        if x == 1 and not context.get("resume"):
            raise signals.PAUSE("not yet")
        return x

    with Flow("again") as flow:
        pages = page.map([0, 1])
        flat = inc.map(flatten(pages))
        result = listed(inc.map(flat))
    before = run(flow).result
    assert state_names(before[flat]) == ["Success"]
    given = {each: resumed(state) for each, state in before.items()}
    assert run(flow, task_states=given).result[result].result == [2, 3]


def resumed(state):
    if isinstance(state, Mapped):
        return Mapped(map_states=[resumed(child) for child in state.map_states])
    return Resume() if isinstance(state, Paused) else state


def test_given_states_are_left_as_they_were(run):
    with Flow("again") as flow:
        a = inc.map([1, 2])
    given = {a: Mapped(map_states=[Success(None, 5), None])}
    run(flow, task_states=given)
    assert given == {a: Mapped(map_states=[Success(None, 5), None])}


def test_children_come_in_map_order_whatever_their_number(run):
    with Flow("order") as flow:
        a = give.map(range(300))
        b = inc.map(a)
    state = run(flow)
    assert state.result[b].result == list(range(1, 301))
    assert state.result[b].n_map_states == 300


def test_many_maps_side_by_side(run):
    with Flow("wide") as flow:
        totals = [total(inc.map(range(n))) for n in range(12)]
        out = listed(totals)
    assert run(flow).result[out].result == [sum(range(1, n + 1)) for n in range(12)]


def test_product_of_lists_by_flatten(run):
    @task
    def pairs(x):
        return [(x, y) for y in "ab"]

    with Flow("product") as flow:
        out = listed.map(flatten(pairs.map([1, 2])))
    assert run(flow).result[out].result == [list(pair) for pair in itertools.product([1, 2], "ab")]
