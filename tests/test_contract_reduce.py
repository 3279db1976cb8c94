"""The contract of every executor: what a reduction combines, in which groups, and what becomes of its children."""

from __future__ import annotations

import pytest
from bodies import append, give, inc, lines
from real import spend, until

from prefectish import Flow, case, flatten, flow, history, reduce, task, triggers
from prefectish.engine import signals
from prefectish.engine.state import Cancelled, Failed, Skipped, Success, TimedOut, TriggerFailed
from prefectish.errors import FlowDefinitionError
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult


@task
def one(x):
    return [x]


@task
def joined(values):
    return "(" + " ".join(map(str, values)) + ")"


@task
def merged(values):
    return [item for value in values for item in value]


@task
def third_fails_fifth_skips(x):
    if x == 3:
        raise ValueError("three")
    if x == 5:
        raise signals.SKIP("five")
    return [x]


def test_groups_are_neighbours_in_map_order(spelled):
    states = spelled.states(lambda: {"total": reduce(joined, inc.map(range(9)), fan_in=3)})
    assert states["total"].result == "((1 2 3) (4 5 6) (7 8 9))"


@pytest.mark.parametrize(
    ("width", "result"),
    [(1, "(1)"), (2, "(1 2)"), (3, "((1 2) (3))"), (5, "(((1 2) (3 4)) (5))")],
)
def test_last_group_is_what_is_left(spelled_here, width, result):
    states = spelled_here.states(lambda: {"total": reduce(joined, inc.map(range(width)), fan_in=2)})
    assert states["total"].result == result


def test_hundreds_in_groups_of_sixteen_give_all_in_order(spelled):
    states = spelled.states(lambda: {"total": reduce(merged, one.map(range(300)))})
    assert states["total"].result == list(range(300))


def test_function_is_a_task_and_others_read_what_it_gave(spelled):
    def program():
        total = reduce(sum, inc.map(range(20)), 4)
        return {"total": total, "more": spelled.call(inc, total)}

    states = spelled.states(program)
    assert (states["total"].result, states["more"].result) == (210, 211)


def test_iterator_and_flattened_lists_are_combined_in_map_order(spelled):
    def program():
        lists = task(lambda n: list(range(n)), name="lists").map([3, 0, 2])
        return {
            "lazy": reduce(merged, one.map(iter(range(21))), fan_in=4),
            "flat": reduce(merged, one.map(flatten(lists)), fan_in=2),
        }

    states = spelled.states(program)
    assert states["lazy"].result == list(range(21))
    assert states["flat"].result == [0, 1, 2, 0, 1]


def test_empty_map_fails(spelled):
    states = spelled.states(lambda: {"total": reduce(merged, one.map([]))})
    assert type(states["total"]) is Failed
    assert states["total"].message == "one is an empty map: there is nothing to combine"


def test_failed_child_fails_its_groups(spelled):
    state, states = spelled.run(lambda: {"total": reduce(merged, third_fails_fifth_skips.map(range(5)), fan_in=2)})
    assert type(states["total"]) is TriggerFailed
    assert spelled.in_function or state.is_failed()


def test_skipped_child_skips_its_groups(spelled):
    states = spelled.states(lambda: {"total": reduce(merged, third_fails_fifth_skips.map([4, 5, 6]), fan_in=2)})
    assert type(states["total"]) is Skipped


@pytest.mark.parametrize("trigger", [triggers.all_finished, triggers.any_successful], ids=["finished", "any"])
def test_tolerant_trigger_leaves_out_what_failed_or_was_skipped(spelled, trigger):
    def program():
        return {"total": reduce(merged.copy(trigger=trigger), third_fails_fifth_skips.map(range(9)), fan_in=2)}

    state, states = spelled.run(program)
    assert states["total"].result == [0, 1, 2, 4, 6, 7, 8]
    assert state.is_successful()


def test_group_without_results_fails_and_is_left_out(spelled_here):
    def program():
        tolerant = merged.copy(trigger=triggers.all_finished)
        return {
            "some": reduce(tolerant, third_fails_fifth_skips.map([3, 3, 1]), fan_in=2),
            "none": reduce(tolerant, third_fails_fifth_skips.map([3, 3]), fan_in=2),
            "skipped": reduce(tolerant, third_fails_fifth_skips.map([5, 5]), fan_in=2),
        }

    states = spelled_here.states(program)
    assert states["some"].result == [1]
    assert states["none"].message == "none of the 2 results that it combines is there: they failed, or were skipped"
    assert type(states["skipped"]) is Skipped


def test_map_that_could_not_begin(spelled_here):
    states = spelled_here.states(lambda: {"total": reduce(merged, one.map(spelled_here.call(give, 3)))})
    assert states["total"].is_failed()


def test_each_call_is_retried_by_itself(spelled, tmp_path):
    path = tmp_path / "calls"

    @task(max_retries=1, retry_delay=0)
    def flaky(values):
        append(path, f"{values}")
        if lines(path).count(f"{values}") == 1:
            raise ValueError("the first time")
        return sum(values)

    states = spelled.states(lambda: {"total": reduce(flaky, inc.map(range(4)), fan_in=2)})
    assert states["total"].result == 10
    assert sorted(lines(path)) == ["[1, 2]", "[1, 2]", "[3, 4]", "[3, 4]", "[3, 7]", "[3, 7]"]


def test_time_limit_of_a_call(spelled_here):
    @task(timeout=0.05)
    def slow(values):
        spend(30.0)

    states = spelled_here.states(lambda: {"total": reduce(slow, inc.map(range(2)))})
    assert type(states["total"]) is TimedOut


def test_calls_run_while_the_map_still_runs(spelled, tmp_path):
    path = tmp_path / "order"

    @task
    def noted(x):
        append(path, "item")
        return x

    @task
    def added(values):
        append(path, "combine")
        return sum(values)

    states = spelled.states(lambda: {"total": reduce(added, noted.map(range(2000)), fan_in=4)})
    assert states["total"].result == sum(range(2000))
    order = lines(path)
    assert order.index("combine") < order.index("item", len(order) // 2)


def test_children_have_states_keys_and_places(executor, tmp_path):
    with Flow("sums") as graph:
        total = reduce(joined, inc.map(range(5)), fan_in=2)
    state = graph.run(executor=executor, history=str(tmp_path / "history.db"), story=True)
    children = state["joined"].map_states
    assert [child.result for child in children] == ["(1 2)", "(3 4)", "((1 2) (3 4))", "(5)", "(((1 2) (3 4)) (5))"]
    assert state[total].result == children[-1].result
    (run,) = history.runs(store=str(tmp_path / "history.db"))
    found = run.children("joined")
    assert [(child.index, child.item_key) for child in found] == [
        (0, "0.0"), (1, "0.1"), (2, "1.0"), (3, "0.2"), (4, "2.0"),
    ]  # fmt: skip
    assert run.child("joined", "1.0").index == 2
    assert "finished" in str(state.story("joined[2]"))


def test_names_of_results_and_runs_use_the_key(tmp_path):
    named = joined.copy(target="sum-{item_key}.pickle", result=LocalResult(dir=str(tmp_path)))
    with Flow("sums") as graph:
        reduce(named, inc.map(range(4)), fan_in=2)
    assert graph.run(history=False).is_successful()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sum-0.0.pickle", "sum-0.1.pickle", "sum-1.0.pickle"]


def test_resumed_run_keeps_what_was_combined(spelled_here, tmp_path):
    path, store = tmp_path / "calls", str(tmp_path / "history.db")
    broken = tmp_path / "broken"
    broken.touch()

    @task(name="load")
    def load(x):
        append(path, f"load {x}")
        if x == 3 and broken.exists():
            raise ValueError("not yet")
        return x

    @task(name="added")
    def added(values):
        append(path, f"added {values}")
        return sum(values)

    results = LocalResult(dir=str(tmp_path / "results"))

    def program():
        return reduce(added, load.map(range(6)), fan_in=2)

    if spelled_here.in_function:
        runnable = flow(lambda: program().result(), name="sums", result=results)
    else:
        with Flow("sums", result=results) as runnable:
            program()
    state = runnable.run(history=store)
    assert state.is_failed()
    assert sorted(lines(path)) == sorted([*(f"load {x}" for x in range(6)), "added [0, 1]", "added [4, 5]"])
    broken.unlink()
    (tmp_path / "calls").unlink()
    again = runnable.resume(state.context["flow_run_id"], retry_failed=True, history=store)
    assert again.is_successful()
    assert lines(path) == ["load 3", "added [2, 3]", "added [1, 5]", "added [6, 9]"]


def test_more_items_in_a_resumed_run_change_the_last_groups_only(tmp_path):
    path, store = tmp_path / "calls", str(tmp_path / "history.db")

    @task
    def load(x):
        if x == 2 and len(lines(path)) < 2:
            raise ValueError("not yet")
        return x

    @task
    def added(values):
        append(path, f"{values}")
        return sum(values)

    def sums(items):
        with Flow("sums", result=LocalResult(dir=str(tmp_path / "results"))) as graph:
            reduce(added, load.map(items), fan_in=2)
        return graph

    state = sums([0, 1, 2, 3, 4]).run(history=store)
    assert lines(path) == ["[0, 1]", "[4]"]
    again = sums([0, 1, 2, 3, 4, 5]).resume(state.context["flow_run_id"], retry_failed=True, history=store)
    assert again.is_successful()
    assert lines(path)[2:] == ["[2, 3]", "[1, 5]", "[4, 5]", "[6, 9]"]


def test_cancelled_reduction_leaves_the_map(executor):
    with Flow("sums") as graph:
        total = reduce(merged, one.map(range(6)), fan_in=2)
    run = graph.start(executor=executor, history=False)
    run.cancel(task="merged")
    state = run.wait()
    assert state[total].is_successful() or isinstance(state[total], Cancelled | TriggerFailed)
    assert all(isinstance(child, Success) for child in state["one"].map_states)


def test_failed_child_runs_again_on_request_and_so_do_its_groups(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    gate = tmp_path / "gate"

    @task
    def load(x):
        if x == 1 and broken.exists():
            raise ValueError("not yet")
        while x == 5 and not gate.exists():
            spend(0.01)
        return x

    with Flow("sums") as graph:
        total = reduce(sum, load.map(range(6)), fan_in=2)
    run = graph.start(executor=LocalDaskExecutor(scheduler="threads", num_workers=2), history=False)
    until(lambda: run.counts("sum").get("TriggerFailed"))
    broken.unlink()
    assert run.retry("load") == 1
    gate.touch()
    state = run.wait()
    assert state[total].result == 15


def test_condition_around_a_reduction():
    with Flow("sums") as graph:
        mapped = inc.map(range(4))
        with case(give(1), 2):
            total = reduce(sum, mapped)
        with case(give(1), 1):
            other = reduce(sum, mapped)
    state = graph.run(history=False)
    assert isinstance(state[total], Skipped)
    assert state[other].result == 10


def test_what_cannot_be_reduced_is_refused():
    with Flow("sums"):
        single, mapped = give([1]), inc.map([1])
        with pytest.raises(
            TypeError, match=r"reduce\(joined, ...\): a map must be given, .* call joined\(...\) with it"
        ):
            reduce(joined, single)
        with pytest.raises(TypeError, match=r"a map must be given, .* call joined\(...\) with a list"):
            reduce(joined, [1, 2])
        with pytest.raises(TypeError, match=r"a map must be given, .* reduce a map over it"):
            reduce(joined, flatten(mapped))
        with pytest.raises(ValueError, match="fan_in must be at least 2, got 1"):
            reduce(joined, mapped, fan_in=1)
        with pytest.raises(TypeError, match=r"fan_in must be a whole number, got 2\.5"):
            reduce(joined, mapped, fan_in=2.5)
        with pytest.raises(TypeError, match="the first argument must be a task or a function, got 3"):
            reduce(3, mapped)
    nothing = task(lambda: 1, name="nothing")
    with Flow("none"), pytest.raises(TypeError, match="nothing must take a list of results"):
        reduce(nothing, inc.map([1]))
    with pytest.raises(FlowDefinitionError, match="no active Flow: use reduce inside"):
        reduce(joined, mapped)


def test_picture_of_a_reduction_has_its_children():
    with Flow("sums") as graph:
        reduce(sum, inc.map([1, 2, 3]), fan_in=2)
    assert "sum #60;map#62;" in graph.visualize()
    drawn = graph.visualize(graph.run(history=False))
    assert "sum[2]" in drawn
    assert '(["groups"])' in drawn
