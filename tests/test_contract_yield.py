"""The contract of every executor: what a generator yields is mapped over while it runs.

A generator waits for a file that the child of its last item leaves: were its items given on at its end, it would never
end.
"""

from __future__ import annotations

import pytest
from bodies import append, give, inc, lines, state_names, total
from real import until

from prefectish import Flow, flatten, flow, reduce, task, triggers, unmapped
from prefectish.engine import signals
from prefectish.engine.state import Cancelled, Failed, Skipped, Success, TriggerFailed
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult

#: Seconds after which a body gives up, and its test fails.
LIMIT = 30


@task
def numbers(folder, count):
    for i in range(count):
        if i:
            until((folder / str(i - 1)).exists, LIMIT)
        yield i


@task
def leave(folder, x):
    (folder / str(x)).touch()
    return 10 * x


def test_children_run_while_the_generator_does(spelled, tmp_path):
    def program():
        items = spelled.call(numbers, tmp_path, 4)
        left = leave.map(unmapped(tmp_path), items)
        return {"items": items, "left": left, "more": inc.map(left), "all": spelled.call(total, items)}

    state, states = spelled.run(program)
    assert state.is_successful()
    assert states["items"].result == [0, 1, 2, 3]
    assert states["left"].result == [0, 10, 20, 30]
    assert states["more"].result == [1, 11, 21, 31]
    assert states["all"].result == 6


def test_what_is_yielded_is_reduced(spelled, tmp_path):
    def program():
        return {"sum": reduce(sum, leave.map(unmapped(tmp_path), spelled.call(numbers, tmp_path, 5)), fan_in=2)}

    assert spelled.states(program)["sum"].result == 100


def test_two_maps_over_one_generator(spelled):
    @task
    def upto(n):
        yield from range(n)

    def program():
        items = spelled.call(upto, 3)
        return {
            "one": inc.map(items),
            "two": give.map(items),
            "pairs": pairs.map(items, [1, 2, 3]),
        }

    states = spelled.states(program)
    assert (states["one"].result, states["two"].result) == ([1, 2, 3], [0, 1, 2])
    assert states["pairs"].result == [(0, 1), (1, 2), (2, 3)]


@task
def pairs(a, b):
    return a, b


def test_one_generator_in_two_arguments_gives_each_child_its_item_twice(spelled):
    @task
    def upto(n):
        yield from range(n)

    def program():
        items = spelled.call(upto, 3)
        return {"pairs": pairs.map(items, items)}

    assert spelled.states(program)["pairs"].result == [(0, 0), (1, 1), (2, 2)]


def test_generator_without_items_and_lists_of_generators(spelled):
    @task
    def upto(n):
        yield from range(n)

    def program():
        return {"none": inc.map(spelled.call(upto, 0)), "flat": inc.map(flatten(upto.map([2, 0, 1])))}

    states = spelled.states(program)
    assert (states["none"].result, states["flat"].result) == ([], [1, 2, 1])


def test_retry_goes_on_after_what_was_delivered(spelled, tmp_path):
    calls = tmp_path / "calls"

    @task(max_retries=1, retry_delay=0)
    def flaky(folder):
        first = not (folder / "again").exists()
        for i in range(4):
            if i == 2 and first:
                until((folder / "1").exists, LIMIT)
                (folder / "again").touch()
                raise ConnectionError("gone")
            yield i

    @task
    def noted(folder, x):
        append(calls, str(x))
        (folder / str(x)).touch()
        return x

    def program():
        return {"noted": noted.map(unmapped(tmp_path), spelled.call(flaky, tmp_path))}

    assert spelled.states(program)["noted"].result == [0, 1, 2, 3]
    assert sorted(lines(calls)) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("error", [ValueError("broken"), signals.FAIL("broken")], ids=["error", "signal"])
def test_failure_leaves_what_came_before_and_one_child_that_shows_it(spelled, tmp_path, error):
    @task
    def broken(folder):
        yield 0
        until((folder / "0").exists, LIMIT)
        raise error

    def program():
        left = leave.map(unmapped(tmp_path), spelled.call(broken, tmp_path))
        return {"left": left, "states": inc.copy(trigger=triggers.all_finished).map(left)}

    state, states = spelled.run(program)
    assert state_names(states["left"]) == ["Success", "TriggerFailed"]
    assert spelled.in_function or state.is_failed()


@pytest.mark.parametrize("error", [ValueError, signals.SKIP, SystemExit])
def test_a_generator_that_fails_at_once_leaves_its_items_too(spelled, tmp_path, error):
    @task
    def brief(n):
        until((tmp_path / "mapped").exists, LIMIT)
        yield n
        yield n + 1
        raise error("mid")

    def program():
        items = spelled.call(brief, 1)
        each = inc.map(items)
        (tmp_path / "mapped").touch()
        return {"items": items, "each": each}

    states = spelled.states(program)
    ended = "Skipped" if error is signals.SKIP else "TriggerFailed"
    assert state_names(states["each"]) == ["Success", "Success", ended], states
    assert [child.result for child in states["each"].map_states[:2]] == [2, 3]


def test_map_that_begins_after_the_failure_of_a_generator_has_its_items(spelled):
    @task
    def brief(n):
        yield n
        raise ValueError("mid")

    def program():
        items = spelled.call(brief, 1)
        ended = spelled.call(give.copy(trigger=triggers.all_finished), 1, wait_for=[items])
        return {"each": inc.map(items, **spelled.waited([ended]))}

    each = spelled.states(program)["each"]
    assert state_names(each) == ["Success", "TriggerFailed"]
    assert each.map_states[0].result == 2


@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_second_map_that_begins_after_the_first_one_has_the_items_too(spelled, tmp_path, early):
    @task
    def brief(folder):
        yield 1
        if early:
            until((folder / "1").exists, LIMIT)
        raise ValueError("mid")

    last = inc.copy(trigger=triggers.all_finished)

    def program():
        items = spelled.call(brief, tmp_path)
        ended = spelled.call(give.copy(trigger=triggers.all_finished), 1, wait_for=[items])
        first = leave.map(unmapped(tmp_path), items, **({} if early else spelled.waited([ended])))
        return {"first": first, "second": last.map(items, **spelled.waited([ended, first]))}

    states = spelled.states(program)
    assert [state_names(each) for each in states.values()] == [["Success", "TriggerFailed"], ["Success", "Failed"]]
    assert [each.map_states[0].result for each in states.values()] == [10, 2]


def test_skip_of_a_generator_skips_one_child(spelled_here, tmp_path):
    @task
    def skips():
        yield 1
        until((tmp_path / "1").exists, LIMIT)
        raise signals.SKIP("no more")

    states = spelled_here.states(lambda: {"left": leave.map(unmapped(tmp_path), spelled_here.call(skips))})
    assert state_names(states["left"]) == ["Success", "Skipped"]


def test_many_and_large_items(spelled):
    @task
    def many():
        yield from range(3000)

    @task
    def large():
        yield "a" * 10
        yield "b" * (1 << 19)
        yield "c"

    def program():
        return {"many": reduce(sum, inc.map(spelled.call(many))), "large": length.map(spelled.call(large))}

    states = spelled.states(program)
    assert states["many"].result == sum(range(3001))
    assert states["large"].result == [10, 1 << 19, 1]


@task
def length(x):
    return len(x)


def test_items_that_no_task_takes_and_states_among_them(spelled_here):
    @task
    def mixed():
        yield Success(None, 1)
        yield [2]

    states = spelled_here.states(lambda: {"given": described.map(spelled_here.call(mixed))})
    assert states["given"].result == ["Success", "list"]


@task
def described(x):
    return type(x).__name__


def test_resumed_run_keeps_the_children_of_what_was_delivered(spelled_here, tmp_path):
    calls, store = tmp_path / "calls", str(tmp_path / "history.db")
    broken = tmp_path / "broken"
    broken.touch()

    @task(name="read")
    def read():
        for i in range(4):
            if i == 2 and broken.exists():
                until((tmp_path / "1").exists, LIMIT)
                raise ValueError("broken")
            yield i

    @task(name="noted")
    def noted(x):
        append(calls, str(x))
        (tmp_path / str(x)).touch()
        return x

    results = LocalResult(dir=str(tmp_path / "results"))
    if spelled_here.in_function:
        runnable = flow(lambda: noted.map(read.submit()).result(), name="reads", result=results)
    else:
        with Flow("reads", result=results) as runnable:
            noted.map(read())
    state = runnable.run(history=store)
    assert state.is_failed()
    broken.unlink()
    again = runnable.resume(state.context["flow_run_id"], retry_failed=True, history=store)
    assert again.is_successful()
    assert sorted(lines(calls)) == ["0", "1", "2", "3"]


def test_cancelled_generator_ends_its_map(tmp_path):
    with Flow("reads") as graph:
        left = leave.map(unmapped(tmp_path), numbers(tmp_path / "never", 2))
    run = graph.start(executor=LocalDaskExecutor(scheduler="threads", num_workers=2), history=False)
    until((tmp_path / "0").exists, LIMIT)
    run.cancel(task="numbers")
    (tmp_path / "never").mkdir()
    (tmp_path / "never" / "0").touch()
    state = run.wait()
    assert isinstance(state["numbers"], Cancelled)
    assert [type(child) for child in state[left].map_states] == [Success, TriggerFailed]


def test_stopped_map_starts_no_more_children(tmp_path):
    @task(on_child_failure="stop")
    def fails(x):
        (tmp_path / str(x)).touch()
        raise ValueError(x)

    with Flow("stops") as graph:
        left = fails.map(numbers(tmp_path, 2))
    state = graph.run(history=False)
    assert [type(child) for child in state[left].map_states] == [Failed, Cancelled]
    assert not isinstance(state[left], Skipped)
