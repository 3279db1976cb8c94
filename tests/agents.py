"""Agents that share a database, and die: many due runs, each once; then kills at random.

``python tests/agents.py due --agents 8 --runs 500`` and ``python tests/agents.py kill --agents 8 --runs 50
--children 200 --seconds 120``; with ``--store postgresql://...`` on a server.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from real import spend, until
from sqlalchemy import select

from prefectish import history
from prefectish.flow_loading import load_flow
from prefectish.history.holders import shown
from prefectish.history.registry_tables import DRIVEN, ENDED, requested
from prefectish.history.store import open_store
from prefectish.registry import queue
from prefectish.registry.deployment import deployments
from prefectish.schedules import Schedule
from prefectish.schedules.clocks import DatesClock

FLOW = """
import os, time
from pathlib import Path
from prefectish import Flow, Parameter, task, unmapped
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult

HERE = Path(__file__).parent

@task
def work(x, run, seconds):
    with open(HERE / "bodies", "a") as file:
        file.write(f"{run} {x}\\n")
    time.sleep(seconds)
    return x

with Flow("shared", executor=LocalDaskExecutor(num_workers=1), result=LocalResult(HERE / "results")) as shared:
    run, seconds = Parameter("run"), Parameter("seconds")
    work.map(Parameter("items"), unmapped(run), unmapped(seconds))
"""
AGENT = """
import logging, sys, time
skew = float(sys.argv[2])
if skew:
    now = time.time
    time.time = lambda: now() + skew
logging.basicConfig(level="INFO")
from prefectish.registry.agent import Agent
Agent(sys.argv[1], limit=int(sys.argv[3])).start()
"""


class Outcome(NamedTuple):
    """What became of the runs."""

    states: Counter[str]
    bodies: Counter[tuple[str, str]]
    parts: int
    seconds: float


class Site:
    """A database, a flow that is deployed there, and agents."""

    def __init__(self, folder: Path, store: str | None, limit: int = 2) -> None:
        self.folder = folder
        self.store = store or str(folder / "history.db")
        self.limit = limit
        (folder / "shared_flow.py").write_text(FLOW)
        self.flow = load_flow(str(folder / "shared_flow.py"))
        self.deployment = self.flow.deploy("site", store=self.store)
        self.agents: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self.asked: list[str] = []

    def start_agent(self, number: int, skew: float = 0.0) -> None:
        """Start an agent, whose clock may be wrong."""
        argv = [sys.executable, "-c", AGENT, self.store, str(skew), str(self.limit)]
        with open(self.folder / f"agent-{number}.log", "ab") as log:
            process = subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log)
        self.agents[number] = process, skew

    def ask(self, runs: int, children: int, seconds: float) -> None:
        """Ask for runs."""
        for number in range(runs):
            values = {"run": str(number), "seconds": seconds, "items": list(range(children))}
            self.asked.append(self.deployment.run(values))

    def are_ready(self) -> bool:
        """Whether all agents look for runs: how long their processes take to begin depends on the machine."""
        logs = [(self.folder / f"agent-{number}.log").read_text() for number in self.agents]
        return all("takes runs from" in log for log in logs)

    def follow(self, count: int, ahead: float) -> datetime:
        """Deploy the flow anew, to run at times that begin so many seconds from now; return the last one."""
        begin = datetime.now(UTC) + timedelta(seconds=ahead)
        times = [begin + timedelta(seconds=2 * number) for number in range(count)]
        values = {"run": "planned", "seconds": 0.0, "items": [0]}
        schedule = Schedule([DatesClock(times)])
        self.deployment = self.flow.deploy(
            "site", store=self.store, parameters=values, schedule=schedule, overlap="allow"
        )
        return times[-1]

    def wait_for_planned(self, last: datetime, timeout: float) -> Outcome:
        """Wait until agents have planned all times up to the last one, and all runs are over."""
        (path, project), store = (self.deployment.path, self.deployment.project), self.store

        def planned_until() -> float:
            (now,) = [each for each in deployments(project, store=store) if each.path == path]
            return float(now._row.planned)

        until(lambda: planned_until() >= last.timestamp() and self.is_over(), timeout)
        with open_store(store).reading() as connection:
            self.asked = list(connection.execute(select(requested.c.run)).scalars())
        return self.outcome(0.0)

    def wait(self, timeout: float) -> Outcome:
        """Wait until all runs are over."""
        began = time.monotonic()
        until(self.is_over, timeout)
        return self.outcome(time.monotonic() - began)

    def is_over(self) -> bool:
        """Whether no run is open, and none waits: of one moment, for a run goes from one to the other."""
        with open_store(self.store).reading() as connection:
            return connection.execute(select(requested.c.run).where(requested.c.state != ENDED)).first() is None

    def outcome(self, seconds: float) -> Outcome:
        """Return what became of the runs."""
        rows = [history.run(run, store=self.store) for run in self.asked]
        lines = (self.folder / "bodies").read_text().splitlines()
        bodies = Counter((line.split()[0], line.split()[1]) for line in lines)
        return Outcome(Counter(row.state for row in rows), bodies, sum(row.part for row in rows), seconds)

    def kill_at_random(self, seconds: float, seed: int) -> Counter[str]:
        """Kill agents and drivers for a while, first a driver whose bodies run; an agent is started again."""
        chance = random.Random(seed)
        end = time.monotonic() + seconds
        # fast machines end runs between two looks, and on busy ones agents would die before their drivers begin
        until(lambda: (self.folder / "bodies").exists() and self.kill_a_driver(chance), 120.0)
        self.kill_an_agent(chance)
        killed = Counter(drivers=1, agents=1)
        while time.monotonic() < end:
            spend(chance.uniform(0.5, 3.0))
            if chance.random() < 0.4:
                self.kill_an_agent(chance)
                killed["agents"] += 1
            else:
                killed["drivers"] += self.kill_a_driver(chance)
        return killed

    def kill_an_agent(self, chance: random.Random) -> None:
        """Kill one of the agents, and start it again."""
        number = chance.choice(sorted(self.agents))
        process, skew = self.agents[number]
        process.kill()
        process.wait()
        self.start_agent(number, skew)

    def kill_a_driver(self, chance: random.Random) -> bool:
        """Kill one of the drivers; whether there was one."""
        drivers = [run for run in queue.open_runs(open_store(self.store)) if run.state == DRIVEN]
        if not drivers:
            return False
        driver = chance.choice(drivers).holder
        assert driver is not None
        try:
            os.kill(int(shown(driver).rpartition(":")[2]), signal.SIGKILL)
        except ProcessLookupError:  # it ended by itself just now
            return False
        return True

    def children_without_a_state(self) -> list[str]:
        """Return the children of runs that have none."""
        left = []
        for run in self.asked:
            row = history.run(run, store=self.store)
            known = {child.index for child in row.children("work")}
            left.extend(f"{run} work[{i}]" for i in range(len(known | {0})) if i not in known)
        return left

    def end(self) -> None:
        """End the agents."""
        for process, _ in self.agents.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in self.agents.values():
            process.wait(60)


def due(site: Site, agents: int, runs: int, skew: float = 0.0, timeout: float = 1800.0) -> Outcome:
    """Let agents take many runs that are due, and return what became of them."""
    for number in range(agents):
        site.start_agent(number, skew if number % 2 else 0.0)
    site.ask(runs, 1, 0.0)
    try:
        return site.wait(timeout)
    finally:
        site.end()


def kill(
    site: Site, agents: int, runs: int, children: int, seconds: float, seed: int = 0, timeout: float = 3600.0
) -> tuple[Outcome, Counter[str]]:
    """Kill agents and drivers at random while runs go on, and return what became of them."""
    for number in range(agents):
        site.start_agent(number)
    site.ask(runs, children, 0.1)
    try:
        killed = site.kill_at_random(seconds, seed)
        return site.wait(timeout), killed
    finally:
        site.end()


def main() -> None:
    """Run one of both and print what became of the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["due", "kill"])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--children", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=1)
    parser.add_argument("--store")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECTISH_HOME"] = os.path.join(folder, "home")
        site = Site(Path(folder), chosen.store, chosen.limit)
        killed: Any = None
        if chosen.what == "due":
            found = due(site, chosen.agents, chosen.runs, chosen.skew)
        else:
            found, killed = kill(site, chosen.agents, chosen.runs, chosen.children, chosen.seconds, chosen.seed)
        twice = sum(count > 1 for count in found.bodies.values())
        print(f"{dict(found.states)}, {found.seconds:.0f} s, killed {dict(killed or {})}, {found.parts} resumes")
        print(f"{len(found.bodies)} children ran, {twice} of them more than once, {timedelta(seconds=found.seconds)}")


if __name__ == "__main__":
    main()
