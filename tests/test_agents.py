"""Several agents on one database: each run once, and none is lost when agents and drivers are killed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import agents as site
import pytest
from postgres import binaries, server

pytestmark = pytest.mark.fault


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[site.Site]:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    if request.param == "sqlite":
        yield site.Site(tmp_path, None, limit=1)
        return
    programs = binaries()
    if programs is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL, or psycopg, is not installed")
    with server(programs) as running:
        yield site.Site(tmp_path, running.url, limit=1)


def test_each_due_run_is_begun_once(place: site.Site) -> None:
    found = site.due(place, agents=4, runs=16, skew=90.0, timeout=240.0)
    assert found.states == {"Success": 16}
    assert (len(found.bodies), set(found.bodies.values()), found.parts) == (16, {1}, 0)


def test_killed_agents_and_drivers_lose_nothing(place: site.Site) -> None:
    found, killed = site.kill(place, agents=3, runs=6, children=30, seconds=20.0, timeout=240.0)
    assert found.states == {"Success": 6}
    assert place.children_without_a_state() == []
    assert len(found.bodies) == 6 * 30
    # what ran when its driver was killed runs again, and nothing whose result is stored: a driver has one thread
    again = sum(count - 1 for count in found.bodies.values())
    assert again <= killed["drivers"] * 2
