"""The tables of a run: what they say of rows, by values. What has to hold between turns is in test_transitions.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from owner import Owner, named

from prefectish import Flow
from prefectish.engine.jobs.job import STEP
from prefectish.engine.plan.steps import MapDomain, MapSource
from prefectish.engine.scheduling.run_state import NOT_RUN, AdmissionMode, MapState, StepChain
from prefectish.engine.state import Mapped, Retrying


def flattened(paths, below=None):
    map_state = MapState(MapDomain(0, (MapSource(1, True, 3),), True))
    map_state.paths, map_state.below = paths, below
    return map_state


def chain_of(*wirings):
    chain = StepChain([], 0, None)
    chain.spec = SimpleNamespace(steps=[SimpleNamespace(wiring=wiring) for wiring in wirings])
    return chain


def test_rows_of_a_flattened_map_are_ordered_by_their_paths():
    assert flattened([(1, 0), (0, 0), (1, 1)]).order() == [1, 0, 2]
    assert flattened([(0, 0), (0, 1)]).order() is None, "they came in map order"


def test_rows_above_a_flattened_map_follow_its_order():
    below = flattened([(1,), (0,)])
    assert flattened([(0, 0), (1, 0)], below).order() == [1, 0]


def test_place_of_a_row_among_the_states_that_were_given():
    map_state = flattened([(1, 0), (0, 0)])
    map_state.before = {(0, 0): 0, (1, 0): 1}
    assert [map_state.place_before(0), map_state.place_before(1)] == [1, 0]
    map_state.paths.append((7, 0))
    assert map_state.place_before(2) is None


def test_ancestors_are_what_a_position_reads_directly_or_not():
    chain = chain_of((), ((STEP, 0),), (), ((STEP, 1), (STEP, 2)))
    assert chain.ancestors(3) == {0, 1, 2, 3}
    assert chain.ancestors(1) == {0, 1}


def test_row_is_ready_once_all_dependencies_are_final():
    chain = StepChain([], 0, SimpleNamespace(width=2))
    final = {"first": set(), "second": set()}
    first, second = (SimpleNamespace(has=rows.__contains__) for rows in final.values())
    chain.dependencies = [first, second]
    final["first"].add(1)
    chain.dependency_finished(1, first)
    assert chain.next_row() is None
    final["second"].add(1)
    chain.dependency_finished(1, first)
    assert [chain.next_row(), chain.next_row()] == [1, None]


def test_state_of_a_row_that_waits_is_what_it_starts_from():
    with Flow("waits") as flow:
        named("load").map([0, 1])
    owner = Owner(flow)
    owner.start()
    load = owner.progress.run_state.find("load-1")
    waiting = Retrying("later", run_count=1)
    owner.progress.changes.wait_row(load.chain, load.chain.open_rows[1], 0, waiting)
    assert load.state_of(1) is waiting
    assert load.state_of(0) is NOT_RUN
    assert load.snapshot().map_states == [NOT_RUN, waiting]
    assert isinstance(load.snapshot(), Mapped)


def test_modes_of_a_chain_are_ordered_and_an_open_one_is_false():
    assert AdmissionMode.OPEN < AdmissionMode.STOP < AdmissionMode.CANCEL
    assert not AdmissionMode.OPEN


def test_step_is_found_by_its_slug():
    with Flow("find") as flow:
        named("load")(named("load")())
    run_state = Owner(flow).progress.run_state
    assert run_state.find("load-2").step.slug == "load-2"
    with pytest.raises(StopIteration):
        run_state.find("load-3")
