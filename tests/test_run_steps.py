"""The loop that runs steps: what each step reads, where it starts, what is collected."""

from __future__ import annotations

from jobs import jobs_of

from prefectish import Flow, task, unmapped
from prefectish.engine.jobs.job import Pick
from prefectish.engine.state import Failed, Paused, Pending, Resume, Retrying, Success, TriggerFailed
from prefectish.engine.worker.run_steps import gather, run_job, run_steps


def plus_one(x):
    return x + 1


def times(x, factor):
    return factor * x


def first_job(first=plus_one, **options):
    """Return the job of the first row of two fused maps, of which the second reads a value that all rows share."""
    with Flow("two") as flow:
        task(times).map(task(first, name="first", **options).map([4, 5]), factor=unmapped(10))
    _, jobs = jobs_of(flow)
    return jobs[0]


def run(job, positions=(0, 1), states=None, starts=None, **more):
    return run_steps(job.chain, positions, 0, job.items, {} if states is None else states, starts or {}, **more)


def states_of(records):
    return [(position, record.state) for position, record in records]


def test_later_steps_read_the_states_of_earlier_ones():
    job = first_job()
    states = {}
    assert states_of(run(job, states=states)) == [(0, Success(None, 5)), (1, Success(None, 50))]
    assert states == {0: Success(None, 5), 1: Success(None, 50)}
    assert states_of(run_job(job)) == [(0, Success(None, 5)), (1, Success(None, 50))]


def test_steps_that_have_run_are_read_from_the_given_states():
    assert states_of(run(first_job(), (1,), {0: Success(None, 7)})) == [(1, Success(None, 70))]


def test_step_after_a_failure_has_its_trigger_called():
    job = first_job(lambda x: 1 / 0)
    (_, failed), (_, stopped) = run(job)
    assert type(failed.state) is Failed
    assert type(stopped.state) is TriggerFailed


def test_step_after_one_that_waits_is_not_ready():
    job = first_job(lambda x: 1 / 0, max_retries=1, retry_delay=60)
    (_, waits), (_, not_ready) = run(job)
    assert type(waits.state) is Retrying
    assert type(not_ready.state) is Pending


def test_step_starts_from_its_start_state():
    from prefectish import context

    job = first_job(lambda x: context.task_run_count)
    ((_, record),) = run(job, (0,), starts={0: Retrying(run_count=2)})
    assert record.state == Success(None, 3)
    job = first_job(lambda x: context.resume)
    ((_, record),) = run(job, (0,), starts={0: Resume()})
    assert record.state == Success(None, True)


def test_record_is_packed_after_later_steps_can_read_its_state():
    seen = []

    def pack(position, record):
        seen.append((position, record.state))
        return record.replace(state=Paused("packed"))

    job = first_job()
    assert states_of(run(job, on_record=pack)) == [(0, Paused("packed")), (1, Paused("packed"))]
    assert seen == [(0, Success(None, 5)), (1, Success(None, 50))]


def test_probe_runs_no_body():
    def never(x):
        raise AssertionError("the body ran")

    ((_, record),) = run(first_job(never), (0,), probe_only=True)
    assert type(record.state) is Pending


def test_item_that_is_elsewhere_is_read_where_the_step_runs():
    job = first_job()
    assert gather(job.chain, 0, [Pick(Success(None, [[1], [2, 3]]), (1, 1))], {}) == [Success(None, 3)]
    assert gather(job.chain, 0, [Success(None, 9)], {}) == [Success(None, 9)]
    (state,) = gather(job.chain, 0, [Pick(Success(None, [1]), (4,))], {})
    assert type(state) is Failed
    assert state.message == "item [4] could not be read: IndexError('list index out of range'); what is " + (
        "mapped over must have an item at each position below its length"
    )
