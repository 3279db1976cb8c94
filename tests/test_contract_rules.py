"""The contract of every executor: triggers, skips, retries, signals, handlers and pauses of single and mapped tasks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from bodies import append, fail, give, inverse, state_names

from prefectish import Flow, allow_failure, context, task, triggers
from prefectish.engine import signals
from prefectish.engine.plan.map_domain import SKIPPED_UPSTREAM
from prefectish.engine.state import (
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Skipped,
    Success,
    TriggerFailed,
    ValidationFailed,
)
from prefectish.utilities.notifications import callback_factory

NOW = timedelta(0)


@task
def skip():
    raise signals.SKIP("not today")


@task
def type_name(x):
    return type(x).__name__


@task
def raise_signal(name, **keywords):
    raise getattr(signals, name)("so be it", **keywords)


def attempts(path, x=0):
    """Count this attempt in a file, and return its number."""
    with open(f"{path}-{x}", "a") as file:
        file.write(".")
    with open(f"{path}-{x}") as file:
        return len(file.read())


def flaky(path, failures, **options):
    """Return a task that fails as often as told, then returns its argument."""
    options = {"retry_delay": NOW, **options}

    @task(**options)
    def unsteady(x=0):
        if attempts(path, x) <= failures:
            raise ValueError(f"attempt {context.task_run_count}")
        return x

    return unsteady


def recorder(path):
    """Return a handler that writes each change of state into a file: `name[index] Old -> New`."""

    def record(obj, old, new):
        index = context.get("map_index")
        where = obj.name if index is None else f"{obj.name}[{index}]"
        append(path, f"{where} {type(old).__name__} -> {type(new).__name__}")

    return record


def changes(path, of=None):
    """Return what a recorder wrote, as `Old -> New`, of one task or child."""
    entries = [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
    return [change for name, change in entries if of in (None, name)]


# ---------------------------------------------------------------------- triggers


def refuse(upstream):
    return False


def break_down(upstream):
    raise KeyError("lost")


def skip_it(upstream):
    raise signals.SKIP("the trigger says no", result=5)


def succeed(upstream):
    raise signals.SUCCESS("the trigger knows", result=6)


def look(upstream):
    """Raise what it sees, so that the test sees it too."""
    told = sorted(
        (e.upstream_task.name, e.upstream_task.slug, e.downstream_task.name, e.key, e.mapped, type(s).__name__)
        for e, s in upstream.items()
    )
    raise signals.SUCCESS("looked", result=told)


@pytest.mark.parametrize(
    ("trigger", "upstream", "kind"),
    [
        (triggers.all_successful, [give, give], Success),
        (triggers.all_successful, [give, fail], TriggerFailed),
        (triggers.all_failed, [fail, fail], Success),
        (triggers.all_failed, [give, fail], TriggerFailed),
        (triggers.any_successful, [give, fail], Success),
        (triggers.any_successful, [fail, fail], TriggerFailed),
        (triggers.any_failed, [give, fail], Success),
        (triggers.any_failed, [give, give], TriggerFailed),
        (triggers.all_finished, [give, fail], Success),
        (triggers.always_run, [fail, fail], Success),
        (triggers.some_failed(at_least=1, at_most=1), [give, fail], Success),
        (triggers.some_failed(at_most=0.4), [give, fail], TriggerFailed),
        (triggers.some_successful(at_least=0.5), [give, fail], Success),
        (triggers.some_successful(at_least=2), [give, fail], TriggerFailed),
        (triggers.not_all_skipped, [give, give], Success),
        (triggers.not_all_skipped, [give, fail], TriggerFailed),
        (triggers.manual_only, [give], Paused),
        (refuse, [give], TriggerFailed),
        (skip_it, [give], Skipped),
        (succeed, [fail], Success),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_trigger_decides_over_single_tasks(run, trigger, upstream, kind):
    with Flow("triggers") as flow:
        out = give.copy(trigger=trigger)(1, upstream_tasks=[t("x") for t in upstream])
    assert type(run(flow).result[out]) is kind


@pytest.mark.parametrize(
    "trigger",
    [
        triggers.all_successful, triggers.all_failed, triggers.any_successful, triggers.any_failed,
        triggers.all_finished, triggers.not_all_skipped,
        triggers.some_failed(at_least=1), triggers.some_successful(at_least=1),
    ],
    ids=lambda trigger: trigger.__name__,
)  # fmt: skip
def test_trigger_passes_without_upstream(run, trigger):
    with Flow("triggers") as flow:
        out = give.copy(trigger=trigger)(1)
    assert run(flow).result[out] == Success(result=1)


def test_manual_only_pauses_even_without_upstream_and_passes_when_resumed(run):
    with Flow("triggers") as flow:
        out = give.copy(trigger=triggers.manual_only)(1)
    paused = run(flow)
    assert type(paused) is Running
    assert type(paused.result[out]) is Paused
    assert run(flow, task_states={out: Resume()}).result[out] == Success(result=1)
    assert run(flow, context={"resume": True}).result[out] == Success(result=1)


def test_trigger_that_signals_gives_its_state_and_result(run):
    with Flow("triggers") as flow:
        skipped = give.copy(trigger=skip_it)(1)
        done = give.copy(trigger=succeed)(1)
    state = run(flow)
    assert state.result[skipped].message == "the trigger says no"
    assert state.result[skipped].result == 5
    assert state.result[done].result == 6


def test_trigger_sees_edges_and_unexpanded_states(run):
    with Flow("triggers") as flow:
        children = inverse.copy(name="children").map([1, 0])
        single = fail.copy(name="single")()
        out = give.copy(trigger=look, name="out")(children, upstream_tasks=[single])
    assert run(flow).result[out].result == [
        ("children", "children-1", "out", "value", False, "Mapped"),
        ("single", "single-1", "out", None, False, "Failed"),
    ]


def test_trigger_of_a_child_sees_the_child_upstream(run):
    with Flow("triggers") as flow:
        children = inverse.copy(name="children").map([1, 0])
        out = give.copy(trigger=look, name="out").map(children)
    told = [("children", "children-1", "out", "value", True)]
    assert run(flow).result[out].result == [[(*told[0], "Success")], [(*told[0], "Failed")]]


def test_failed_trigger_says_which_and_gives_its_signal(run):
    with Flow("triggers") as flow:
        out = give(fail())
        refused = give.copy(trigger=refuse)(1)
    state = run(flow)
    text = 'Trigger was "all_successful" but some of the upstream tasks failed.'
    assert state.result[out].message == text
    assert type(state.result[out].result) is signals.TRIGGERFAIL
    assert str(state.result[out].result) == text
    assert state.result[refused].message == 'Trigger was "refuse" but it did not pass.'


def test_trigger_failure_cascades(run):
    with Flow("triggers") as flow:
        out = give(give(give(fail())))
    state = run(flow)
    assert type(state.result[out]) is TriggerFailed
    assert Counter(type(s).__name__ for s in state.result.values()) == {"Failed": 1, "TriggerFailed": 3}


def test_trigger_failure_is_not_retried_but_calls_on_failure(run, tmp_path):
    path = tmp_path / "notes"

    def note_failure(task, state):
        append(path, type(state).__name__)

    with Flow("triggers") as flow:
        out = give.copy(max_retries=3, retry_delay=NOW, on_failure=note_failure)(fail())
    assert type(run(flow).result[out]) is TriggerFailed
    assert path.read_text() == "TriggerFailed\n"


def test_allowed_failure_hands_its_exception_over(run):
    with Flow("triggers") as flow:
        out = type_name(allow_failure(fail()))
        children = type_name.map(allow_failure(inverse.map([1, 0])))
        together = type_name(allow_failure(inverse.map([1, 0])))
        after = give(1, upstream_tasks=[allow_failure(inverse.map([0, 0]))])
    state = run(flow)
    assert state.result[out].result == "ValueError"
    assert state.result[together].result == "list"
    assert state.result[after].result == 1
    assert state.result[children].result == ["float", "ZeroDivisionError"]


# ---------------------------------------------------------------------- skips


def test_skip_cascades_through_data_and_plain_dependencies(run):
    with Flow("skips") as flow:
        a = skip()
        b = give(a)
        c = give(1, upstream_tasks=[b])
    state = run(flow)
    assert [type(state.result[t]) for t in (a, b, c)] == [Skipped] * 3
    assert state.result[a].message == "not today"
    assert type(state.result[a].result) is signals.SKIP
    assert state.result[c].message == SKIPPED_UPSTREAM
    assert "skip_on_upstream_skip=False" in state.result[c].message
    assert state.result[c].result is None


def test_skip_is_checked_before_the_trigger(run):
    with Flow("skips") as flow:
        out = give(1, upstream_tasks=[skip(), fail()])
    assert type(run(flow).result[out]) is Skipped


def test_task_that_does_not_skip_counts_the_skipped_as_successful(run):
    keep = type_name.copy(skip_on_upstream_skip=False)
    with Flow("skips") as flow:
        direct = keep(skip())
        behind = keep(give(skip()))
        failed = keep.copy(trigger=triggers.all_failed)(skip())
    state = run(flow)
    assert state.result[direct].result == "SKIP"
    assert state.result[behind].result == "NoneType"
    assert type(state.result[failed]) is TriggerFailed


def test_skip_with_a_result_hands_it_over(run):
    with Flow("skips") as flow:
        out = give.copy(skip_on_upstream_skip=False)(raise_signal("SKIP", result=[1]))
    assert run(flow).result[out].result == [1]


def test_not_all_skipped_runs_behind_the_branch_that_was_taken(run):
    merge = type_name.copy(trigger=triggers.not_all_skipped, skip_on_upstream_skip=False)
    with Flow("skips") as flow:
        some = merge(give(1), upstream_tasks=[skip()])
        none = merge(skip(), upstream_tasks=[skip()])
    state = run(flow)
    assert state.result[some].result == "int"
    assert type(state.result[none]) is Skipped


# ---------------------------------------------------------------------- retries


@pytest.mark.parametrize("delay", [NOW, timedelta(milliseconds=20), 0.01], ids=str)
def test_task_is_retried_until_it_succeeds(run, tmp_path, delay):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=2, max_retries=2, retry_delay=delay)()
    state = run(flow)
    assert state.is_successful()
    assert state.result[out] == Success(result=0)
    assert attempts(tmp_path / "n") == 3 + 1


def test_task_fails_when_its_retries_are_used_up(run, tmp_path):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=9, max_retries=2)()
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert str(state.result[out].result) == "attempt 3"
    assert attempts(tmp_path / "n") == 3 + 1


def test_retries_without_a_delay_are_made_at_once(run, tmp_path):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=1, retries=1, retry_delay=None)()
    assert run(flow).result[out] == Success(result=0)


def test_retry_waits_at_least_its_delay(run, tmp_path):
    @task(max_retries=1, retry_delay=0.15)
    def late():
        if attempts(tmp_path / "n") == 1:
            raise ValueError
        return datetime.now(UTC)

    with Flow("retries") as flow:
        out = late()
    began = datetime.now(UTC)
    assert run(flow).result[out].result - began >= timedelta(seconds=0.15)


def test_children_are_retried_each_for_itself(run, tmp_path):
    @task(max_retries=3, retry_delay=NOW)
    def unsteady(x):
        if attempts(tmp_path / "n", x) <= x:
            raise ValueError(x)
        return context.task_run_count

    with Flow("retries") as flow:
        children = unsteady.map(range(4))
        after = give.map(children)
        whole = give(after)
    state = run(flow)
    assert state.result[whole].result == [1, 2, 3, 4]


def test_child_that_fails_for_good_holds_back_its_own_chain_only(run, tmp_path):
    @task(max_retries=1, retry_delay=timedelta(milliseconds=5))
    def unsteady(x):
        attempts(tmp_path / "n", x)
        return 1 / x

    with Flow("retries") as flow:
        after = give.map(unsteady.map([1, 0, 2]))
    state = run(flow)
    assert state_names(state.result[after]) == ["Success", "TriggerFailed", "Success"]
    assert [attempts(tmp_path / "n", x) - 1 for x in (1, 0, 2)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("retry_on", "bodies"),
    [(ValueError, 3), ((OSError, ValueError), 3), (Exception, 3), (OSError, 1)],
    ids=["same", "several", "base", "other"],
)
def test_retry_on_names_the_errors_worth_another_attempt(run, tmp_path, retry_on, bodies):
    with Flow("retries") as flow:
        flaky(tmp_path / "n", failures=9, max_retries=2, retry_on=retry_on)()
    run(flow)
    assert attempts(tmp_path / "n") == bodies + 1


def test_fail_signal_is_retried_like_an_error(run, tmp_path):
    @task(max_retries=2, retry_delay=NOW)
    def signals_failure():
        attempts(tmp_path / "n")
        raise signals.FAIL("again")

    with Flow("retries") as flow:
        out = signals_failure()
    assert run(flow).result[out].message == "again"
    assert attempts(tmp_path / "n") == 3 + 1


def test_delay_may_depend_on_the_attempt(run, tmp_path):
    with Flow("retries") as flow:
        lists = flaky(tmp_path / "a", failures=2, max_retries=2, retry_delay=[0, 0.01])()
        function = flaky(tmp_path / "b", failures=2, max_retries=2, retry_delay=lambda n: 0.001 * n)()
        growing = flaky(
            tmp_path / "c", failures=2, max_retries=2, retry_delay=0.001, retry_backoff="exponential", retry_jitter=1.0
        )()
    state = run(flow)
    assert [state.result[t] for t in (lists, function, growing)] == [Success(result=0)] * 3


def test_delay_that_cannot_be_worked_out_fails_the_task(run, tmp_path):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=1, max_retries=1, retry_delay=lambda attempt: "soon")()
    state = run(flow).result[out]
    assert type(state) is Failed
    assert state.message.startswith("retry delay of unsteady could not be computed: TypeError(")
    assert attempts(tmp_path / "n") == 1 + 1


def test_many_retries_do_not_grow_the_stack(run, tmp_path):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=300, max_retries=300)()
    assert run(flow).result[out] == Success(result=0)


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SUCCESS", Success),
        ("FAIL", Failed),
        ("SKIP", Skipped),
        ("TRIGGERFAIL", TriggerFailed),
        ("VALIDATIONFAIL", ValidationFailed),
        ("PAUSE", Paused),
    ],
)
def test_signal_ends_a_task_in_its_state(run, name, kind):
    with Flow("signals") as flow:
        single = raise_signal(name)
        child = raise_signal.map([name])
    state = run(flow)
    for each in (state.result[single], state.result[child].map_states[0]):
        assert type(each) is kind
        assert each.message == "so be it"
        assert type(each.result) is getattr(signals, name)


def test_success_signal_hands_over_its_result_or_itself(run):
    with Flow("signals") as flow:
        given = give(raise_signal("SUCCESS", result=4))
        itself = type_name(raise_signal("SUCCESS"))
    state = run(flow)
    assert state.result[given].result == 4
    assert state.result[itself].result == "SUCCESS"


def test_signal_carries_what_is_hung_on_it(run, tmp_path):
    path = tmp_path / "notes"

    def alert(task, old, new):
        if getattr(new.result, "flag", False):
            path.write_text(f"value {new.result.value}")

    @task(state_handlers=[alert])
    def critical():
        signal = signals.FAIL("a equaled b!")
        signal.flag, signal.value = True, 7
        raise signal

    with Flow("signals") as flow:
        out = critical()
    state = run(flow)
    assert path.read_text() == "value 7"
    assert state.result[out].result.value == 7


def test_retry_signal_without_max_retries_continues(run, tmp_path):
    @task
    def insist():
        count = attempts(tmp_path / "n")
        if count < 6:
            raise signals.RETRY(f"attempt {count}")
        return context.task_run_count

    with Flow("signals") as flow:
        out = insist()
    assert run(flow).result[out] == Success(result=6)


def test_retry_signal_may_name_a_time(run, tmp_path):
    @task
    def later():
        if attempts(tmp_path / "n") == 1:
            raise signals.RETRY(start_time=datetime.now(UTC) + timedelta(seconds=0.15))
        return datetime.now(UTC)

    with Flow("signals") as flow:
        out = later()
    began = datetime.now(UTC)
    assert run(flow).result[out].result - began >= timedelta(seconds=0.15)


def test_loop_signal_runs_the_body_again_with_its_result(run):
    @task
    def count_up(limit):
        n = context.get("task_loop_result", 0)
        if n == limit:
            return (n, context.task_loop_count)
        raise signals.LOOP(result=n + 1)

    with Flow("loops") as flow:
        out = count_up(4)
        children = count_up.map([1, 2])
        long = count_up(1500)
    state = run(flow)
    assert state.result[out].result == (4, 5)
    assert state.result[children].result == [(1, 2), (2, 3)]
    assert state.result[long].result == (1500, 1501)


def test_first_turn_of_a_loop_sees_no_loop_facts(run):
    @task
    def turn():
        facts = {name: context.get(name, "-") for name in ("task_loop_count", "task_loop_result")}
        if context.get("task_loop_count"):
            return facts
        raise signals.LOOP(result=facts)

    with Flow("loops") as flow:
        out = turn()
    assert run(flow).result[out].result == {
        "task_loop_count": 2,
        "task_loop_result": {"task_loop_count": "-", "task_loop_result": "-"},
    }


def test_failure_in_mid_loop_retries_that_turn(run, tmp_path):
    @task(max_retries=1, retry_delay=NOW)
    def count_up():
        n = context.get("task_loop_result", 0)
        if n == 2 and attempts(tmp_path / "n") == 1:
            raise ValueError("in mid loop")
        if n == 4:
            return (n, context.task_loop_count, attempts(tmp_path / "turns") - 1)
        attempts(tmp_path / "turns")
        raise signals.LOOP(result=n + 1)

    with Flow("loops") as flow:
        out = count_up()
    assert run(flow).result[out].result == (4, 5, 4)


def test_endrun_signal_ends_the_task_in_any_state(run):
    @task
    def end(state):
        raise signals.ENDRUN(state)

    with Flow("endrun") as flow:
        out = end(Success("my own", 3))
        after = give(out)
    state = run(flow)
    assert state.result[out].message == "my own"
    assert state.result[after].result == 3


def test_signal_that_asks_for_a_state_no_task_can_end_in_fails_the_task(run):
    @task
    def end(is_running):
        raise signals.ENDRUN(state=Running("still at it") if is_running else Success("fine", 1))

    def never(upstream):
        raise signals.ENDRUN(state=Running())

    with Flow("endrun") as flow:
        out = end(True)
        rows = end.map([True, False])
        asked = give.copy(trigger=never)(1)
    state = run(flow)
    assert type(state.result[asked]) is Failed
    assert type(state.result[out]) is Failed
    assert state.result[out].message.startswith("a signal must ask for a state in which a task can end or wait")
    assert [type(child) for child in state.result[rows].map_states] == [Failed, Success]


# ---------------------------------------------------------------------- handlers


def test_handlers_see_a_success(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        give.copy(state_handlers=[recorder(path)])(1)
    run(flow)
    assert changes(path) == ["Pending -> Running", "Running -> Success"]


def test_handlers_see_a_failure(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        fail.copy(state_handlers=[recorder(path)])()
    run(flow)
    assert changes(path) == ["Pending -> Running", "Running -> Failed"]


def test_handlers_see_a_retry(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        flaky(tmp_path / "n", failures=1, max_retries=1, state_handlers=[recorder(path)])()
    run(flow)
    assert changes(path) == [
        "Pending -> Running",
        "Running -> Failed",
        "Failed -> Retrying",
        "Retrying -> Running",
        "Running -> Success",
    ]


def test_handlers_see_a_failed_trigger_and_a_skip(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        give.copy(name="behind", state_handlers=[recorder(path)])(fail())
        give.copy(name="skipped", state_handlers=[recorder(path)])(skip())
    run(flow)
    assert changes(path, "behind") == ["Pending -> TriggerFailed"]
    assert changes(path, "skipped") == ["Pending -> Skipped"]


def test_handlers_see_a_map_and_each_child(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        inverse.copy(state_handlers=[recorder(path)]).map([1, 0])
    run(flow)
    assert changes(path, "inverse") == ["Pending -> Mapped"]
    assert changes(path, "inverse[0]") == ["Pending -> Running", "Running -> Success"]
    assert changes(path, "inverse[1]") == ["Pending -> Running", "Running -> Failed"]


def test_handlers_see_a_map_that_cannot_be(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        handled = give.copy(state_handlers=[recorder(path)])
        handled.copy(name="failed").map(fail())
        handled.copy(name="skipped").map(skip())
    run(flow)
    assert changes(path, "failed") == ["Pending -> Failed"]
    assert changes(path, "skipped") == ["Pending -> Skipped"]


def test_handlers_see_a_pause(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        raise_signal.copy(name="pause", state_handlers=[recorder(path)])("PAUSE")
        give.copy(name="manual", trigger=triggers.manual_only, state_handlers=[recorder(path)])(1)
    run(flow)
    assert changes(path, "pause") == ["Pending -> Running", "Running -> Paused"]
    assert changes(path, "manual") == ["Pending -> Paused"]


def test_handlers_see_the_turns_of_a_loop(run, tmp_path):
    path = tmp_path / "notes"

    @task(state_handlers=[recorder(path)])
    def twice():
        if context.get("task_loop_count"):
            return 1
        raise signals.LOOP(result=1)

    with Flow("handlers") as flow:
        twice()
    run(flow)
    assert changes(path) == ["Pending -> Running", "Running -> Looped", "Looped -> Running", "Running -> Success"]


def test_handlers_are_not_called_for_a_task_that_is_not_reached(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        give.copy(state_handlers=[recorder(path)])(raise_signal("PAUSE"))
    run(flow)
    assert changes(path) == []


def test_handlers_are_not_called_for_a_given_state(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[recorder(path)])(1)
    run(flow, task_states={out: Success(result=2)})
    assert changes(path) == []


def test_handlers_of_a_resumed_task_see_where_it_stood(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[recorder(path)])(1)
    run(flow, task_states={out: Resume()})
    assert changes(path) == ["Resume -> Running", "Running -> Success"]


def to_success(task, old, new):
    return Success("never mind", "instead") if new.is_failed() else None


def test_handler_may_replace_a_failure(run):
    with Flow("handlers") as flow:
        bad = fail.copy(state_handlers=[to_success])()
        out = give(bad)
        behind = give.copy(state_handlers=[to_success])(fail())
        children = inverse.copy(state_handlers=[to_success]).map([1, 0])
    state = run(flow)
    assert state.result[out].result == "instead"
    assert state.result[behind].result == "instead"
    assert state.result[children].result == [1.0, "instead"]


def test_handler_may_replace_the_failure_of_a_parent(run):
    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[to_success]).map(fail())
    assert run(flow).result[out].result == "instead"


def test_handlers_are_called_in_order_each_with_the_output_of_the_one_before(run, tmp_path):
    path = tmp_path / "notes"

    def rewrite(task, old, new):
        return new.replace(result=f"{new.result}!") if new.is_successful() else None

    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[rewrite, recorder(path), rewrite])("ah")
    assert run(flow).result[out].result == "ah!!"


def test_handler_that_ends_the_task_before_its_body(run, tmp_path):
    def veto(task, old, new):
        return Skipped("vetoed") if new.is_running() else None

    with Flow("handlers") as flow:
        out = flaky(tmp_path / "n", failures=0, state_handlers=[veto], max_retries=1)()
    assert run(flow).result[out].message == "vetoed"
    assert attempts(tmp_path / "n") == 1


def test_handler_that_signals_names_the_state(run, tmp_path):
    def pause(task, old, new):
        if new.is_running():
            raise signals.PAUSE("ask me first")

    def again(task, old, new):
        if new.is_successful() and context.task_run_count < 3:
            raise signals.RETRY("once more")

    with Flow("handlers") as flow:
        paused = give.copy(state_handlers=[pause])(1)
        retried = flaky(tmp_path / "n", failures=0, max_retries=5, state_handlers=[again])()
    state = run(flow)
    assert state.result[paused].message == "ask me first"
    assert type(state.result[paused]) is Paused
    assert state.result[retried] == Success(result=0)
    assert attempts(tmp_path / "n") == 3 + 1


def test_handler_may_resume_what_pauses(run):
    def resume(task, old, new):
        return Resume("no need to wait") if isinstance(new, Paused) else None

    with Flow("handlers") as flow:
        out = give.copy(trigger=triggers.manual_only, state_handlers=[resume])(1)
    assert run(flow).result[out] == Success(result=1)


def test_on_failure_is_called_for_each_failed_attempt(run, tmp_path):
    path = tmp_path / "notes"

    def note_failure(task, state):
        append(path, f"{task.name} {state.result}")

    with Flow("handlers") as flow:
        flaky(tmp_path / "n", failures=9, max_retries=2, on_failure=note_failure)()
    run(flow)
    assert path.read_text().splitlines() == [f"unsteady attempt {n}" for n in (1, 2, 3)]


def test_callback_factory_calls_on_the_states_of_its_check(run, tmp_path):
    path = tmp_path / "notes"
    handler = callback_factory(lambda task, state: append(path, f"{task} {state}"), lambda state: state.is_retrying())
    with Flow("handlers") as flow:
        flaky(tmp_path / "n", failures=2, max_retries=2, state_handlers=[handler])()
    run(flow)
    assert path.read_text().splitlines() == [
        '<Task: unsteady> Retrying("Retrying Task (after attempt 1 of 3)")',
        '<Task: unsteady> Retrying("Retrying Task (after attempt 2 of 3)")',
    ]


def test_flow_handlers_see_the_run(run):
    seen = []
    with Flow("handled", state_handlers=[lambda *args: seen.append(args)]) as flow:
        give(1)
    run(flow)
    ((obj, first, running), (_, old, last)) = seen
    assert obj is flow
    assert repr(first) == "Scheduled()"
    assert repr(running) == 'Running("Running flow.")'
    assert old is running
    assert repr(last) == 'Success("All reference tasks succeeded.")'


def test_flow_handlers_of_an_unfinished_run_see_it_begin_only(run):
    seen = []
    with Flow("handled", state_handlers=[lambda flow, old, new: seen.append(type(new))]) as flow:
        raise_signal("PAUSE")
    run(flow)
    assert seen == [Running]


def test_flow_handler_may_replace_the_final_state(run):
    with Flow("handled", state_handlers=[to_success]) as flow:
        fail()
    state = run(flow)
    assert state.message == "never mind"


def test_on_failure_of_a_flow(run):
    seen = []
    with Flow("handled", on_failure=lambda flow, state: seen.append((flow.name, state.message))) as flow:
        fail()
    run(flow)
    assert seen == [("handled", "Some reference tasks failed.")]


# ---------------------------------------------------------------------- pauses


def ask_for(x):
    if not context.get("resume"):
        raise signals.PAUSE(f"may I use {x}?")
    return x


@pytest.fixture
def asking():
    """A map of which one child pauses, what follows it, and the flow."""

    @task
    def ask(x):
        return ask_for(x) if x == 1 else x

    with Flow("pauses") as flow:
        children = ask.map([0, 1, 2])
        after = give.map(children)
        whole = give(after)
    return flow, children, after, whole


def test_u18_paused_child_ends_the_run_unfinished(run, asking):
    flow, children, after, whole = asking
    state = run(flow)
    assert type(state) is Running
    assert state.exit_code == 5
    assert state_names(state.result[children]) == ["Success", "Paused", "Success"]
    assert state.result[children].map_states[1].message == "may I use 1?"
    assert state_names(state.result[after]) == ["Success", "Pending", "Success"]
    assert type(state.result[whole]) is Pending


def test_paused_child_continues_when_it_is_resumed(run, asking):
    flow, children, _, whole = asking
    before = run(flow).result
    states = list(before[children].map_states)
    states[1] = Resume()
    state = run(flow, task_states={**before, children: Mapped(map_states=states)})
    assert state.is_successful()
    assert state.result[whole].result == [0, 1, 2]


def test_run_again_without_resume_stays_paused(run, asking):
    flow, children, after, _ = asking
    before = run(flow).result
    state = run(flow, task_states=before)
    assert type(state) is Running
    assert state_names(state.result[children]) == ["Success", "Paused", "Success"]
    assert state_names(state.result[after]) == ["Success", "Pending", "Success"]


def test_paused_task_continues_when_it_is_resumed(run):
    with Flow("pauses") as flow:
        out = task(ask_for, name="ask")(3)
        after = give(out)
    paused = run(flow)
    assert type(paused.result[out]) is Paused
    state = run(flow, task_states={out: Resume("go on")})
    assert state.result[after] == Success(result=3)


def test_pause_until_a_time_continues_by_itself(run):
    @task
    def wait_a_little():
        if context.get("resume"):
            return "went on"
        raise signals.PAUSE(start_time=datetime.now(UTC) + timedelta(milliseconds=50))

    with Flow("pauses") as flow:
        out = wait_a_little()
        children = wait_a_little.map(upstream_tasks=[[1, 2]])
        after = give(children)
    state = run(flow)
    assert state.result[out].result == "went on"
    assert state.result[after].result == ["went on", "went on"]


def test_looped_state_is_never_the_end(run):
    @task
    def turn():
        if context.get("task_loop_count"):
            return "over"
        raise signals.LOOP()

    with Flow("loops") as flow:
        out = turn()
    state = run(flow).result[out]
    assert not isinstance(state, Looped)
    assert state.result == "over"


def test_retrying_is_not_seen_after_the_run(run, tmp_path):
    with Flow("retries") as flow:
        out = flaky(tmp_path / "n", failures=1, max_retries=1).map([1, 2])
    states = run(flow).result[out].map_states
    assert not any(isinstance(state, Retrying) for state in states)
