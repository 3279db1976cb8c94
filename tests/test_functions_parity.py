"""Features of mapped workloads in flow functions, on every executor, and the table of `docs/functions.md`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bodies import add, count_good, double, fail, give, inc, inverse, skip_odd, state_names, total
from real import most_at_once, note, notes, spend

from prefectish import allow_failure, context, flatten, flow, history, mapped, tags, task, triggers, unmapped
from prefectish.engine import signals
from prefectish.errors import FlowDefinitionError
from prefectish.results import LocalResult
from prefectish.tasks.secrets import Secret

ROOT = Path(__file__).parent.parent


@task
def upto(n):
    return list(range(n))


@task(tags=["slow", "db"])
def tags_here(x):
    return sorted(context.task_tags)


@task
def grows():
    turn = context.get("task_loop_result", 1)
    if turn > 20:
        return turn
    raise signals.LOOP(result=turn * 3)


@task
def whole(xs):
    return list(xs)


def empty_map():
    return inc.map([]).result(), total(inc.map(upto.submit(0)))


def unequal_lengths():
    with pytest.raises(ValueError, match=r"^mapped inputs differ in length: x=3, y=2$"):
        add.map(upto.submit(3), upto.submit(2)).result()
    return add.copy(strict_map=False).map([1, 2, 3], [4, 5]).result()


def lazy_input():
    return inc.map(x for x in range(5)).result()


def items_of_a_dict():
    return add.map(list({"a": 1, "b": 2}), unmapped("!")).result()


def keyless():
    return give.map([1, 2], wait_for=[mapped(inc.map([1, 2]))]).result()


def flattened():
    return inc.map(flatten(upto.map([1, 0, 2]))).result(), total(flatten(upto.map([2, 3])))


def loop():
    return grows(), grows.submit().result()


def tagged():
    with tags("night"):
        return tags_here(1), tags_here.map([1]).result()


def values_of_failures():
    good = inverse.map([0, 1])
    return [type(x).__name__ for x in whole(allow_failure(good))], [x for x in good.result(raise_on_failure=False)][1]


def skips():
    skipped = inc.map(skip_odd.map([1, 2, 3]))
    skipped.wait()
    return state_names(skipped.state)


def signal_of_a_state():
    @task
    def ends(x):
        raise signals.SUCCESS("enough", result=x * 10)

    return ends(3), [s.message for s in ends.map([1], return_state=True)]


def triggers_at_fan_in():
    good = inverse.map([0, 1, 2])
    some = total.copy(trigger=triggers.some_successful(at_least=2))
    never = total.submit(good, return_state=True)
    return count_good(good), type(never).__name__, some.submit(good, return_state=True).is_failed()


def stops():
    ended = inverse.copy(on_child_failure="cancel", max_concurrency=1).map([0, *range(1, 20)])
    ended.wait()
    return sorted(set(state_names(ended.state)))


def breaker():
    broken = inverse.copy(max_failures=1, max_concurrency=1).map([0] * 30 + [1])
    broken.wait()
    return sum(name == "Failed" for name in state_names(broken.state)) < 10


def handlers():
    @task(state_handlers=[lambda task, old, new: new.replace(result=7) if new.is_successful() else new])
    def replaced():
        return 1

    return replaced(), replaced.submit().result()


def own_retries():
    @task(max_retries=2, retry_delay=0, batch_size=2)
    def twice(x):
        if context.task_run_count < 1 + x:
            raise OSError(x)
        return context.task_run_count

    return twice.map([0, 1, 2]).result()


def never_started():
    child = inc.map(fail.submit())
    child.wait()
    return type(child.state).__name__, type(inc.submit(fail.submit(), return_state=True)).__name__


def isolated_limit():
    @task(timeout=0.3, isolation="process")
    def hangs():
        spend(30)

    return type(hangs(return_state=True)).__name__


def named_runs():
    @task(task_run_name="load ${x}")
    def load(x):
        return context.task_run_name

    return load.map(["a", "b"]).result()


def batches():
    return double.copy(batch_size=3).map(range(7)).result()


#: What each program gives, on every executor.
PROGRAMS = {
    "empty map": (empty_map, ([], 0)),
    "unequal lengths": (unequal_lengths, [5, 7]),
    "lazy input": (lazy_input, [1, 2, 3, 4, 5]),
    "items of a dict": (items_of_a_dict, ["a!", "b!"]),
    "wait_for per item": (keyless, [1, 2]),
    "flatten": (flattened, ([1, 1, 2], 4)),
    "loop": (loop, (27, 27)),
    "tags": (tagged, (["db", "night", "slow"], [["db", "night", "slow"]])),
    "failures as values": (values_of_failures, (["ZeroDivisionError", "float"], 1.0)),
    "skip one item": (skips, ["Skipped", "Success", "Skipped"]),
    "signals": (signal_of_a_state, (30, ["enough"])),
    "triggers at fan-in": (triggers_at_fan_in, (2, "TriggerFailed", True)),
    "cancel at a failure": (stops, ["Cancelled", "Failed"]),
    "circuit breaker": (breaker, True),
    "handlers replace states": (handlers, (7, 7)),
    "retries in batches": (own_retries, [1, 2, 3]),
    "never started": (never_started, ("Failed", "TriggerFailed")),
    "timeout of a process": (isolated_limit, "TimedOut"),
    "names from inputs": (named_runs, ["load a", "load b"]),
    "batches": (batches, [0, 2, 4, 6, 8, 10, 12]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_flow_function_does_it(executor, name):
    program, expected = PROGRAMS[name]
    assert flow(program, executor=executor, history=False)() == expected


def test_limits_and_rates_hold(executor, tmp_path):
    traces = tmp_path / "traces"

    @task(max_concurrency=1)
    def alone(x):
        note(traces, "+")
        spend(0.01)
        note(traces, "-")
        return x

    @flow(executor=executor, history=False)
    def limited():
        calls = [alone.submit(x) for x in range(3)]
        return alone.map(range(3)).result() + [call.result() for call in calls]

    assert (limited(), most_at_once(traces)) == ([0, 1, 2] * 2, 1)


def test_incremental_map_keeps_what_it_had_by_item(executor, tmp_path):
    traces, where = tmp_path / "traces", str(tmp_path / "history.db")

    @task
    def once(x):
        note(traces, x)
        return x * 2

    @flow(executor=executor, history=where, result=LocalResult(str(tmp_path / "results")))
    def incremental(xs):
        return once.map(xs).result()

    run_id = incremental.run(xs=[1, 2, 3]).context["flow_run_id"]
    assert incremental.resume(run_id, xs=[3, 4, 1]).result == [6, 8, 2]
    assert sorted(notes(traces)) == ["1", "2", "3", "4"]


def test_target_stands_for_a_call(executor, tmp_path):
    traces = tmp_path / "traces"

    @task(result=LocalResult(str(tmp_path)), target="made-${x}")
    def made(x):
        note(traces, x)
        return x + 1

    @flow(executor=executor, history=False)
    def makes():
        return made.map([1, 2]).result()

    assert (makes(), makes()) == ([2, 3], [2, 3])
    assert sorted(notes(traces)) == ["1", "2"]


def test_secrets_are_masked_and_read_in_bodies(executor):
    @task
    def reads(x):
        raise ValueError(f"{x} and {Secret('TOKEN').get()}")

    @flow(executor=executor, history=False)
    def uses():
        return str(reads(1, return_state=True).result)

    with context(secrets={"TOKEN": "hush-hush"}):
        assert uses() == "1 and ****"


def test_secret_among_the_arguments_is_read_by_the_body(executor):
    @task
    def reads(token, x=0):
        return len(token["header"] if isinstance(token, dict) else token)

    @flow(executor=executor, history=False)
    def uses():
        token = Secret("TOKEN")
        mapped = reads.map(unmapped({"header": token}), range(2))
        each = reads.map([token, token])
        with pytest.raises(FlowDefinitionError, match=r"^a flow function has no graph.*\.get\(\)"):
            reads("Bearer " + token)
        return reads(token), reads.submit({"header": token}).result(), mapped.result(), each.result()

    with context(secrets={"TOKEN": "hush-hush"}):
        assert uses() == (9, 9, [9, 9], [9, 9])


def test_failures_are_grouped_and_a_group_is_resumed(executor, tmp_path):
    mended, where = tmp_path / "mended", str(tmp_path / "history.db")

    @task
    def picky(x):
        if not mended.exists():
            raise (OSError if x % 2 else KeyError)("no")
        return x

    @flow(executor=executor, history=where, result=LocalResult(str(tmp_path)))
    def picks():
        found = picky.map(range(4))
        return [type(future.result(raise_on_failure=False)).__name__ for future in found]

    run_id = picks.run().context["flow_run_id"]
    assert sorted(group.count for group in history.run(run_id, store=where).failures()) == [2, 2]
    mended.touch()
    assert picks.resume(run_id, where=OSError).result.count("int") == 2


def test_story_tells_of_calls_and_of_children_of_maps(executor):
    @flow(executor=executor, history=False)
    def told():
        return total(inc.map([inc.submit(1), 2]))

    state = told.run(story=True)
    assert state.result == 6
    for label in ("inc-1[0]", "inc-2[1]", "total[0]", "total"):
        ended = [line for line in str(state.story(label)).splitlines() if " finished " in line]
        assert any("Success: Task run succeeded." in line for line in ended), label
    assert "inc-2[0]" not in str(state.story("inc-1"))


def test_priority_orders_calls(tmp_path):
    from prefectish.executors import LocalDaskExecutor

    traces = tmp_path / "traces"

    @task(priority=lambda x: x)
    def ordered(x):
        spend(0.02)
        note(traces, x)

    @flow(executor=LocalDaskExecutor(num_workers=1), history=False)
    def orders():
        ordered.map([1, 3, 2, 5, 4]).wait()

    orders()
    assert notes(traces)[1:] == sorted(notes(traces)[1:], reverse=True)


# -- the table ---------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "functions.md").read_text()
TABLE = re.findall(r"^\| ([^|]+) \| ([^|]*) \| ([^|]*) \|$", PAGE.partition("<!-- features -->")[2], re.MULTILINE)
ROWS = [row for row in TABLE[1:] if set(row[0]) - set("- ")]
NAMED = [(row, name) for row, *cells in ROWS for cell in cells for name in re.findall(r"`(\w+::[^`]+)`", cell)]


def test_the_table_has_a_test_or_an_answer_in_each_cell():
    assert len(ROWS) > 60
    assert [row for row, *cells in ROWS if not all("::" in cell or cell.startswith("not") for cell in cells)] == []


@pytest.mark.parametrize(("row", "name"), NAMED, ids=[f"{row}-{name}" for row, name in NAMED])
def test_each_test_of_the_table_exists(row, name):
    module, _, function = name.partition("::")
    function, _, parameter = function.partition("[")
    text = (ROOT / "tests" / f"{module}.py").read_text()
    assert re.search(rf"^def {function}\(", text, re.MULTILINE), row
    if parameter:
        assert f'"{parameter.rstrip("]")}"' in text
