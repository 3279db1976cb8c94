"""Batches on a cluster: many branches in one task of Dask, and yet each child keeps what is its own."""

from __future__ import annotations

import pytest
import real
from bodies import total
from real import kinds, meanwhile, note, notes, spend, until

from prefectish import Flow, context, flatten, flow, task, triggers
from prefectish.engine import signals
from prefectish.engine.jobs.references import Held
from prefectish.engine.scheduling.admission import FIRST, GROWTH
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.state import Failed, Skipped, Success, TriggerFailed

pytestmark = pytest.mark.time_limit(60)


def tasks_of(client, slug):
    """Return the keys of a step that the cluster was ever asked for, by what its scheduler logged."""
    story = client.run_on_scheduler(lambda dask_scheduler: [e[0] for e in dask_scheduler.transition_log])
    return {key for key in story if isinstance(key, tuple) and str(key[0]).startswith(f"{slug}-")}


@pytest.mark.parametrize("size", [7, "auto"])
def test_batch_is_fewer_tasks_of_the_cluster_with_a_state_for_each_child(dask, dask_client, size):
    @task(batch_size=size, name=f"batched_{size}")
    def inc(x):
        return x + 1

    with Flow("batches") as flow:
        children = inc.map(range(100))
        out = total(children)
    state = flow.run(executor=dask)
    assert state.is_successful()
    assert state.result[out].result == 5050
    assert [child.result for child in state.result[children].map_states] == list(range(1, 101))
    keys = tasks_of(dask_client, f"batched_{size}")
    assert 0 < len(keys) <= (15 if size == 7 else 30)
    assert all("batch" in key[1] for key in keys)


@pytest.mark.parametrize("size", [5, "auto"])
def test_children_of_a_batch_end_each_in_its_own_state(dask, size):
    @task(batch_size=size)
    def load(x):
        if x % 5 == 1:
            raise ValueError(f"no {x}")
        if x % 5 == 2:
            raise signals.SKIP(f"not {x}")
        return x

    @task(batch_size=size)
    def double(x):
        return 2 * x

    @task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
    def count(xs):
        return len(xs)

    with Flow("mixed") as flow:
        loaded = load.map(range(40))
        doubled = double.map(loaded)
        out = count(doubled)
    state = flow.run(executor=dask)
    assert state.result[out].result == 40
    for i, (first, second) in enumerate(
        zip(state.result[loaded].map_states, state.result[doubled].map_states, strict=True)
    ):
        if i % 5 == 1:
            assert (type(first), type(second)) == (Failed, TriggerFailed)
            assert first.message == f"Error during execution of task: ValueError('no {i}')"
            assert type(first.result) is ValueError
        elif i % 5 == 2:
            assert (type(first), type(second)) == (Skipped, Skipped)
            assert first.message == f"not {i}"
        else:
            assert (first, second) == (Success(result=i), Success(result=2 * i))


@pytest.mark.parametrize("size", [5, "auto"])
def test_children_of_a_batch_know_who_they_are(dask, size):
    @task(batch_size=size, name="who")
    def who(x):
        return context.map_index, context.task_full_name, context.logger.name

    with Flow("names") as flow:
        children = who.map(list("abcdefghijkl"))
    state = flow.run(executor=dask)
    answers = [child.result for child in state.result[children].map_states]
    assert [index for index, _, _ in answers] == list(range(12))
    assert [name for _, name, _ in answers] == [f"who[{i}]" for i in range(12)]


@pytest.mark.parametrize("size", [10, "auto"])
def test_child_of_a_batch_is_retried_alone(dask, tmp_path, size):
    path = tmp_path / "notes"

    @task(batch_size=size, max_retries=2, retry_delay=0.05)
    def shaky(x):
        note(path, f"{x} {context.task_run_count}")
        if x % 7 == 3 and context.task_run_count < 3:
            raise ValueError(x)
        return x

    with Flow("retries") as flow:
        children = shaky.map(range(30))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 30}
    expected = [f"{x} {run}" for x in range(30) for run in range(1, 4 if x % 7 == 3 else 2)]
    assert sorted(notes(path)) == sorted(expected)


def test_large_results_of_a_batch_stay_with_their_worker_and_are_read(dask):
    @task(batch_size=4)
    def make(x):
        return bytes([x]) * 50_000

    @task
    def length(b):
        return b[0], len(b)

    @task
    def all_lengths(bs):
        return sum(len(b) for b in bs)

    with Flow("large") as flow:
        made = make.map(range(8))
        lengths = length.map(made)
        out = all_lengths(made)
    state = flow.run(executor=dask, keep_results=True)
    assert state.result[out].result == 400_000
    assert [s.result for s in state.result[lengths].map_states] == [(i, 50_000) for i in range(8)]
    assert isinstance(state.result[made].map_states[5]._raw_result, Held)
    assert state.result[made].map_states[5].result == b"\x05" * 50_000


def test_argument_that_cannot_be_pickled_fails_its_child_of_a_batch_only(dask):
    class Stubborn:
        def __reduce__(self):
            raise TypeError("stays here")

    @task(batch_size=3)
    def give(x):
        return str(x)

    with Flow("stubborn") as flow:
        children = give.map([1, Stubborn(), 3])
    first, failed, last = flow.run(executor=dask).result[children].map_states
    assert (first.result, last.result) == ("1", "3")
    assert failed.message == "argument 'x' of give-1[1] could not be pickled: TypeError: stays here"


# ---------------------------------------------------------------------- how large


def test_slow_item_does_not_hold_a_lump_of_others_back(dask, tmp_path):
    """The others end while the slow one runs: it waits for a note of the last of them."""
    gate, path = tmp_path / "gate", tmp_path / "notes"

    @task(batch_size="auto")
    def work(x):
        if x == 5:
            real.wait_for_file(gate)
        else:
            note(path, x)
        return x

    def open_gate():
        until(lambda: len(notes(path)) >= 400 - FIRST * GROWTH)
        gate.touch()

    with Flow("slow") as flow:
        children = work.map(range(400))
    with meanwhile(open_gate):
        state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 400}


def test_branches_that_a_full_batch_did_not_start_run_in_others(dask, tmp_path):
    """A batch begins nothing new after its patience, so 16 bodies of a fifth of a second are no task of 3 seconds."""
    path = tmp_path / "notes"

    @task(batch_size="auto")
    def work(x):
        from distributed import get_worker

        spend(0.2)
        note(path, get_worker().get_current_task()[1])
        return x

    with Flow("patience") as flow:
        children = work.map(range(64))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 64}
    batches = notes(path)
    assert len(batches) == 64, "a child ran twice"
    assert max(batches.count(b) for b in batches) <= 7


def test_batch_of_a_flow_function_is_taken_as_columns(dask, monkeypatch):
    singled = []
    take = Progress._take
    monkeypatch.setattr(Progress, "_take", lambda self, *receipt: singled.append(receipt) or take(self, *receipt))

    @task(batch_size=10)
    def inc(x):
        return x + 1

    @flow(executor=dask, history=False)
    def summed():
        return sum(inc.map(range(100)).result())

    assert summed() == 5050
    assert not singled


def test_results_of_a_batch_of_a_flow_function_can_be_flattened_later(executor):
    @task(batch_size=4)
    def some(x):
        return [x] * x if x % 2 else f"text {x}" if x % 4 else x

    @task(batch_size=3)
    def same(x):
        return x

    @flow(executor=executor, history=False)
    def flattened():
        found = some.map(range(8))
        early = same.map(flatten(found))  # as they end
        found.wait()
        late = same.map(flatten(found))
        return early.result(), late.result(), found.result()

    early, late, found = flattened()
    assert found == [0, [1], "text 2", [3] * 3, 4, [5] * 5, "text 6", [7] * 7]
    assert sorted(map(str, early)) == sorted(map(str, late))
    assert late == [0, 1, "text 2", *[3] * 3, 4, *[5] * 5, "text 6", *[7] * 7]
