"""Which steps can start, and the chains they make, without an executor."""

from __future__ import annotations

from owner import Owner, labels, named

from prefectish import Flow, flatten
from prefectish.engine.jobs.job import ITEM, SHARED, STEP
from prefectish.engine.state import Success


def chains(owner):
    return {tuple(s.step.name for s in chain.step_states): chain for chain in owner.progress.run_state.chains.values()}


def test_steps_of_one_group_that_are_ready_make_one_chain():
    with Flow("fused") as flow:
        named("c")(named("b")(named("a")(1)))
    owner = Owner(flow)
    owner.start()
    (chain,) = chains(owner).values()
    assert [s.step.name for s in chain.step_states] == ["a", "b", "c"]
    assert [[kind for kind, _ in spec.wiring] for spec in chain.spec.steps[1:]] == [[STEP], [STEP]]


def test_map_over_a_map_in_another_chain_waits_row_by_row():
    with Flow("two chains") as flow:
        named("second", max_concurrency=9).map(named("first", max_concurrency=9).map([0, 1]))
    owner = Owner(flow)
    first, _ = owner.start()
    second = chains(owner)["second",]
    assert [s.step.name for s in second.dependencies] == ["first"]
    assert second.ready == []
    (job,) = owner.tell(first)
    assert labels(job) == ["second[0]"]


def test_items_are_read_by_row_and_other_inputs_are_shared():
    with Flow("inputs") as flow:
        named("each").map([1, 2], y=named("one")())
    owner = Owner(flow)
    (single,) = owner.start()
    jobs = owner.tell(single, Success(None, [7, 8]), widths=[(2, "list", ())])
    chain = chains(owner)["each",]
    assert {kind for kind, _ in chain.spec.steps[0].wiring} == {ITEM, SHARED} or len(chain.readers) == 2
    assert [job.items[0] for job in jobs] == [1, 2]


def test_rows_with_a_priority_of_their_own_start_by_it():
    with Flow("priority") as flow:
        named("load", priority=lambda item: item).map([1, 3, 2])
    owner = Owner(flow)
    assert [labels(job)[0] for job in owner.start()] == ["load[1]", "load[2]", "load[0]"]


def test_priority_that_raises_counts_as_nought(caplog):
    with Flow("priority") as flow:
        named("load", priority=lambda item: 1 / item).map([0, 1])
    owner = Owner(flow)
    assert [labels(job)[0] for job in owner.start()] == ["load[1]", "load[0]"]
    assert "priority raised" in caplog.text


def test_flattened_map_opens_before_its_upstream_has_ended():
    with Flow("flattened") as flow:
        named("each").map(flatten(named("lists").map([0, 1])))
    owner = Owner(flow)
    first, _ = owner.start()
    jobs = owner.tell(first, Success(None, [5, 6]), widths=[2])
    assert [job.items for job in jobs] == [(5,), (6,)]
