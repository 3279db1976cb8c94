"""The flows of the golden histories: small, the same each time, and of values that JSON can hold.

Each function returns a flow, or a flow with faults for a FaultySession and options of its run.
"""

from __future__ import annotations

from prefectish import Flow, allow_failure, case, context, flatten, merge, pause_task, product, task, triggers, unmapped
from prefectish.engine import signals
from prefectish.engine.state import Cancelled, Resume, Scheduled, Success

HOUR = 3600.0


@task
def one():
    return 1


@task
def double(x):
    return 2 * x


@task
def invert(x):
    return 12 // x


@task
def total(xs):
    return sum(xs)


@task
def skip_odd(x):
    if x % 2:
        raise signals.SKIP("odd")
    return x


@task(max_retries=2, retry_delay=60)
def unsteady(x):
    if context.task_run_count <= x:
        raise OSError(f"attempt {context.task_run_count}")
    return x


@task
def loop_to(n):
    count = context.get("task_loop_count", 1)
    if count < n:
        raise signals.LOOP(f"turn {count}", result=count)
    return count


@task(trigger=triggers.any_failed, skip_on_upstream_skip=False)
def clean_up():
    return "clean"


def chain():
    with Flow("chain") as flow:
        double(double(one()))
    return flow


def map_and_sum():
    with Flow("map_and_sum") as flow:
        total(double.map(double.map([1, 2, 3, 4, 5])))
    return flow


def failed_child():
    with Flow("failed_child") as flow:
        total(double.map(invert.map([1, 0, 3])))
    return flow


def failed_child_is_let_through():
    with Flow("failed_child_is_let_through") as flow:
        inverted = invert.map([1, 0, 3])
        double.map(allow_failure(inverted))
        total.copy(name="count", trigger=triggers.some_failed(at_least=1))(double.map([1]), upstream_tasks=[inverted])
    return flow


def skips():
    with Flow("skips") as flow:
        kept = skip_odd.map([1, 2, 3])
        double.map(kept)
        one(upstream_tasks=[kept])
        one.copy(name="all_the_same", skip_on_upstream_skip=False)(upstream_tasks=[kept])
    return flow


def retries():
    with Flow("retries") as flow:
        total(unsteady.map([0, 1, 2, 3]))
    return flow


def backoff():
    with Flow("backoff") as flow:
        unsteady.copy(name="backoff", max_retries=4, retry_delay=10, retry_backoff=2)(4)
    return flow


def retry_on():
    with Flow("retry_on") as flow:
        invert.copy(name="not_this", max_retries=2, retry_delay=10, retry_on=OSError)(0)
        invert.copy(name="this", max_retries=2, retry_delay=10, retry_on=ZeroDivisionError)(0)
    return flow


def retry_signal():
    @task
    def ask(x):
        if context.task_run_count <= x:
            raise signals.RETRY("again", start_time=context.date + 2 * context.task_run_count * hour())
        return x

    with Flow("retry_signal") as flow:
        ask.map([0, 2])
    return flow


def hour():
    from datetime import timedelta

    return timedelta(hours=1)


def loops():
    with Flow("loops") as flow:
        double.map(loop_to.map([1, 3]))
    return flow


def failure_in_a_loop():
    @task(max_retries=1, retry_delay=60)
    def stumble():
        count = context.get("task_loop_count", 1)
        if count == 2 and context.task_run_count == 1:
            raise OSError("stumbled")
        if count < 3:
            raise signals.LOOP(f"turn {count}", result=count)
        return count

    with Flow("failure_in_a_loop") as flow:
        stumble()
    return flow


@task
def ask(x, duration=None):
    if x > 1:
        pause_task(f"may I pass {x}?", duration)
    return x


def pause():
    with Flow("pause") as flow:
        total(double.map(ask.map([1, 2])))
    return flow


def pause_with_duration():
    with Flow("pause_with_duration") as flow:
        total(double.map(ask.map([1, 2, 3], duration=unmapped(HOUR))))
    return flow


def given_states():
    from datetime import UTC, datetime, timedelta

    with Flow("given_states") as flow:
        resumed, kept, late = ask(7), double(3), double(4)
        total.copy(name="sum_of")([resumed, kept, late])
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=2)
    return flow, {}, {"task_states": {resumed: Resume(), kept: Success(result=8), late: Scheduled(start_time=start)}}


def flattened():
    @task
    def split(x):
        return list(range(x))

    with Flow("flattened") as flow:
        total(double.map(flatten(split.map([2, 0, 3]))))
    return flow


def unequal_widths():
    @task
    def add(x, y):
        return x + y

    with Flow("unequal_widths") as flow:
        total(add.map(double.map([1, 2]), double.map([1, 2, 3])))
    return flow


def clean_up_after_failure():
    with Flow("clean_up_after_failure") as flow:
        failed = invert(0)
        behind = double(failed)
        clean_up(upstream_tasks=[failed])
        clean_up.copy(name="not_needed")(upstream_tasks=[one()])
        flow.set_reference_tasks([behind])
    return flow


def branches():
    with Flow("branches") as flow:
        which = double(1)
        with case(which, 2):
            yes = double.copy(name="yes")(10)
        with case(which, 3):
            no = double.copy(name="no")(20)
        double.copy(name="merged")(merge(yes, no))
    return flow


def pairs():
    @task
    def add(x, y):
        return x + y

    with Flow("pairs") as flow:
        xs, ys = product([1, 2], [10, 20])
        total(add.map(xs, ys))
    return flow


def cancelled_by_a_body():
    @task
    def give_up(x):
        if x == 2:
            raise signals.ENDRUN(Cancelled("I give up"))
        return x

    with Flow("cancelled_by_a_body") as flow:
        double.map(give_up.map([1, 2, 3]))
    return flow


def stopped_map():
    with Flow("stopped_map") as flow:
        total(invert.copy(on_child_failure="stop").map([1, 0, 2, 3, 4, 6, 12]))
    return flow


def one_at_a_time():
    with Flow("one_at_a_time") as flow:
        unsteady.copy(name="one_at_a_time", max_concurrency=1).map([1, 0, 0])
    return flow


def rate():
    with Flow("rate") as flow:
        double.copy(name="spaced", rate=0.1).map([1, 2, 3])
    return flow


def map_timeout():
    with Flow("map_timeout") as flow:
        patient = unsteady.copy(name="patient", retry_delay=HOUR, map_timeout=1.5 * HOUR).map([0, 1, 2])
        clean_up(upstream_tasks=[patient])
    return flow


def flow_timeout():
    with Flow("flow_timeout") as flow:
        patient = unsteady.copy(name="patient", retry_delay=HOUR).map([0, 2])
        total(patient)
    return flow, {}, {"timeout": 1.5 * HOUR}


def innocent_of_a_death():
    with Flow("innocent_of_a_death") as flow:
        total(double.map([1, 2, 3]))
    return flow, {("double", 1): ["killed-worker"]}, {}


def crash():
    with Flow("crash") as flow:
        doubled = double.map([1, 2, 3])
        total(double.map(doubled))
        clean_up(upstream_tasks=[doubled])
    return flow, {("double-1", 1): "killed-worker"}, {}


def crash_retries():
    with Flow("crash_retries") as flow:
        double.copy(name="stubborn", crash_retries=2).map([1, 2])
    return flow, {("stubborn", 0): ["killed-worker"] * 3}, {}


def lost_input():
    with Flow("lost_input") as flow:
        double.map([1, 2])
    return flow, {("double", 0): ["input-lost", None]}, {}


def lost_scheduler():
    with Flow("lost_scheduler") as flow:
        total(double.map([1, 2, 3, 4, 5]))
    return flow, {("double", 1): "scheduler-lost"}, {}


FLOWS = {
    made.__name__: made
    for made in (
        chain, map_and_sum, failed_child, failed_child_is_let_through, skips, retries, backoff, retry_on, retry_signal,
        loops, failure_in_a_loop, pause, pause_with_duration, given_states, flattened, unequal_widths,
        clean_up_after_failure, branches, pairs, cancelled_by_a_body, stopped_map, one_at_a_time, rate, map_timeout,
        flow_timeout, innocent_of_a_death, crash, crash_retries, lost_input, lost_scheduler,
    )
}  # fmt: skip


def made(name):
    """Return a flow, its faults, and the options of its run."""
    flow = FLOWS[name]()
    return flow if isinstance(flow, tuple) else (flow, {}, {})
