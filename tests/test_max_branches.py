"""`max_branches`: how many items of a map are under way at once, of a map and of a run, in both front ends."""

from __future__ import annotations

import pytest
from bodies import count_good, total
from real import most_at_once, note, spend, wait_for_file

from prefectish import Flow, flow, task, unmapped
from prefectish.executors import LocalDaskExecutor


@task
def load(folder, x):
    note(folder / "traces", "+")
    wait_for_file(folder / "gate", 20)
    spend(0.002)
    return x


@task
def clean(folder, x):
    if x == 5:
        note(folder / "traces", "-")
        raise ValueError(x)
    return x


@task
def save(folder, x):
    spend(0.004)
    note(folder / "traces", "-")
    return x


def recorded(loads, folder, run):
    with Flow("pipeline") as made:
        loaded = loads.map(unmapped(folder), list(range(12)))
        saved = save.map(unmapped(folder), clean.map(unmapped(folder), loaded))
        count = count_good(saved)
    (folder / "gate").touch()
    return run(made).result[count].result


def called(loads, folder, run):
    @flow(history=False)
    def pipeline():
        loaded = loads.map(unmapped(folder), list(range(12)))
        saved = save.map(unmapped(folder), clean.map(unmapped(folder), loaded))
        count = count_good.submit(saved)
        (folder / "gate").touch()
        return count.result()

    return run(pipeline).result


@pytest.mark.parametrize("front", [recorded, called])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_map_has_so_many_branches_open(run, front, batch_size, tmp_path):
    limited = load.copy(max_branches=3, batch_size=batch_size)
    assert front(limited, tmp_path, run) == 11
    assert most_at_once(tmp_path / "traces") <= 3


@pytest.mark.parametrize("front", [recorded, called])
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_run_on_this_machine_has_so_many_branches_open(front, scheduler, tmp_path):
    executor = LocalDaskExecutor(scheduler, num_workers=4, max_branches=2)
    assert front(load, tmp_path, lambda made: made.run(executor=executor, history=False)) == 11
    assert most_at_once(tmp_path / "traces") <= 2


def test_limit_of_a_later_step_holds_for_the_map(run, tmp_path):
    with Flow("pipeline") as made:
        saved = save.map(
            unmapped(tmp_path), load.map(unmapped(tmp_path), list(range(8))), task_args={"max_branches": 2}
        )
    (tmp_path / "gate").touch()
    assert run(made).result[saved].result == list(range(8))
    assert most_at_once(tmp_path / "traces") <= 2


def test_map_that_reads_all_of_another_one_does_not_wait_for_ever(run, tmp_path):
    (tmp_path / "gate").touch()
    with Flow("feedback") as made:
        loaded = load.map(unmapped(tmp_path), list(range(6)), task_args={"max_branches": 2})
        again = save.map(unmapped(tmp_path), loaded, upstream_tasks=[unmapped(total(loaded))])
    assert run(made).result[again].result == list(range(6))


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="max_branches must be >= 1, got 0"):
        LocalDaskExecutor(max_branches=0)
    with pytest.raises(ValueError, match="max_branches must be >= 1, got 0"):
        task(lambda x: x, max_branches=0)
