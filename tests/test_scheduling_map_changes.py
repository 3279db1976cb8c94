"""How map domains grow and close, by values."""

from __future__ import annotations

from owner import Owner, named, names

from prefectish import Flow, flatten, reduce
from prefectish.engine.state import Success


def test_reduction_grows_with_an_iterator_and_closes_with_it():
    with Flow("sums") as flow:
        reduce(named("add"), named("load").map(iter(range(3))), fan_in=2)
    owner = Owner(flow, window=2)
    jobs = list(owner.start())
    add = owner.progress.run_state.find("add-1")
    assert not add.map_state.closed
    owner.run_all(jobs)
    assert add.map_state.closed
    assert [add.map_state.tree.name(row) for row in range(3)] == ["0.0", "0.1", "1.0"]
    assert len(add.children) == 3


def test_reduction_of_a_flattened_map_waits_for_its_order():
    with Flow("sums") as flow:
        loaded = named("load").map(flatten(named("lists").map([0, 1])))
        reduce(named("add"), loaded, fan_in=2)
    owner = Owner(flow)
    first, second = owner.start()
    jobs = owner.tell(second, Success(None, ["c"]), widths=[1])
    assert names(jobs) == ["load[0]"]
    owner.run_all(jobs)
    assert owner.progress.run_state.find("add-1").children is None
    jobs = owner.tell(first, Success(None, ["a", "b"]), widths=[2])
    owner.run_all(jobs)
    groups = owner.progress.run_state.find("add-1").chain
    assert [row for _, row in groups.reads_of(0)] == [1, 2]
    assert owner.state("reduce-add").is_successful()
