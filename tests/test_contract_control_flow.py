"""The contract of every executor: branches, resources, pipelines of maps, products, and parameters with a type.

What these record while a flow is built is in the test files of their own; here they run.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from bodies import add, give, inc, lines, note

from prefectish import (
    DateTimeParameter,
    Flow,
    Parameter,
    apply_map,
    case,
    flatten,
    ifelse,
    mapped,
    merge,
    product,
    resource_manager,
    switch,
    task,
    triggers,
    unmapped,
)
from prefectish.engine import signals
from prefectish.engine.state import Failed, Mapped, Resume, Retrying, Skipped, Success, TriggerFailed
from prefectish.errors import ParameterError
from prefectish.tasks.control_flow import FilterTask


@task
def dec(x):
    return x - 1


@task
def fail(x=None):
    raise ValueError(f"no {x}")


@task
def skip(x=None):
    raise signals.SKIP("enough")


@task
def fail_on(x, bad):
    if x == bad:
        raise ValueError(f"{x} is bad")
    return x


def kinds(state):
    return [type(child) for child in state.map_states]


# ---------------------------------------------------------------------- case


@pytest.mark.parametrize(("value", "taken"), [("a", True), ("b", False)])
def test_case_runs_its_tasks_if_the_value_is_equal(run, value, taken):
    with Flow("case") as flow:
        asked = give(value)
        with case(asked, "a"):
            first = inc(1)
            second = inc(first)
        after = inc(second)
    result = run(flow).result
    assert [type(result[t]) for t in (first, second, after)] == [Success if taken else Skipped] * 3
    assert result[after].result == (4 if taken else None)


def test_case_of_a_parameter(run):
    with Flow("case") as flow:
        with case(Parameter("x"), 1):
            one = inc(0)
        with case(Parameter("y", default=True), False):
            other = inc(0)
    result = run(flow, x=1).result
    assert (result[one].result, type(result[other])) == (1, Skipped)


@pytest.mark.parametrize(("outer", "inner", "taken"), [(1, 1, True), (1, 0, False), (0, 1, False), (0, 0, False)])
def test_nested_cases_add_up(run, outer, inner, taken):
    with Flow("nested") as flow:
        x, y = give(outer), give(inner)
        with case(x, 1):
            before = inc(0)
            with case(y, 1):
                out = inc(10)
    result = run(flow).result
    assert type(result[before]) is (Success if outer == 1 else Skipped)
    assert type(result[out]) is (Success if taken else Skipped)


def test_case_behind_a_failure_fails_by_its_trigger(run):
    with Flow("failed") as flow, case(fail(), 1):
        out = inc(0)
    state = run(flow)
    assert type(state) is Failed
    assert type(state.result[out]) is TriggerFailed


def test_comparison_that_raises_fails_the_branch(run):
    class Odd:
        def __eq__(self, other):
            raise TypeError("cannot compare")

        __hash__ = None

    with Flow("odd") as flow, case(give(Odd()), 1):
        out = inc(0)
    result = run(flow).result
    (compare,) = flow.upstream_tasks(out)
    assert type(result[compare]) is Failed
    assert type(result[out]) is TriggerFailed


def test_case_skips_a_map_as_a_whole(run):
    with Flow("map") as flow:
        which = give("b")
        with case(which, "a"):
            first = inc.map([1, 2])
        with case(which, "b"):
            second = dec.map([1, 2])
        out = merge(first, second)
    result = run(flow).result
    assert type(result[first]) is Skipped
    assert result[out].result == [0, 1]


# ---------------------------------------------------------------------- switch, ifelse, merge


@pytest.mark.parametrize(("value", "results"), [("a", [1, None]), ("b", [None, 11]), ("c", [None, None])])
def test_switch_runs_the_branch_of_the_value(run, value, results):
    with Flow("switch") as flow:
        first, second = inc(0), inc(10)
        switch(give(value), {"a": first, "b": second})
    state = run(flow)
    assert type(state) is Success
    assert [state.result[t].result for t in (first, second)] == results
    assert [type(state.result[t]) for t in (first, second)] == [Success if r else Skipped for r in results]


def test_switch_on_a_list_restricts_only_the_list(run):
    with Flow("list") as flow:
        inside = inc(0)
        after = give([inside, 5])
        (made,) = flow.upstream_tasks(after)
        switch(give("b"), {"a": made})
    result = run(flow).result
    assert result[inside].result == 1
    assert type(result[made]) is type(result[after]) is Skipped


@pytest.mark.parametrize(
    ("value", "expected"), [(True, 1), (1, 1), ("text", 1), ([0], 1), (False, -1), (0, -1), ("", -1), (None, -1)]
)
def test_ifelse_goes_by_truth(run, value, expected):
    with Flow("truth") as flow:
        yes, no = inc(0), dec(0)
        ifelse(give(value), yes, no)
        out = merge(yes, no)
    assert run(flow).result[out].result == expected


def test_ifelse_may_lack_a_branch(run):
    with Flow("half") as flow:
        yes, no = inc(0), dec(0)
        ifelse(give(0), yes, None)
        ifelse(give(0), None, no)
    result = run(flow).result
    assert (type(result[yes]), result[no].result) == (Skipped, -1)


def test_merge_never_compares_results(run):
    class Odd:
        def __eq__(self, other):
            raise TypeError("cannot compare")

        __hash__ = None

    with Flow("odd") as flow:
        with case(give(1), 1):
            odd = give(Odd())
        out = give.map([merge(odd)])
    assert kinds(run(flow).result[out]) == [Success]


def test_merge_is_skipped_if_all_branches_are(run):
    with Flow("skipped") as flow:
        with case(give(3), 1):
            one = inc(0)
        with case(give(3), 2):
            two = inc(0)
        out = merge(one, two)
        after = inc(out)
    result = run(flow).result
    assert type(result[out]) is type(result[after]) is Skipped


def test_merge_fails_if_the_branch_that_was_taken_did(run):
    with Flow("failed") as flow:
        with case(give(1), 1):
            one = fail()
        with case(give(1), 2):
            two = inc(0)
        out = merge(one, two)
    assert type(run(flow).result[out]) is TriggerFailed


def test_merge_takes_falsy_results_but_not_none(run):
    with Flow("falsy") as flow:
        out = merge(give(None), give(0), give(1))
        nothing = merge(give(None), give(None))
    result = run(flow).result
    assert result[out].result == 0
    assert (type(result[nothing]), result[nothing].result) == (Success, None)


def test_merge_asks_in_the_text_order_of_names(run):
    with Flow("order") as flow:
        tenth = merge(*[give(None)] * 1, *[give(n) for n in range(2, 11)])
        named = merge(b=give("b"), a=give("a"))
    result = run(flow).result
    assert (result[tenth].result, result[named].result) == (10, "a")


def test_merge_of_merges_takes_the_branch_that_ran(run):
    with Flow("nested") as flow:
        which, deep = give("b"), give(1)
        with case(which, "a"):
            with case(deep, 1):
                one = inc(0)
            with case(deep, 2):
                two = inc(1)
            inner = merge(one, two)
        with case(which, "b"):
            other = inc(10)
        out = merge(inner, other)
    result = run(flow).result
    assert type(result[inner]) is Skipped
    assert result[out].result == 11


def test_merge_takes_the_signal_of_a_branch_that_skipped_itself(run):
    with Flow("signal") as flow:
        out = merge(a=skip(), b=give(1))
    result = run(flow).result[out]
    assert type(result) is Success
    assert type(result.result) is signals.SKIP


def test_merge_takes_an_empty_map_for_a_branch_that_ran(run):
    with Flow("empty") as flow:
        with case(give(1), 1):
            one = inc.map(give([]))
        with case(give(1), 2):
            two = inc.map([1])
        out = merge(one, two)
    result = run(flow).result[out]
    assert (type(result), result.result) == (Success, [])


def test_switch_and_merge_child_by_child(run):
    with Flow("mapped") as flow:
        values = give(["a", "b", "c"])
        first, second = inc.map([1, 2, 3]), dec.map([1, 2, 3])
        switch(values, {"a": first, "b": second}, mapped=True)
        out = merge(first, second, mapped=True)
    result = run(flow).result
    assert kinds(result[first]) == [Success, Skipped, Skipped]
    assert kinds(result[out]) == [Success, Success, Skipped]
    assert [child.result for child in result[out].map_states] == [2, 1, None]


def test_ifelse_child_by_child(run):
    with Flow("mapped") as flow:
        yes, no = inc.map([10, 20]), dec.map([10, 20])
        ifelse(give([1, 0]), yes, no, mapped=True)
        out = merge(yes, no, mapped=True)
    assert run(flow).result[out].result == [11, 19]


# ---------------------------------------------------------------------- FilterTask


def test_filter_takes_failures_out_of_a_map(run):
    with Flow("filter") as flow:
        out = FilterTask()(fail_on.map([1, 2, 3, None, 0], unmapped(2)))
    state = run(flow)
    assert type(state) is Success
    assert state.result[out].result == [1, 3, 0]


def test_filter_goes_with_the_branch_that_it_is_in(run):
    with Flow("filter") as flow:
        with case(give(1), 2):
            skipped = FilterTask()(inc.map([1, 2]))
        with case(give(1), 1):
            empty = FilterTask()(inc.map(give([])))
        failed = FilterTask()(fail())
        out = merge(skipped, empty)
    result = run(flow).result
    assert (type(result[skipped]), result[skipped].result) == (Skipped, None)
    assert result[out].result == result[empty].result == []
    assert type(result[failed]) is Failed
    assert "expected a list, got ValueError" in str(result[failed].result)


def test_filter_runs_behind_skipped_children_and_by_its_function(run):
    @task
    def only(x):
        if x % 2:
            raise signals.SKIP("odd")
        return x

    with Flow("filter") as flow:
        out = FilterTask(lambda x: isinstance(x, int) and x > 2)(only.map([1, 2, 3, 4]))
    assert run(flow).result[out].result == [4]


# ---------------------------------------------------------------------- resource managers


@resource_manager
class Folder:
    """Notes what is done with it."""

    def __init__(self, path, trouble=None):
        self.path = path
        if trouble == "init":
            raise ValueError("init")
        self.trouble = trouble

    def setup(self):
        if self.trouble == "setup":
            raise ValueError("setup")
        if self.trouble == "skip":
            raise signals.SKIP("not today")
        with open(self.path, "a") as file:
            file.write("set up\n")
        return str(self.path)

    def cleanup(self, folder):
        if self.trouble == "cleanup":
            raise ValueError("cleanup")
        with open(folder, "a") as file:
            file.write("clean\n")


def parts(flow, name):
    return [flow.get_tasks(slug=f"{name}{part}-1")[0] for part in ("", ".setup", ".cleanup")]


def test_resource_is_set_up_before_and_cleaned_up_after_its_tasks(run, tmp_path):
    path = tmp_path / "log"
    with Flow("resource") as flow:
        with Folder(path) as folder:
            first = note(folder, "first")
            note(path, "beside")
            last = note(folder, first)
        after = inc.map([1])
    state = run(flow)
    assert type(state) is Success
    assert lines(path)[0] == "set up"
    assert sorted(lines(path)[1:-1]) == ["beside", "first", "first"]
    assert lines(path)[-1] == "clean"
    assert (state.result[last].result, state.result[after].result) == ("first", [2])


def test_resource_arguments_may_be_tasks(run, tmp_path):
    path = tmp_path / "log"
    with Flow("resource") as flow, Folder(give(str(path)), trouble=Parameter("trouble", default=None)) as folder:
        note(folder, "body")
    assert type(run(flow)) is Success
    assert lines(path) == ["set up", "body", "clean"]


def test_clean_up_runs_after_failures_and_skips(run, tmp_path):
    path = tmp_path / "log"
    with Flow("failed") as flow, Folder(path) as folder:
        bad, skipped = fail(folder), skip(folder)
        behind = inc(bad)
    state = run(flow)
    assert type(state) is Failed
    assert lines(path) == ["set up", "clean"]
    assert [type(state.result[t]) for t in (bad, behind, skipped)] == [Failed, TriggerFailed, Skipped]
    assert type(state.result[parts(flow, "Folder")[2]]) is Success


@pytest.mark.parametrize(
    ("trouble", "ends"),
    [
        ("init", [Failed, TriggerFailed, Skipped, TriggerFailed, Failed]),
        ("setup", [Success, Failed, Skipped, TriggerFailed, Failed]),
        ("skip", [Success, Skipped, Skipped, Skipped, Success]),
        # Clean-up does not decide about the flow.
        ("cleanup", [Success, Success, Failed, Success, Success]),
    ],
)
def test_what_was_not_set_up_is_not_cleaned_up(run, tmp_path, trouble, ends):
    path = tmp_path / "log"
    with Flow("trouble") as flow, Folder(path, trouble) as folder:
        body = note(folder, "body")
    state = run(flow)
    tasks = [*parts(flow, "Folder"), body]
    assert [*(type(state.result[t]) for t in tasks), type(state)] == ends
    assert lines(path) == (["set up", "body"] if trouble == "cleanup" else [])


def test_clean_up_waits_for_retries(run, tmp_path):
    path = tmp_path / "log"

    @task(max_retries=1, retry_delay=0)
    def once_more(folder):
        with open(folder, "a") as file:
            file.write("try\n")
        with open(folder) as file:
            if file.read().count("try") < 2:
                raise ValueError("again")

    with Flow("retries") as flow, Folder(path) as folder:
        once_more(folder)
    assert type(run(flow)) is Success
    assert lines(path) == ["set up", "try", "try", "clean"]


def test_clean_up_waits_for_every_child_of_a_map(run, tmp_path):
    path = tmp_path / "log"
    with Flow("map") as flow, Folder(path) as folder:
        out = note.map(unmapped(folder), [1, 2, 3])
        failing = fail.map([1, 2])
    state = run(flow)
    assert sorted(lines(path)[1:-1]) == ["1", "2", "3"]
    assert (lines(path)[0], lines(path)[-1]) == ("set up", "clean")
    assert state.result[out].result == [1, 2, 3]
    assert kinds(state.result[failing]) == [Failed, Failed]


def test_resources_in_resources(run, tmp_path):
    path = tmp_path / "log"
    with Flow("nested") as flow:  # noqa: SIM117  one block an object reads better here
        with Folder(path) as outer:
            with Folder(outer) as inner:
                note(inner, "body")
    assert type(run(flow)) is Success
    assert lines(path) == ["set up", "set up", "body", "clean", "clean"]


def test_resource_without_set_up(run, tmp_path):
    @resource_manager(name="lock", cleanup_task_kwargs={"name": "unlock"})
    class Lock:
        def __init__(self, path):
            self.path = path

        def cleanup(self, resource):
            with open(self.path, "a") as file:
                file.write(f"clean {resource}\n")

    path = tmp_path / "log"
    with Flow("no set-up") as flow, Lock(path) as nothing:
        note(path, "body")
    assert nothing is None
    assert type(run(flow)) is Success
    assert lines(path) == ["body", "clean None"]


def test_resource_in_a_branch_that_is_not_taken(run, tmp_path):
    path = tmp_path / "log"
    with Flow("branch") as flow, case(give(1), 2), Folder(path) as folder:
        body = note(folder, "body")
    state = run(flow)
    assert type(state) is Success
    assert lines(path) == []
    assert {type(state.result[t]) for t in [*parts(flow, "Folder"), body]} == {Skipped}


def test_branch_in_a_resource(run, tmp_path):
    path = tmp_path / "log"
    with Flow("branches") as flow, Folder(path) as folder:
        with case(give(1), 1):
            one = note(folder, "one")
        with case(give(1), 2):
            two = note(folder, "two")
        merge(one, two)
    assert type(run(flow)) is Success
    assert lines(path) == ["set up", "one", "clean"]


def test_set_up_and_clean_up_run_again_when_a_run_is_resumed(run, tmp_path):
    path = tmp_path / "log"
    with Flow("again") as flow, Folder(path) as folder:
        note(folder, "body")
    state = run(flow)
    again = run(flow, task_states=state.result)
    assert type(again) is Success
    assert lines(path) == ["set up", "body", "clean", "set up", "clean"]


# ---------------------------------------------------------------------- apply_map


def half_or_triple(x):
    with case(even(x), True):
        halved = half(x)
    with case(even(x), False):
        tripled = inc(triple(x))
    return merge(halved, tripled)


@task
def even(x):
    return x % 2 == 0


@task
def half(x):
    return x // 2


@task
def triple(x):
    return 3 * x


def test_apply_map_decides_for_each_item(run):
    with Flow("collatz") as flow:
        out = apply_map(half_or_triple, [6, 3, 10, 1])
        total = give(out)
    result = run(flow).result
    assert result[out].result == [3, 10, 5, 4]
    assert result[total].result == [3, 10, 5, 4]


def test_apply_map_on_a_task_and_on_another_apply_map(run):
    with Flow("twice") as flow:
        once = apply_map(half_or_triple, give(range(1, 5)))
        twice = apply_map(half_or_triple, once)
    assert run(flow).result[twice].result == [2, 4, 5, 1]


def test_apply_map_pairs_its_arguments_and_hands_unmapped_ones_whole(run):
    @task
    def three(x, y, z, w):
        return x, y, z, w

    def build(x, y, *, z, w):
        return three(inc(x), y, z, w)

    with Flow("arguments") as flow:
        out = apply_map(build, [1, 2], give(["a", "b"]), z=unmapped([7, 8]), w=unmapped(give([9])))
    assert run(flow).result[out].result == [(2, "a", [7, 8], [9]), (3, "b", [7, 8], [9])]


def test_apply_map_keeps_constants_and_tasks_around_as_they_are(run):
    with Flow("around") as flow:
        offset = give([100])
        limit = Parameter("limit", default=[5])

        def build(x):
            return add([x, "constant"], add(offset, limit))

        out = apply_map(build, [1, 2])
    assert run(flow).result[out].result == [[1, "constant", 100, 5], [2, "constant", 100, 5]]


def test_apply_map_runs_tasks_without_inputs_once_an_item(run, tmp_path):
    path = tmp_path / "log"

    def build(x):
        return add(x, note(path, 1))

    with Flow("sources") as flow:
        out = apply_map(build, give([1, 2, 3]))
    assert run(flow).result[out].result == [2, 3, 4]
    assert lines(path) == ["1"] * 3


def test_apply_map_fails_and_skips_by_item(run):
    @task
    def odd_only(x):
        if x % 2 == 0:
            raise signals.SKIP("even")
        return x

    with Flow("items") as flow:
        out = apply_map(lambda x: inc(fail_on(odd_only(x), 3)), [1, 2, 3])
    assert kinds(run(flow).result[out]) == [Success, Skipped, TriggerFailed]


def test_apply_map_of_nothing(run):
    with Flow("empty") as flow:
        out = apply_map(half_or_triple, give([]))
    state = run(flow)
    assert type(state) is Success
    assert type(state.result[out]) is Mapped
    assert state.result[out].result == []


def test_apply_map_over_lists_of_unequal_length_fails(run):
    with Flow("unequal") as flow:
        out = apply_map(lambda x, y: inc(add(x, y)), [1, 2], give([1, 2, 3]))
    state = run(flow)
    assert type(state) is type(state.result[out]) is Failed


def test_apply_map_over_flattened_lists(run):
    with Flow("flat") as flow:
        nested = give.map([[1, 2], [3]])
        out = apply_map(half_or_triple, flatten(nested))
        again = apply_map(lambda x: add(inc(x), x), flatten([[1], [2, 3]]))
        whole = apply_map(lambda x, all_: give([x, all_]), [1], flatten(unmapped(nested)))
    result = run(flow).result
    assert result[out].result == [4, 1, 10]
    assert result[again].result == [3, 5, 7]
    assert result[whole].result == [[1, [1, 2, 3]]]


def test_apply_map_lets_failures_through_where_it_is_allowed(run):
    from prefectish import allow_failure

    @task
    def name(x):
        return type(x).__name__

    with Flow("allowed") as flow:
        out = apply_map(lambda x: name(allow_failure(fail_on(x, 2))), [1, 2])
        given = apply_map(lambda x: name(x), allow_failure(fail_on.map([1, 2], unmapped(1))))
    result = run(flow).result
    assert result[out].result == ["int", "ValueError"]
    assert result[given].result == ["ValueError", "int"]


@pytest.mark.parametrize("taken", [True, False])
def test_apply_map_in_a_branch(run, taken):
    with Flow("branch") as flow:
        with case(give(1), 1 if taken else 2):
            out = apply_map(half_or_triple, [6, 3])
        other = merge(out, give("other"))
    state = run(flow)
    assert type(state) is Success
    assert type(state.result[out]) is (Mapped if taken else Skipped)
    assert state.result[other].result == ([3, 10] if taken else "other")


def test_apply_map_in_a_resource(run, tmp_path):
    path = tmp_path / "log"
    with Flow("resource") as flow, Folder(path) as folder:
        out = apply_map(lambda x, folder: inc(note(folder, x)), [1, 2], unmapped(folder))
    assert run(flow).result[out].result == [2, 3]
    assert lines(path)[0], lines(path)[-1] == ("set up", "clean")


def test_resource_for_each_item(run, tmp_path):
    def build(path, trouble):
        with Folder(path, trouble) as folder:
            return inc(note(folder, 1))

    troubles = [None, "init", "setup", "skip", None]
    paths = [str(tmp_path / str(n)) for n in range(5)]
    with Flow("items") as flow:
        out = apply_map(build, paths, troubles)
    state = run(flow)
    assert kinds(state.result[out]) == [Success, TriggerFailed, TriggerFailed, Skipped, Success]
    assert kinds(state.result[parts(flow, "Folder")[2]]) == [Success, Skipped, Skipped, Skipped, Success]
    written = [lines(tmp_path / str(n)) for n in range(5)]
    assert written == [["set up", "1", "clean"], [], [], [], ["set up", "1", "clean"]]


def test_resource_for_each_item_of_a_branch_that_is_not_taken(run, tmp_path):
    def build(path):
        with Folder(path) as folder:
            return note(folder, 1)

    with Flow("items") as flow, case(give(1), 2):
        out = apply_map(build, [str(tmp_path / "log")])
    state = run(flow)
    assert type(state) is Success
    assert {type(state.result[t]) for t in [out, *parts(flow, "Folder")]} == {Skipped}


def test_retrying_item_continues_through_its_branch(run):
    @task(max_retries=2, retry_delay=0)
    def unsteady(x):
        from prefectish import context

        if context.task_run_count <= x:
            raise ValueError("again")
        return x

    with Flow("retries") as flow:
        out = apply_map(lambda x: half_or_triple(unsteady(x)), [0, 1, 2])
    assert run(flow).result[out].result == [0, 4, 1]


# ---------------------------------------------------------------------- product


def test_product_pairs_every_item_in_row_major_order(run):
    with Flow("grid") as flow:
        x, y = product([1, 2], [10, 20, 30])
        out = add.map(x, y)
    assert run(flow).result[out].result == [11, 21, 31, 12, 22, 32]


def test_product_of_results_and_lists(run):
    @task
    def join(a, b, c):
        return f"{a}{b}{c}"

    with Flow("mixed") as flow:
        a, b, c = product(give(["a", "b"]), [1, 2], inc.map([6, 7]))
        out = join.map(a, b, c)
    expected = [f"{a}{b}{c}" for a in "ab" for b in [1, 2] for c in [7, 8]]
    assert run(flow).result[out].result == expected


def test_product_with_lists_of_tasks_and_flattened_lists(run):
    with Flow("tasks") as flow:
        x, y = product([give(1), 2], flatten(give([[10], [20, 30]])))
        out = add.map(x, y)
        (alone,) = product([give(5)])
        single = inc.map(alone)
    result = run(flow).result
    assert result[out].result == [11, 21, 31, 12, 22, 32]
    assert result[single].result == [6]


@pytest.mark.parametrize("empty", [[], "result"])
def test_product_with_an_empty_list_is_empty(run, empty):
    with Flow("empty") as flow:
        x, y = product([1, 2], give([]) if empty == "result" else empty)
        out = add.map(x, y)
    assert run(flow).result[out].result == []


def test_product_continues_through_chains_and_apply_map(run):
    with Flow("chain") as flow:
        x, y = product([1, 2], [3, 4])
        chain = inc.map(add.map(x, y))
        piped = apply_map(lambda x, y: half_or_triple(add(x, y)), x, y)
    result = run(flow).result
    assert result[chain].result == [5, 6, 6, 7]
    assert result[piped].result == [2, 16, 16, 3]


def test_product_of_what_cannot_be_mapped_fails_and_says_why(run):
    with Flow("dict") as flow:
        x, y = product([1], give({"a": 1}))
        out = add.map(x, y)
    state = run(flow)
    assert type(state) is type(state.result[out]) is Failed
    assert "list(d.items())" in str(state.result[y].result)


def test_product_of_a_failed_and_of_a_skipped_list(run):
    with Flow("failed") as flow:
        failed = add.map(*product([1], fail()))
        skipped = add.map(*product([1], skip()))
    result = run(flow).result
    assert (type(result[failed]), type(result[skipped])) == (Failed, Skipped)


@pytest.mark.parametrize("as_result", [True, False])
def test_product_of_a_list_with_an_item_that_cannot_be_read_fails_its_children_only(run, as_result):
    class Holey:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 1:
                raise OSError("hole")
            return 10

    with Flow("holes") as flow:
        x, y = product(give(Holey()) if as_result else Holey(), [1, 2])
        out = add.map(x, y)
    state = run(flow).result[out]
    assert kinds(state) == [Success, Success, Failed, Failed]
    assert [child.result for child in state.map_states[:2]] == [11, 12]
    assert all("could not be read: hole" in child.message for child in state.map_states[2:])


def test_product_is_mapped_with_a_list_of_its_length(run):
    with Flow("pair") as flow:
        x, _ = product([1, 2], ["a", "b"])
        out = add.map(x, [10, 20, 30, 40])
        one = add.bind(mapped(x), y=100)
    result = run(flow).result
    assert result[out].result == [11, 21, 32, 42]
    assert result[one].result == [101, 101, 102, 102]


# ---------------------------------------------------------------------- parameters with a type


def test_typed_parameter_is_converted_before_anything_runs(run):
    pytest.importorskip("pydantic")
    with Flow("typed") as flow:
        out = inc(Parameter("n", type=int))
        each = inc.map(Parameter("ns", type=list[int], default=["1", 2]))
    result = run(flow, n="41").result
    assert (result[out].result, result[each].result) == (42, [2, 3])
    with pytest.raises(ParameterError, match="parameter 'n' must be int, got 'many'"):
        run(flow, n="many")


def test_date_time_parameter_gives_an_aware_datetime(run):
    with Flow("since") as flow:
        out = give(DateTimeParameter("since"))
    assert run(flow, since="2026-03-01T12:00Z").result[out].result == datetime(2026, 3, 1, 12, tzinfo=UTC)


# ---------------------------------------------------------------------- going on


def test_paused_item_of_a_pipeline_continues_from_its_state(run):
    @task
    def ask(x):
        from prefectish import context

        if x == 2 and not context.get("resume"):
            raise signals.PAUSE("shall I?")
        return x

    with Flow("pause") as flow:
        out = apply_map(lambda x: half_or_triple(ask(x)), [1, 2])
    state = run(flow)
    assert not state.is_finished()
    assert [child.is_finished() for child in state.result[out].map_states] == [True, False]
    (asking,) = flow.get_tasks("ask")
    waiting = state.result[asking]
    resumed = waiting.replace(map_states=[waiting.map_states[0], Resume()])
    again = run(flow, task_states={**state.result, asking: resumed})
    assert type(again) is Success
    assert again.result[out].result == [4, 1]


def test_branch_of_retries_keeps_its_condition(run):
    @task(max_retries=1, retry_delay=0)
    def unsteady():
        from prefectish import context

        if context.task_run_count == 1:
            raise ValueError("again")
        return "a"

    with Flow("retry") as flow:
        asked = unsteady()
        with case(asked, "a"):
            out = inc(1)
    state = run(flow)
    assert state.result[out].result == 2
    assert Retrying not in map(type, state.result.values())


def test_task_that_always_runs_is_skipped_in_a_branch_that_is_not_taken(run):
    with Flow("always") as flow, case(give(1), 2):
        out = give.copy(trigger=triggers.always_run)(1)
    assert type(run(flow).result[out]) is Skipped
