"""Several agents on one database: each run once, and none is lost when agents and drivers are killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import agents as site
import pytest
from postgres import Server, binaries, server
from real import until

from prefectish.history.store import open_store
from prefectish.registry import queue

pytestmark = pytest.mark.fault


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    programs = binaries()
    if programs is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL, or psycopg, is not installed")
    with server(programs) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> site.Site:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    return site.Site(tmp_path, url, limit=1)


def test_each_due_run_is_begun_once(place: site.Site) -> None:
    found = site.due(place, agents=4, runs=16, skew=90.0, timeout=240.0)
    assert found.states == {"Success": 16}
    assert (len(found.bodies), set(found.bodies.values()), found.parts) == (16, {1}, 0)


def test_each_time_of_a_schedule_is_followed_once_by_agents_whose_clocks_differ(place: site.Site) -> None:
    for number in range(4):
        place.start_agent(number, 60.0 if number % 2 else 0.0)
    try:
        until(place.are_ready, 120.0)
        # to deploy takes a part of these seconds, and agents that are ahead have as many again before they miss a time
        last = place.follow(8, ahead=60.0)
        found = place.wait_for_planned(last, 240.0)
    finally:
        place.end()
    assert found.states == {"Success": 8}
    assert found.bodies == {("planned", "0"): 8}


def test_killed_agents_and_drivers_lose_nothing(place: site.Site) -> None:
    found, killed = site.kill(place, agents=3, runs=6, children=30, seconds=20.0, timeout=240.0)
    assert killed["agents"] > 0
    assert killed["drivers"] > 0
    assert found.states == {"Success": 6}
    assert place.children_without_a_state() == []
    assert len(found.bodies) == 6 * 30
    # what ran when its driver was killed runs again, and nothing whose result is stored: a driver has one thread
    again = sum(count - 1 for count in found.bodies.values())
    assert again <= killed["drivers"] * 2


def test_h11_agents_and_drivers_wait_for_a_server_that_is_away(postgres: Server, tmp_path: Path) -> None:
    place = site.Site(tmp_path, postgres.url, limit=1)
    for number in range(2):
        place.start_agent(number)
    place.ask(3, 40, 0.1)
    try:
        until(lambda: len(queue.open_runs(open_store(postgres.url))) == 2, 120.0)
        postgres.stop()
        until(lambda: all("trying again" in (tmp_path / f"agent-{n}.log").read_text() for n in range(2)), 120.0)
        process, _ = place.agents.pop(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0  # it cannot note that it ends, and ends; its driver goes on
        postgres.start()
        found = place.wait(240.0)
    finally:
        place.end()
    assert "it is not noted that agent" in (tmp_path / "agent-1.log").read_text()
    assert (found.states, set(found.bodies.values()), len(found.bodies)) == ({"Success": 3}, {1}, 120)
