"""What becomes of rows of deployments and of runs that are asked for, whoever writes them, dies, or deploys anew."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from postgres import binaries, server
from real import until
from sqlalchemy import insert, select, update

import prefectish
from prefectish import DateTimeParameter, Flow, Parameter, flow, history, task
from prefectish.cli.deploying import app
from prefectish.engine.state import Cancelled, Failed, Running, Success
from prefectish.environments import ContainerEnvironment, LocalEnvironment
from prefectish.environments.as_json import to_json
from prefectish.errors import HistoryWriteError, ParameterError
from prefectish.history import outline, schema, shared_limits
from prefectish.history.registry_tables import ENDED, WAITING, deployments, leases, requested
from prefectish.history.run_requests import last_request, post, requests_of
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store
from prefectish.registry import attached, deploying, drive, driver, queue
from prefectish.registry.agent import Agent
from prefectish.registry.deployment import Content, Deployment, register
from prefectish.registry.options import DeploymentOptions
from prefectish.registry.planning import due_events, plan
from prefectish.registry.source import SourceChanged, source_of
from prefectish.schedules import IntervalSchedule, Schedule
from prefectish.schedules.as_json import to_json as schedule_json
from prefectish.schedules.clocks import DatesClock

LIMIT = 60.0
HOURLY = schedule_json(IntervalSchedule(timedelta(hours=1)))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    return open_store(None)


def deployed(
    store: HistoryStore,
    name: str = "daily",
    environment: Any = None,
    labels: Any = (),
    schedules: Any = (),
    **given: Any,
) -> Deployment:
    source = {"file": "/nowhere/reports.py", "name": name, "digest": given.pop("digest", "1"), "takes": ["factor"]}
    source["types"] = {"factor": {"type": "integer"}}
    content = Content(source, to_json(environment or LocalEnvironment()), {}, list(schedules))
    options = DeploymentOptions.checked(**given)
    return register(store, "sales", name, name, content, labels, options, True, Signer())


def asked(deployment: Deployment, due: float = 100.0, begun_by: str = "schedule", **given: Any) -> str:
    with deployment._store.writing() as connection:
        return queue.ask_for(connection, deployment, given, begun_by=begun_by, due=due, event=f"{begun_by} {due}")


def rows(store: HistoryStore) -> list[Any]:
    with store.reading() as connection:
        return list(connection.execute(select(requested).order_by(requested.c.number)).all())


def begin(store: HistoryStore) -> queue.OpenRun:
    """Take a run and let a driver begin it."""
    taken = queue.take(store, "agent", [], 200.0)
    assert taken is not None
    assert queue.confirm(store, taken.run, taken.claim, "elsewhere:1") is not None
    return next(each for each in queue.open_runs(store) if each.run == taken.run)


def altered(store: HistoryStore, table: Any, **values: Any) -> None:
    with store.writing() as connection:
        connection.execute(update(table).values(**values))


# -- who is taken ----------------------------------------------------------------------------------------------------


def test_runs_that_others_must_take_do_not_hide_the_rest(store: HistoryStore) -> None:
    gpu, plain = deployed(store, "gpu", labels=["gpu"]), deployed(store)
    for number in range(queue.PAGE + 1):
        asked(gpu, due=float(number))
    run = asked(plain)
    taken = queue.take(store, "agent", ["cpu"], 200.0)
    assert taken is not None
    assert taken.run == run


def test_run_that_was_begun_is_continued_while_another_one_is_open(store: HistoryStore) -> None:
    deployment = deployed(store, overlap="skip")
    scheduled = asked(deployment)
    lost = begin(store)
    asked(deployment, 110.0, "manual")
    begin(store)
    assert queue.give_back(store, lost, "its driver is dead", began=True)
    taken = queue.take(store, "agent", [], 200.0)
    assert taken is not None
    assert (taken.run, taken.resumes) == (scheduled, 1)


def test_run_that_waits_to_be_continued_counts_as_open(store: HistoryStore) -> None:
    deployment = deployed(store, overlap="skip")
    first = asked(deployment)
    altered(store, requested, asked=90.0)  # it was there when the time of the next one came
    assert queue.give_back(store, begin(store), "its driver is dead", began=True)
    queue.put_off(store, begin(store), until=1000.0)
    asked(deployment, 110.0)
    assert queue.take(store, "agent", [], 200.0) is None
    assert [row.state for row in rows(store)] == [WAITING, ENDED]
    assert f"run {first} is not over" in rows(store)[1].message


def test_run_that_is_put_off_stays_signed_and_due(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HMAC_KEY", "key of the team")
    asked(deployed(store))
    queue.put_off(store, begin(store), until=150.0)
    (row,) = rows(store)
    assert (row.due, queue.refusal(row)) == (100.0, None)
    assert queue.take(store, "agent", [], 149.0) is None
    assert queue.take(store, "agent", [], 150.0) is not None


# -- who deploys anew ------------------------------------------------------------------------------------------------


def test_times_of_a_schedule_are_not_lost_with_a_new_version(store: HistoryStore) -> None:
    first = deployed(store, schedules=[HOURLY])
    run = asked(first, factor=7)
    altered(store, deployments, planned=100.0)
    second = deployed(store, schedules=[HOURLY], digest="2")
    old, new = rows(store)
    assert (old.run, old.state) == (run, ENDED)
    assert (new.deployment, new.state, new.due, json.loads(new.parameters)) == (
        second.id,
        WAITING,
        100.0,
        {"factor": 7},
    )
    assert second._row.planned == 100.0
    third = deployed(store, schedules=[], digest="2")  # other schedules begin anew
    assert [row.state for row in rows(store)] == [ENDED, ENDED]
    assert third._row.planned > 100.0


def test_archived_deployment_lets_its_runs_go_on(store: HistoryStore) -> None:
    deployment = deployed(store)
    asked(deployment)
    assert queue.give_back(store, begin(store), "its driver is dead", began=True)
    asked(deployment, 110.0)
    deployment.archive()
    assert [row.state for row in rows(store)] == [WAITING, ENDED]


def test_schedule_with_values_for_nobody_is_refused(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "check_in", lambda *_: {"parameters": ["factor"], "needs": []})
    with Flow("daily") as daily:
        pass
    monkeypatch.setattr(deploying, "source_of", lambda *_: {"file": __file__, "name": "daily", "digest": "1"})
    schedule = IntervalSchedule(timedelta(hours=1), parameter_defaults={"fctor": 7})
    with pytest.raises(ParameterError, match="unknown: fctor, by parameter_defaults of the schedule"):
        daily.deploy("sales", schedule=schedule)
    assert prefectish.deployments() == []


def test_run_without_a_value_that_it_needs_is_refused(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "check_in", lambda *_: {"parameters": ["day"], "needs": ["day"]})
    monkeypatch.setattr(deploying, "source_of", lambda *_: {"file": __file__, "name": "daily", "digest": "1"})
    with Flow("daily", schedule=IntervalSchedule(timedelta(hours=1))) as daily:
        pass
    with pytest.raises(ParameterError, match="missing: day; a schedule must find values"):
        daily.deploy("sales")
    with pytest.raises(ParameterError, match="missing: day; sales/daily has no values of them"):
        daily.deploy("sales", schedule=None).run()


class Typed(NamedTuple):
    """Parameters of a flow, in both front ends."""

    made: Any
    right: dict[str, Any]
    wrong: dict[str, Any]


def typed(front: str) -> Typed:
    if front == "flow":
        with Flow("typed") as made:
            DateTimeParameter("day")()
            Parameter("factor", default=2)()
        return Typed(made, {"day": "2026-05-01"}, {"day": "some day"})

    @flow
    def takes(day: date, factor: int = 2) -> None:
        pass

    return Typed(takes, {"day": "2026-05-01"}, {"day": "some day"})


@pytest.mark.parametrize("front", ["flow", "function"])
def test_deployed_values_are_of_the_types_of_parameters(front: str) -> None:
    found = typed(front)
    facts = driver._checked_parameters(found.made, {})
    assert (facts["parameters"], facts["needs"]) == (["day", "factor"], ["day"])
    assert driver._checked_parameters(found.made, found.right)["needs"] == []
    with pytest.raises(ParameterError, match="day"):
        driver._checked_parameters(found.made, found.wrong)


@pytest.mark.fault
def test_those_who_deploy_and_take_at_once_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    programs = binaries()
    if programs is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL, or psycopg, is not installed")
    with server(programs) as running, ThreadPoolExecutor(4) as pool:
        store = open_store(running.url)
        made = list(pool.map(lambda n: deployed(store, overlap="queue", digest=str(n)).version, range(8)))
        assert sorted(made) == list(range(1, 9))
        several = [deployed(store, f"flow {n}", overlap="queue") for n in range(3)]
        for number in range(12):
            asked(several[number % 3], float(number))

        def work(_: int) -> list[str]:
            begun = []
            while queue.waiting(store):
                taken = queue.take(store, "agent", [], 200.0)
                if taken is not None:
                    begun.append(taken.run)
                    queue.end(store, taken.run, taken.claim, "Success", 0)
            return begun

        begun = [run for runs in pool.map(work, range(2)) for run in runs]
        assert sorted(begun) == sorted(row.run for row in rows(store))


# -- clocks that differ ----------------------------------------------------------------------------------------------

#: Seconds between two times, and those of a day of agents: who is at work, by how far its clock is ahead.
EVERY, TURN = 20, 5
SHIFTS = [(0, (90.0,)), (100, (0.0, 90.0)), (200, (0.0,)), (300, (90.0,)), (400, (0.0, 90.0)), (500, (0.0,))]


def begun_by_agents_whose_clocks_differ(store: HistoryStore) -> None:
    """Let agents follow a schedule by turns, and see that each of its times has a run, about when it is due."""
    made = deployed(store, schedules=[schedule_json(IntervalSchedule(timedelta(seconds=EVERY)))], overlap="allow")
    start, begun = made._row.planned, []
    for seconds in range(0, 600, TURN):
        for skew in [skews for first, skews in SHIFTS if first <= seconds][-1]:
            with store.reading() as connection:
                seen = Deployment(store, connection.execute(select(deployments)).one())
            plan(store, seen, start + seconds + skew)
            while (taken := queue.take(store, f"ahead by {skew}", [], start + seconds + skew)) is not None:
                begun.append((taken.due, start + seconds - taken.due))
                queue.end(store, taken.run, taken.claim, "Success", 0)
    times = sorted(due for due, _ in begun)
    assert times == [times[0] + EVERY * number for number in range(len(times))]
    assert times[0] <= start + EVERY
    assert times[-1] >= start + 600 - EVERY - TURN
    assert all(-90 <= late <= TURN for _, late in begun)
    assert not queue.waiting(store)


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(*seconds: float, catch_up: bool = False, **parameters: Any) -> Schedule:
    """Return a schedule of times so many seconds ago."""
    times = [NOW - timedelta(seconds=each) for each in sorted(seconds, reverse=True)]
    return Schedule([DatesClock(times, parameter_defaults=parameters)], catch_up=catch_up)


@pytest.mark.parametrize(
    ("schedules", "made_up"),
    [
        ([at(10), at(3600)], [10]),
        ([at(10, 7200), at(3600)], [10]),
        ([at(7200, 1800), at(3600, 900)], [900]),
        ([at(100, 10), at(110, 3600)], [110, 100, 10]),
        ([at(10, x=1), at(3600, x=2)], [3600, 10]),
        ([at(10), at(7200, 3600, catch_up=True)], [7200, 3600, 10]),
        ([at(7200), at(3600, catch_up=True)], [3600]),
    ],
)
def test_of_times_of_several_schedules_that_were_missed_the_last_is_made_up_for(
    schedules: list[Schedule], made_up: list[float]
) -> None:
    begin = NOW.timestamp() - 86400
    for order in permutations(schedules):
        events = due_events(order, begin, NOW.timestamp(), catch_up=False, late=120.0)
        assert [(NOW - event.instant).total_seconds() for event in events] == made_up


def test_times_of_a_schedule_are_followed_once_by_agents_whose_clocks_differ(store: HistoryStore) -> None:
    begun_by_agents_whose_clocks_differ(store)


@pytest.mark.fault
def test_times_of_a_schedule_are_followed_once_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    programs = binaries()
    if programs is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL, or psycopg, is not installed")
    with server(programs) as running:
        begun_by_agents_whose_clocks_differ(open_store(running.url))


def test_schedule_that_cannot_be_followed_does_not_end_agents(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    of_later = {**HOURLY, "clocks": [{**HOURLY["clocks"][0], "kind": "lunar"}]}
    deployed(store, "odd", schedules=[of_later])
    deployed(store, schedules=[HOURLY])
    altered(store, deployments, planned=time.time() - 7200)
    with caplog.at_level("ERROR", logger="prefectish.registry"):
        Agent(limit=1)._plan()
    assert [row.deployment for row in rows(store)] == [2]
    assert "sales/odd is not run by this agent: its schedule cannot be followed" in caplog.text


@pytest.mark.parametrize("front", ["flow", "function"])
def test_agent_gets_a_run_without_a_change_of_what_is_deployed(
    front: str, store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "check_in", lambda *_: {"parameters": ["day"], "needs": []})
    monkeypatch.setattr(deploying, "source_of", lambda *_: {"file": __file__, "name": "daily", "digest": "1"})
    made: Any
    if front == "flow":
        with Flow("daily") as made:
            DateTimeParameter("day")()
    else:

        @flow(name="daily")
        def made(day: datetime) -> None:
            pass

    place = LocalEnvironment(env_vars={"STAGE": "live"})
    hourly = IntervalSchedule(timedelta(hours=1))
    first = made.deploy("sales", environment=place, schedule=hourly, labels=["live"], overlap="queue")
    run = made.start(detach="sales", day="2026-05-01")
    (now,) = prefectish.deployments("sales")
    assert (now.id, now.active, now.labels, now.options.overlap) == (first.id, True, ("live",), "queue")
    assert (now.environment.env_vars, len(now.schedules)) == ({"STAGE": "live"}, 1)
    assert json.loads(queue.row_of(store, run.id).parameters) == {"day": "2026-05-01"}
    with pytest.raises(TypeError, match="must leave timeout to sales/daily"):
        made.start(detach="sales", day="2026-05-01", timeout=3)


# -- what is signed --------------------------------------------------------------------------------------------------


def test_run_of_a_schedule_that_nobody_signed_is_refused(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HMAC_KEY", "key of the team")
    run = asked(deployed(store), factor=1)
    altered(store, requested, parameters=json.dumps({"factor": 2}))
    Agent().start(once=True)
    state = prefectish.attach(run).wait(LIMIT)
    assert isinstance(state, Failed)
    assert "its signature does not fit" in str(state.message)
    row = history.run(run)
    assert (row.deployment, row.deployment_version, row.trigger) == ("sales/daily", 1, "schedule")


def test_lost_run_of_what_nobody_signed_starts_nothing(
    store: HistoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\n")
    program.chmod(0o755)
    run = asked(deployed(store, environment=LocalEnvironment(python=program), on_lost="fail"))
    begin(store)
    code = "from prefectish.history.holders import own_holder; print(own_holder())"
    gone = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    altered(store, requested, driver=gone.stdout.strip())
    monkeypatch.setenv("PREFECTISH_HMAC_KEY", "key of the team")
    Agent().start(once=True)
    state = prefectish.attach(run).wait(LIMIT)
    assert isinstance(state, Failed)
    assert "it is not signed" in str(state.message)
    assert not (tmp_path / "begun").exists()


def test_pickle_with_a_signature_that_nobody_checks_is_not_loaded(store: HistoryStore) -> None:
    asked(deployed(store))
    pickled = {"pickle": "gASVCgAAAAAAAACMBnBpY2tsZZQu", "name": "daily", "digest": "1", "takes": []}
    altered(store, deployments, source=json.dumps(pickled), signature="of somebody")
    (row,) = rows(store)
    with store.reading() as connection:
        deployment = Deployment(store, connection.execute(select(deployments)).one())
    with pytest.raises(SourceChanged, match="a pickled flow must be signed"):
        driver._loaded(row, deployment, {"is_signed": False})


# -- what dies -------------------------------------------------------------------------------------------------------


def test_drivers_that_die_before_they_begin_are_replaced_and_then_given_up(store: HistoryStore, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $4 >> {tmp_path}/begun\nkill -9 $$\n")
    program.chmod(0o755)
    run = asked(deployed(store, environment=LocalEnvironment(python=program), max_resumes=2))
    Agent().start(once=True)
    state = prefectish.attach(run).wait(LIMIT)
    assert isinstance(state, Failed)
    assert str(state.message).startswith("driver-lost: its driver ended with code -9, after 2 resumes")
    assert len((tmp_path / "begun").read_text().splitlines()) == 4  # the last one was to end it


def test_environment_that_cannot_be_understood_fails_its_run_and_no_agent(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECTISH_BUILDAH_OPTIONS", "--root 'somewhere")
    environment = ContainerEnvironment("base", builder="buildah")
    environment.image = "localhost/daily"
    run = asked(deployed(store, environment=environment))
    Agent().start(once=True)
    assert prefectish.attach(run).state.message == "ValueError('No closing quotation')"


def test_full_disk_ends_no_agent(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = asked(deployed(store))
    monkeypatch.setattr("prefectish.registry.agent.STANDS_STILL_AFTER", 0.2)
    write, full = os.open, [True]

    def open_file(path: Any, *arguments: Any, **options: Any) -> int:
        if full and str(path).endswith(".json"):
            full.clear()
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments, **options)

    monkeypatch.setattr("prefectish.registry.agent.os.open", open_file)
    agent = Agent()
    working = threading.Thread(target=agent.start)
    working.start()
    try:
        state = prefectish.attach(run).wait(LIMIT)
        until(lambda: not agent._drivers, LIMIT)  # its process has ended too
    finally:
        agent.stop()
        working.join()
    assert "No space left on device; trying again" in caplog.text
    assert "/nowhere/reports.py" in str(state.message)  # its driver was started then


def test_output_of_a_driver_is_kept_though_its_agent_died(store: HistoryStore, tmp_path: Path) -> None:
    run = asked(deployed(store))
    taken = queue.take(store, "agent", [], 200.0)
    assert taken is not None
    folder = tmp_path / "home" / "agent"
    folder.mkdir()
    file = folder / f"{run}-{taken.claim[:8]}.json"
    file.write_text("{}")
    file.with_suffix(".log").write_text("what it printed\n")
    agent = Agent()
    agent._collect_orphans()
    assert file.exists()  # its driver may be at work
    assert queue.end(store, run, taken.claim, "Success: all well", 0)
    agent._collect_orphans()
    assert list(folder.iterdir()) == []
    assert rows(store)[0].output == "what it printed\n"


def test_run_is_cancelled_while_its_driver_starts(store: HistoryStore) -> None:
    run = asked(deployed(store))
    taken = queue.take(store, "agent", [], 200.0)
    assert taken is not None
    handle = prefectish.attach(run)
    handle.cancel()
    assert isinstance(handle.state, Cancelled)
    assert queue.confirm(store, run, taken.claim, "driver") is None


def test_run_that_is_cancelled_before_it_is_continued_has_ended_in_the_history(store: HistoryStore) -> None:
    run = asked(deployed(store))
    lost = begin(store)
    facts = {"id": run, "flow_name": "daily", "name": run, "started": 1.0, "heartbeat": 1.0, "part": 0}
    with store.writing() as connection:
        connection.execute(insert(schema.runs).values(state=schema.CODES["Running"], **facts))
    assert queue.give_back(store, lost, "its driver is dead", began=True)
    handle = prefectish.attach(run)
    assert isinstance(handle.state, Running)
    handle.cancel()
    assert isinstance(handle.state, Cancelled)
    assert history.run(run).state == "Cancelled"


def test_request_that_a_dead_driver_left_is_answered(store: HistoryStore) -> None:
    with Flow("daily") as daily:
        task(lambda: 1)()
    row = history.run(daily.run().context["flow_run_id"])
    with store.writing() as connection:
        number = post(connection, row._number, "pause", {}, Signer())
        assert last_request(connection, row._number) == number
    (found,) = requests_of(store, row._number)
    assert "the driver of the run died before; ask again" in str(found.error)


def test_limit_is_not_taken_from_a_machine_whose_clock_is_behind(store: HistoryStore) -> None:
    facts = {"holder": "elsewhere:1#boot.1.1", "size": 1, "wanted": 1, "beat": 3, "seen": time.time() - 90}
    with store.writing() as connection:
        connection.execute(insert(leases).values(name="db", run="other", **facts))
    keeper = shared_limits.LeaseKeeper.__new__(shared_limits.LeaseKeeper)
    keeper._seen = {}
    with store.writing() as connection:
        row = connection.execute(select(leases)).one()
        assert keeper._lives(connection, row, 0.0)
        assert not keeper._lives(connection, row, shared_limits.STANDS_STILL_AFTER + 1)


def test_history_that_is_gone_does_not_hide_a_run(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = asked(deployed(store))

    class Gone:
        """A history on a server that does not answer."""

        def reading(self) -> Any:
            raise HistoryWriteError("the server does not answer")

    monkeypatch.setattr(outline, "open_stores", lambda: [Gone()])
    assert prefectish.attach(run).id == run


def test_commands_have_codes_and_json(store: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    deployed(store)

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            app(list(words))
        return (end.value.code, *capsys.readouterr())

    code, _, said = call("attach", "of-nobody")
    assert (code, said) == (2, f"prefectish: no run 'of-nobody' in the history {store.location}\n")
    code, printed, _ = call("trigger", "sales/daily", "-p", "factor=2", "--json")
    assert code == 0
    assert queue.row_of(store, json.loads(printed)["id"]) is not None
    code, _, said = call("trigger", "sales/daily", "-p", "fctor=2")
    assert (code, said.rpartition("; ")[2]) == (2, "did you mean 'factor', not 'fctor'?\n")
    code, _, said = call("trigger", "sales/daily", "-p", "factor=many")
    assert code == 2
    assert said.startswith("prefectish: parameter 'factor' must be int, got 'many': Input should be a valid integer")
    assert len(rows(store)) == 1
    assert call("trigger", "sales/nothing")[0] == 2
    code, printed, _ = call("archive", "sales/daily", "--json")
    facts = json.loads(printed)
    assert (code, facts["project"], facts["name"], facts["version"]) == (0, "sales", "daily", 1)
    assert facts["archived"] is not None
    assert call("archive", "sales/daily")[0] == 2


NOTEBOOK = """
from prefectish import Flow, flow, task
RATE = {rate}
def helper(x):
    return x * {factor}
@task
def step(x):
    return helper(x) * RATE
with Flow("graph") as graph:
    step(1)
@flow
def function():
    return step(1)
"""


@pytest.mark.parametrize("front", ["graph", "function"])
def test_flow_of_a_notebook_has_a_version_for_each_content(front: str) -> None:
    def digest(**values: int) -> str:
        space: dict[str, Any] = {"__name__": "cells"}
        exec(NOTEBOOK.format(**values), space)
        return str(source_of(space[front], has_key=True)["digest"])

    first = digest(rate=1, factor=1)
    assert digest(rate=1, factor=1) == first
    assert len({first, digest(rate=2, factor=1), digest(rate=1, factor=2)}) == 3


@pytest.mark.parametrize("front", ["flow", "function"])
def test_client_of_this_process_is_not_sent_away(front: str, store: HistoryStore) -> None:
    class WithClient:
        client = object()

    made: Any
    if front == "flow":
        with Flow("daily", executor=WithClient()) as made:
            DateTimeParameter("day")()
    else:

        @flow(executor=WithClient())
        def made(day: str) -> None:
            pass

    with pytest.raises(TypeError, match="without client="):
        made.start(detach=True, day="2026-05-01")


# -- waiting for a run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", range(8))
def test_whoever_waits_for_a_run_gets_its_last_state_at_whichever_moment_it_ends(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """It ends before one of the reads of its record, or of its request."""
    run = asked(deployed(store))
    claim = begin(store).claim
    reads = iter(range(99))

    def ends_before(read: Any) -> Any:
        def reading(*args: Any) -> Any:
            if next(reads) == before:
                drive.record_end(store, run, "daily", Success("All went well."), None)
                queue.end(store, run, claim, "Success: All went well.", 0)
            return read(*args)

        return reading

    monkeypatch.setattr(attached, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(attached, "recorded_row", ends_before(attached.recorded_row))
    monkeypatch.setattr(queue, "row_of", ends_before(queue.row_of))
    state = attached.AttachedRun(store, run).wait(60)
    assert (type(state), state.message) == (Success, "All went well.")
