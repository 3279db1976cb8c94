"""When the rows of a reduction start, by values."""

from __future__ import annotations

from owner import Owner, labels, named
from test_scheduling_release import held, is_here

from prefectish import Flow, reduce
from prefectish.engine.state import Success, TriggerFailed


def reduction(items, fan_in=2, **options):
    with Flow("sums") as flow:
        reduce(named("add"), named("load").map(items), fan_in=fan_in)
    return Owner(flow, **options)


def test_row_starts_once_what_it_reads_is_final():
    owner = reduction([0, 1, 2])
    first, second, third = owner.start()
    assert owner.tell(second) == []
    (left,) = owner.tell(first)
    assert labels(left) == ["add[0]"]
    (right,) = owner.tell(third)
    assert owner.tell(right) == []
    (last,) = owner.tell(left)
    assert labels(last) == ["add[2]"]
    (group,) = last.items
    assert [child.result for child in group.map_states] == ["add[0]", "add[1]"]
    owner.tell(last, Success(None, "all"))
    assert owner.state("reduce-add").result == "all"


def test_iterator_brings_up_groups_as_they_are_complete():
    owner = reduction(iter(range(5)), window=3)
    order = owner.run_all(owner.start())
    assert order[-1] == ["add[4]"]
    assert order.index(["add[0]"]) < order.index(["load[4]"])


def test_large_results_go_once_they_are_combined_and_few_are_begun():
    owner = reduction(list(range(40)), fan_in=4, slots=1, window=1000)
    jobs = list(owner.start())
    most = 0
    while jobs:
        job = jobs.pop(0)
        jobs += owner.tell(job, held(labels(job)[0]))
        jobs.sort(key=lambda j: labels(j)[0].startswith("load"))
        states = [s for step in owner.progress.run_state.step_states for s in step.children or () if s is not None]
        most = max(most, sum(getattr(s._raw_result, "handle", None) is not None for s in states))
    assert most <= 4 + 2 + 3 * 4
    assert not is_here(owner, "load-1", 39)
    assert not is_here(owner, "add-1", 0)
    assert owner.state("reduce-add")._raw_result.label == "add[13]"


def test_failed_row_fails_what_reads_it():
    owner = reduction([0, 1, 2, 3])
    jobs = list(owner.start())
    made = {"add[0]": (TriggerFailed("no"),)}
    owner.run_all(jobs, lambda job: made.get(labels(job)[0], ()))
    assert isinstance(owner.state("add").map_states[0], TriggerFailed)
