"""The end of a process and what fits before it: rules alone."""

from __future__ import annotations

import pytest

from prefectish.engine.scheduling.lifetimes import Living, places_for
from prefectish.engine.worker import lifetime


class Refused(Exception):
    pass


@pytest.fixture
def life(monkeypatch):
    """Return what gives this process so many seconds, of which so many are left."""
    monkeypatch.setattr(lifetime, "_longest", type(lifetime._longest)())
    monkeypatch.setattr(lifetime, "_refused", type(lifetime._refused)())
    for name in ("began_at", "ends_at", "refuse"):
        monkeypatch.setattr(lifetime, name, getattr(lifetime, name))
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv("PREFECTISH_WORKER_ENDS", raising=False)
    return lambda left, lived: lifetime.set_end(left, lived, lambda needed, left: Refused(needed))


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"SLURM_JOB_END_TIME": "1500"}, 500.0),
        ({"PREFECTISH_WORKER_ENDS": "1970-01-01T00:20:00+00:00"}, 200.0),
        ({"SLURM_JOB_END_TIME": "1500", "PREFECTISH_WORKER_ENDS": "1100"}, 100.0),
        ({"SLURM_JOB_END_TIME": "soon"}, None),
    ],
)
def test_end_is_read_from_the_environment(environ, seconds):
    assert lifetime.end_by_environment(environ, 1000.0) == seconds


def test_measured_body_that_does_not_fit_is_refused_once(life):
    life(5.0, 15.0)
    lifetime.note("chain", 8.0)
    with pytest.raises(Refused):
        lifetime.check("chain", 1, None)
    lifetime.check("chain", 1, None)  # it came back: there is no better place
    lifetime.check("other", 2, None)  # nothing is known of it


def test_first_body_is_not_begun_by_a_process_that_is_about_to_end(life):
    life(4.0, 96.0)
    with pytest.raises(Refused):
        lifetime.check("chain", 1, None)
    lifetime.check("chain", 1, None)  # there is no better place
    lifetime.check("chain", 2, 0.1)  # it is known to be short
    lifetime.note("chain", 0.2)
    lifetime.check("chain", 3, None)
    life(20.0, 80.0)
    lifetime.check("other", 4, None)


def test_declared_time_counts_from_the_first_body_on(life):
    life(5.0, 15.0)
    with pytest.raises(Refused):
        lifetime.check("chain", 1, 8.0)


def test_body_that_fits_into_no_life_begins(life):
    life(5.0, 15.0)
    lifetime.check("chain", 1, 60.0)
    assert not lifetime._refused


def test_process_without_an_end_refuses_nothing(life):
    life(None, 15.0)
    lifetime.note("chain", 1e6)
    lifetime.check("chain", 1, 1e9)
    assert not lifetime._longest


def test_place_has_to_be_one_that_the_task_may_run_on():
    workers = [Living("a", 3.0, 1, 0), Living("b", None, 1, 0), Living("c", 30.0, 1, 0)]
    assert places_for(8.0, workers) == ["b"]
    assert places_for(8.0, workers, {"a", "c"}) == ["c"]
    assert places_for(8.0, workers, {"a"}) == []
