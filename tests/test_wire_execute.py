"""What runs on a worker: from the messages of the client to those that it reads, without a pool or a cluster."""

from __future__ import annotations

import pickle
import threading

import pytest
from jobs import jobs_of

from prefectish import Flow, get_run_logger, task, unmapped
from prefectish.engine import signals
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import Record
from prefectish.engine.jobs.references import Discarded, Held, LeftOnWorker
from prefectish.engine.state import Failed, Success
from prefectish.engine.wire import execute as worker
from prefectish.engine.wire.execute import execute, execute_batch, open_chain, take_from_batch
from prefectish.engine.wire.messages import Call, StepResult, open_batch
from prefectish.engine.wire.pack import MAX_BYTES_WITH_CALL, Packer, pack_chain, pickle_tasks
from prefectish.process_tree import process_name

KEEP = 4096
LARGE = "x" * (MAX_BYTES_WITH_CALL + 1)


@task
def add(x, y):
    return x + y


@task
def double(x):
    return 2 * x


@task
def lasts(x):
    return x


@task
def lock(x):
    return threading.Lock()


class BreaksWhenLoaded:
    def __reduce__(self):
        return int, ("no number",)


@task
def broken(x):
    return BreaksWhenLoaded()


def packed(make):
    """Return the jobs of a flow, its first chain as a payload, and the packer of its calls."""
    with Flow("flow") as flow:
        make()
    plan, jobs = jobs_of(flow)
    payload, held = pack_chain(jobs[0].chain, pickle_tasks(plan))
    packer = Packer()
    packer.held.extend(held)
    return jobs, payload, packer


def sent(message):
    return pickle.loads(pickle.dumps(message, protocol=5))


def run(payload, packer, call, *results, given=None):
    """Execute a call as a worker would, and return its response as the client reads it."""
    worker._open.clear()
    stand_ins = {id(held): value for held, value in (given or [])}
    values = [StepResult(0, Record(Success(None, stand_ins.get(id(held), held)))) for held in packer.held]
    return sent(execute(payload, sent(call), *results, *map(sent, values)))


def call_of(job, position, packer, sources=(), keep=KEEP, verify=False, start=None):
    items = tuple(packer.item(item, "an item") for item in job.items)
    return Call(position, job.index, items, None, start, sources, keep, verify)


def test_child_runs_and_its_record_is_complete():
    jobs, payload, packer = packed(lambda: add.map([1, 2], unmapped(40)))
    there = run(payload, packer, call_of(jobs[1], 0, packer))
    assert there.record.state.is_successful()
    assert there.record.state.result == 42
    assert there.record.worker == process_name()
    assert there.small == ()


def test_result_of_the_user_is_in_an_envelope():
    jobs, payload, packer = packed(lambda: add.map([[1], [2]], unmapped([40])))
    there = run(payload, packer, call_of(jobs[0], 0, packer))
    assert type(there.record.state._raw_result) is Encoded
    assert there.record.state.result == [1, 40]


@pytest.mark.parametrize("large", [LARGE, [LARGE]], ids=["simple", "envelope"])
def test_large_shared_value_and_large_item_take_the_place_of_their_references(large):
    jobs, payload, packer = packed(lambda: add.map([large], unmapped(large)))
    call = call_of(jobs[0], 0, packer)
    assert len(packer.held) == 2
    there = run(payload, packer, call)
    assert there.record.state.result == large + large


def test_result_on_a_worker_takes_the_place_of_its_reference():
    jobs, payload, packer = packed(lambda: double.map([1]))
    held = Held("load-1[0]", 10, "handle", None)
    job = jobs[0].replace(items=(Success(None, held),))
    there = run(payload, packer, call_of(job, 0, packer), given=[(held, 21)])
    assert there.record.state.result == 42


def test_failure_of_the_body_is_in_the_record():
    jobs, payload, packer = packed(lambda: add.map([1], unmapped("a")))
    there = run(payload, packer, call_of(jobs[0], 0, packer))
    assert isinstance(there.record.state, Failed)
    assert isinstance(there.record.state.result, TypeError)


def test_result_that_cannot_be_pickled_fails_its_child():
    jobs, payload, packer = packed(lambda: lock.map([1]))
    there = run(payload, packer, call_of(jobs[0], 0, packer))
    assert there.record.state.message.startswith("result of lock-1[0] could not be pickled: TypeError")


@pytest.mark.parametrize("verify", [False, True])
def test_result_that_cannot_be_unpickled_fails_its_child_under_verify(verify):
    jobs, payload, packer = packed(lambda: broken.map([1]))
    there = run(payload, packer, call_of(jobs[0], 0, packer, verify=verify))
    assert there.record.state.is_failed() is verify


def test_argument_that_could_not_be_pickled_fails_the_child_that_reads_it():
    jobs, payload, packer = packed(lambda: add.map([1], unmapped(threading.Lock())))
    there = run(payload, packer, call_of(jobs[0], 0, packer))
    assert "argument 'y' of add-1[0] could not be pickled: TypeError" in str(there.record.state.message)


def test_payload_that_cannot_be_opened_is_a_failed_record():
    there = execute(b"no pickle", Call(0, 3, (), None, None, (), KEEP))
    assert there.record.state.message.startswith("the task could not be unpickled on the worker: ")


def test_later_step_reads_the_result_of_an_earlier_one_and_returns_its_record():
    jobs, payload, packer = packed(lambda: double.map(double.map([1])))
    first = run(payload, packer, call_of(jobs[0], 0, packer))
    second = run(payload, packer, Call(1, 0, (None,), None, None, (0,), KEEP), first)
    assert second.record.state.result == 4
    assert [(p, record.state.result) for p, record in second.small] == [(0, 2)]


def test_large_result_of_an_earlier_step_is_not_returned():
    jobs, payload, packer = packed(lambda: double.map(double.map(["x" * 100])))
    first = run(payload, packer, call_of(jobs[0], 0, packer, keep=50))
    second = run(payload, packer, Call(1, 0, (None,), None, None, (0,), 50), first)
    assert len(second.record.state.result) == 400
    ((_, record),) = second.small
    assert type(record.state._raw_result) is Discarded
    assert record.state._raw_result.values() == ("double-1[0]", 200)


def test_state_of_a_step_that_has_run_comes_with_the_call():
    _, payload, packer = packed(lambda: double.map(double.map([1])))
    there = run(payload, packer, Call(1, 0, (None,), {0: Success(None, 21)}, None, (), KEEP))
    assert there.record.state.result == 42


def test_chain_is_opened_once_in_a_process_and_again_when_it_was_dropped(monkeypatch):
    _, first, _ = packed(lambda: double.map([1]))
    _, second, _ = packed(lambda: add.map([1], unmapped(2)))
    monkeypatch.setattr(worker, "MAX_OPEN_CHAINS", 1)
    worker._open.clear()
    chain = open_chain(first)
    assert open_chain(first) is chain
    open_chain(second)
    assert open_chain(first) is not chain


# -------------------------------------------------------------------------------------------------- batches


def batch_of(jobs, packer, keep=KEEP, verify=False, patience=None, omitted=()):
    branches = [
        (
            job.index,
            job.positions,
            [packer.item(item, "an item") for item in job.items],
            job.given,
            job.starts,
            job.submission,
        )
        for job in jobs
    ]
    return pickle.dumps((patience, keep, verify, False, branches, omitted), protocol=5)


def run_batch(payload, packer, calls):
    worker._open.clear()
    values = [StepResult(0, Record(Success(None, held))) for held in packer.held]
    return sent(execute_batch(payload, calls, *map(sent, values)))


def all_of(batch, count):
    return [open_batch(batch).of(number) for number in range(count)]


def test_branches_that_only_items_tell_apart_are_sent_as_columns():
    jobs, payload, packer = packed(lambda: add.map([1, "a", 3], unmapped(2)))
    columns = range(10, 13), jobs[0].positions, [[1, "a", 3]]
    calls = pickle.dumps((None, KEEP, False, False, columns, [2]), protocol=5)
    good, bad, omitted = all_of(run_batch(payload, packer, calls), 3)
    assert good[0][1].state.result == 3
    assert isinstance(bad[0][1].state.result, TypeError)
    assert omitted is None


def test_batch_returns_the_records_of_all_steps_of_its_branches():
    jobs, payload, packer = packed(lambda: double.map(double.map([1, 2, 3])))
    batch = run_batch(payload, packer, batch_of(jobs, packer))
    found = [[record.state.result for _, record in records] for records in all_of(batch, 3)]
    assert found == [[2, 4], [4, 8], [6, 12]]


def test_single_successes_of_a_batch_are_sent_short_and_name_the_process():
    jobs, payload, packer = packed(lambda: add.map([1, "a"], unmapped(2)))
    batch = run_batch(payload, packer, batch_of(jobs, packer))
    opened = open_batch(batch)
    assert (opened.results[0][0], [*opened.others]) == (3, [1]), "only what did not plainly succeed has a record"
    good, bad = (records[0][1] for records in all_of(batch, 2))
    assert good.state.result == 3
    assert isinstance(bad.state.result, TypeError)
    assert good.worker == bad.worker == process_name()


def test_large_results_of_a_batch_are_beside_its_records():
    jobs, payload, packer = packed(lambda: double.map(["x" * 100, "y"]))
    batch = run_batch(payload, packer, batch_of(jobs, packer, keep=50))
    large, small = (records[0][1].state for records in all_of(batch, 2))
    assert large._raw_result.nbytes == 200
    assert type(large._raw_result) is LeftOnWorker
    assert small.result == "yy"
    assert take_from_batch(batch, 0, 0).record.state.result == 200 * "x"


def test_branches_that_had_no_time_to_start_are_returned_as_they_are():
    jobs, payload, packer = packed(lambda: double.map([1, 2]))
    batch = run_batch(payload, packer, batch_of(jobs, packer, patience=-1.0))
    assert all_of(batch, 2) == [None, None]


def test_batch_whose_payload_cannot_be_opened_fails_each_step():
    jobs, _, packer = packed(lambda: double.map(double.map([1])))
    batch = execute_batch(b"no pickle", batch_of(jobs, packer))
    assert [record.state.is_failed() for _, record in all_of(batch, 1)[0]] == [True, True]


def call_counted(x, calls):
    calls.append(x)
    if x == "raise":
        raise ValueError("no")
    if x == "skip":
        raise signals.SKIP("not this one")
    if x == "log":
        get_run_logger().warning("a line")
    return [x] if x == "list" else x


def test_bodies_that_are_called_in_a_row_are_called_once_whatever_comes_of_them(monkeypatch):
    calls = []
    items = ["plain", "raise", "skip", "log", "list", "long" * 20]
    jobs, payload, _ = packed(lambda: lasts.map(double.map(items)))
    worker._open.clear()
    monkeypatch.setattr(open_chain(payload).steps[0].task, "run", lambda x: call_counted(x, calls))
    columns = range(len(items)), jobs[0].positions, [items]
    calls_sent = pickle.dumps((None, 50, False, False, columns, []), protocol=5)
    batch = execute_batch(payload, calls_sent)
    found = [[record.state for _, record in records] for records in all_of(batch, len(items))]
    assert calls == items
    assert [[type(state).__name__ for state in states] for states in found] == [
        ["Success", "Success"],
        ["Failed", "TriggerFailed"],
        ["Skipped", "Skipped"],
        ["Success", "Success"],
        ["Success", "Success"],
        ["Success", "Success"],
    ]
    assert [*open_batch(batch).others] == [1, 2, 5], "the others plainly succeeded with a small result"
    assert found[4][1].result == ["list"]
    assert sorted(batch.large) == [(5, 0), (5, 1)]
