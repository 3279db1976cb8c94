"""Deployments, requested runs, and the agent that begins them; drivers are real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from real import meanwhile, until
from typer.testing import CliRunner

import prefectish
from prefectish import Flow, history, task
from prefectish.cli.deploying import app
from prefectish.engine.state import Cancelled, Failed, Scheduled, Success
from prefectish.environments import CommandEnvironment, EnvironmentFailed, LocalEnvironment
from prefectish.errors import FlowDefinitionError, HistoryUnavailable, NotDeployed, ParameterError, RunNotActive
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.flow_loading import load_flow
from prefectish.history import registry_tables, schema
from prefectish.history.holders import shown
from prefectish.history.run_requests import requester
from prefectish.history.store import open_store
from prefectish.registry import driver, queue
from prefectish.registry.agent import Agent
from prefectish.registry.drive import BEAT, LOCKED
from prefectish.registry.planning import plan
from prefectish.schedules import IntervalSchedule, Schedule
from prefectish.schedules.clocks import Clock
from prefectish.tasks.flows import RunFlow

LIMIT = 60.0
SOURCE = '''
"""A flow that is deployed."""
import os, time
from pathlib import Path
from datetime import timedelta
from prefectish import Flow, Parameter, flow, task, unmapped
from prefectish.executors import LocalDaskExecutor
from prefectish.schedules import IntervalSchedule

HERE = Path(__file__).parent

@task
def load(x, factor):
    with open(HERE / "bodies", "a") as file:
        file.write(f"{x}\\n")
    gate = HERE / f"gate-{x}"
    while gate.exists():
        time.sleep(0.02)
    if (HERE / f"broken-{x}").exists():
        raise OSError(x)
    return factor * x

@task
def total(values):
    return sum(values)

def tell(flow, state):
    (HERE / "told").write_text(f"{flow.name}: {state.message}")

with Flow("report", on_failure=tell, schedule=IntervalSchedule(timedelta(hours=1)),
          executor=LocalDaskExecutor(num_workers=2)) as report:
    factor = Parameter("factor", default=2)
    sums = total(load.map(list(range(4)), unmapped(factor)))

@flow(name="calls", on_failure=lambda flow, state: tell(flow, state))
def calls(factor: int = 2):
    return total(load.map(range(4), unmapped(factor)).result())
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "reports.py").write_text(SOURCE)
    before = set(sys.modules), list(sys.path)
    yield tmp_path / "flows"
    for name in set(sys.modules) - before[0]:
        if name == "reports":
            del sys.modules[name]
    sys.path[:] = before[1]


@pytest.fixture(params=["report", "calls"])
def flow(place: Path, request: pytest.FixtureRequest) -> Any:
    """The same flow in both front ends."""
    return load_flow(f"{place / 'reports.py'}:{request.param}")


def bodies(place: Path) -> list[int]:
    path = place / "bodies"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_deployed_flow_runs_when_it_is_asked_to(flow: Any, place: Path) -> None:
    deployment = flow.deploy("sales", parameters={"factor": 3})
    assert (deployment.path, deployment.version, deployment.archived) == (f"sales/{flow.name}", 1, None)
    run_id = deployment.run()
    assert isinstance(prefectish.attach(run_id).state, Scheduled)
    Agent().start(once=True)
    state = prefectish.attach(run_id).wait(LIMIT)
    assert isinstance(state, Success)
    row = history.run(run_id)
    assert (row.trigger, row.deployment, row.deployment_version) == ("manual", deployment.path, 1)
    assert row.agent is not None
    assert row.scheduled_for is not None
    assert sorted(bodies(place)) == [0, 1, 2, 3]


def test_run_that_ended_is_continued_by_an_agent_that_is_asked_on_the_page(flow: Any, place: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("httpx2")
    from ui_browser import browser, post

    (place / "broken-2").touch()
    run_id = flow.deploy("sales").run()
    Agent().start(once=True)
    assert prefectish.attach(run_id).wait(LIMIT).is_failed()
    with browser(None) as client:
        page = client.get(f"/api/runs/{run_id}").json()
        assert (page["again"], page["again_refused"]) == ("retry", None)
        assert dict(page["facts"])["asked for by"].endswith(" (manual)")
        assert "Retry failed" in client.get(f"/runs/{run_id}").text
        (place / "broken-2").unlink()
        answer = post(client, f"/runs/{run_id}/ask", verb="continue")
        assert answer.status_code == 200, answer.text
        assert "asked to run again what failed: no agent is at work" in answer.text
        refused = post(client, f"/runs/{run_id}/ask", verb="continue")
        assert "an agent has it already" in refused.text
        Agent().start(once=True)
        page = client.get(f"/api/runs/{run_id}").json()
    assert (page["run"]["state"], page["again"], page["resume_command"]) == ("Success", None, None)
    assert dict(page["facts"])["asked for by"].endswith(", on the page (retry)")
    row = history.run(run_id)
    assert (row.trigger, row.part) == ("resume", 1)
    assert bodies(place).count(2) == 2


def test_same_content_is_no_new_version_and_changed_content_archives_the_former(flow: Any, place: Path) -> None:
    first = flow.deploy("sales")
    assert flow.deploy("sales").id == first.id == flow.register("sales").id  # its name in Prefect 0.x
    assert flow.register("sales", parameters={"factor": 5}).version == 2
    (place / "reports.py").write_text(SOURCE + "# changed\n")
    third = flow.deploy("sales", parameters={"factor": 5})
    known = prefectish.deployments("sales", archived=True)
    assert [(d.version, d.archived is None) for d in known] == [(1, False), (2, False), (3, True)]
    assert [d.id for d in prefectish.deployments("sales")] == [third.id]
    with pytest.raises(NotDeployed, match=r"version 1 of sales/.* is archived"):
        first.run()


def test_flow_that_cannot_be_loaded_in_its_environment_is_not_registered(flow: Any, place: Path) -> None:
    (place / "reports.py").write_text("import module_that_is_not_there\n")
    with pytest.raises(EnvironmentFailed, match="module_that_is_not_there"):
        flow.deploy("sales")
    (place / "reports.py").write_text(SOURCE)
    with pytest.raises(EnvironmentFailed, match="unknown: fctor; the flow has factor"):
        flow.deploy("sales", parameters={"fctor": 3})
    with pytest.raises(EnvironmentFailed, match="'TOKEN_OF_NOBODY' is not known"):
        flow.deploy("sales", environment=LocalEnvironment(secrets=["TOKEN_OF_NOBODY"]))
    assert prefectish.deployments() == []


def test_deploy_while_the_file_is_loaded_names_the_guard(place: Path) -> None:
    (place / "reports.py").write_text(SOURCE + "\nreport.deploy('sales')\n")
    done = subprocess.run([sys.executable, "reports.py"], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "if __name__ == '__main__':" in done.stderr
    assert prefectish.deployments() == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"overlap": "never"}, ValueError, "overlap must be one of 'skip', 'queue', 'allow', 'cancel', got 'never'"),
        ({"on_lost": "panic"}, ValueError, "on_lost must be one of"),
        ({"max_resumes": -1}, ValueError, "max_resumes must be an int >= 0"),
        ({"parameters": {"factor": {1}}}, ValueError, "parameter 'factor' must be JSON"),
        ({"labels": [3]}, TypeError, "labels must be a list of non-empty strings"),
        ({"environment": "docker"}, TypeError, "environment must be one of prefectish.environments"),
        ({"schedule": "hourly"}, FlowDefinitionError, "schedule must be a Schedule, a list of them, or None"),
        ({"name": "a/b"}, FlowDefinitionError, "without '/'"),
        ({"name": ".."}, FlowDefinitionError, "more than dots"),
    ],
)
def test_impossible_options_are_refused(
    place: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    with pytest.raises(error, match=message):
        flow.deploy("sales", **options)


def test_flow_that_no_file_has_is_deployed_only_with_a_signature(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @task
    def five() -> int:
        return 5

    with Flow("local") as local:
        five()
    with pytest.raises(FlowDefinitionError, match=r"must be a global of a file or module.*PREFECTISH_HMAC_KEY"):
        local.deploy("sales", environment=LocalEnvironment())
    monkeypatch.setenv("PREFECTISH_HMAC_KEY", "key of the team")
    run_id = local.deploy("sales", environment=LocalEnvironment()).run()
    Agent().start(once=True)
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)


def test_agent_with_a_key_refuses_what_is_not_signed_or_was_altered(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = flow.deploy("sales").run()
    monkeypatch.setenv("PREFECTISH_HMAC_KEY", "key of the team")
    Agent().start(once=True)
    state = prefectish.attach(unsigned).wait(LIMIT)
    assert isinstance(state, Failed)
    assert "it is not signed" in str(state.message)
    signed = flow.deploy("sales").run()
    altered = flow.deploy("sales").run({"factor": 3})
    store = open_store(None)
    with store.writing() as connection:
        table = queue.requested
        change = table.update().where(table.c.run == altered).values(parameters=json.dumps({"factor": 4}))
        connection.execute(change)
    Agent().start(once=True)
    assert isinstance(prefectish.attach(signed).wait(LIMIT), Success)
    state = prefectish.attach(altered).wait(LIMIT)
    assert isinstance(state, Failed)
    assert "signature does not fit" in str(state.message)


def test_labels_choose_the_agent(flow: Any) -> None:
    run_id = flow.deploy("sales", labels=["gpu"]).run()
    Agent(labels=["cpu"]).start(once=True)
    assert isinstance(prefectish.attach(run_id).state, Scheduled)
    Agent(labels=["cpu", "gpu"]).start(once=True)
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)


def test_time_of_a_run(flow: Any) -> None:
    deployment = flow.deploy("sales")
    run_id = deployment.run(at=timedelta(hours=1))
    Agent().start(once=True)
    run = prefectish.attach(run_id)
    assert isinstance(run.state, Scheduled)
    run.cancel()
    assert isinstance(run.state, Cancelled)
    with pytest.raises(ParameterError, match=r"unknown: fctor; sales/.* takes factor"):
        deployment.run({"fctor": 3})
    with pytest.raises(ValueError, match="at must have a time zone"):
        deployment.run(at=datetime(2030, 1, 1))


# -- schedules -------------------------------------------------------------------------------------------------------


def planned(flow: Any, **options: Any) -> list[tuple[str, str, float]]:
    """Deploy a flow, plan it three hours on, twice, and return what is asked for."""
    deployment = flow.deploy("sales", **options)
    now = datetime.now(UTC).timestamp() + 3 * 3600
    plan(deployment._store, deployment, now)
    plan(deployment._store, deployment, now)  # by another agent, that knows the same
    table = queue.requested
    with deployment._store.reading() as connection:
        rows = connection.execute(table.select().order_by(table.c.due)).all()
    return [(row.begun_by, row.parameters, row.due) for row in rows]


def test_of_missed_times_the_last_is_made_up_for(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    found = planned(flow)
    assert [by for by, _, _ in found] == ["schedule"]


def test_all_missed_times_are_made_up_for_on_demand(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    found = planned(flow, catch_up=True)
    assert len(found) == 3
    assert len({due for _, _, due in found}) == 3


def test_several_schedules_with_parameters(flow: Any) -> None:
    hourly = IntervalSchedule(timedelta(hours=1), parameter_defaults={"factor": 7})
    daily = IntervalSchedule(timedelta(hours=2), parameter_defaults={"factor": 8})
    found = planned(flow, schedule=[hourly, daily])
    assert {json.loads(parameters)["factor"] for _, parameters, _ in found} == {7, 8}


def test_inactive_or_archived_deployments_have_no_times(flow: Any) -> None:
    schedule = IntervalSchedule(timedelta(hours=1))
    idle = flow.deploy("sales", schedule=schedule, set_schedule_active=False)
    assert idle.next() == []
    assert planned(flow, schedule=schedule, set_schedule_active=False) == []
    active = flow.deploy("sales", schedule=schedule)
    assert (active.id, len(active.next(3))) == (idle.id, 3)
    active.archive()
    assert planned_after_archive(active) == []


def planned_after_archive(deployment: Any) -> list[Any]:
    plan(deployment._store, deployment, datetime.now(UTC).timestamp() + 7200)
    table = queue.requested
    with deployment._store.reading() as connection:
        return list(connection.execute(table.select().where(table.c.state == "waiting")).all())


def taken_with_times(place: Path, policy: str, times: Sequence[float]) -> list[Any]:
    """Take what may begin of runs of these times, in seconds from now, while the first one is driven."""
    deployment = load_flow(f"{place / 'reports.py'}:report").deploy("sales", overlap=policy)
    store, now = deployment._store, datetime.now(UTC).timestamp()
    for number, seconds in enumerate(times):
        with store.writing() as connection:
            queue.ask_for(connection, deployment, {}, begun_by="schedule", due=now + seconds, event=str(number))
    first = queue.take(store, "agent", [], now + 200.0)
    assert first is not None
    assert queue.confirm(store, first.run, first.claim, "driver") is not None
    queue.take(store, "agent", [], now + 200.0)
    with store.reading() as connection:
        table = queue.requested
        return list(connection.execute(table.select().order_by(table.c.due, table.c.number)).all())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", ["driven", "ended"]), ("queue", ["driven", "waiting"]), ("allow", ["driven", "claimed"])],
)
def test_overlap_of_scheduled_runs(place: Path, policy: str, expected: list[str]) -> None:
    assert [row.state for row in taken_with_times(place, policy, [-1.0, 100.0])] == expected


@pytest.mark.parametrize(
    "times", [[-7200.0, -3600.0], [-1.0, -1.0], [100.0, 100.0]], ids=["missed", "at once", "at once, taken in time"]
)
def test_times_that_were_missed_or_are_the_same_follow_one_another(place: Path, times: list[float]) -> None:
    assert [row.state for row in taken_with_times(place, "skip", times)] == ["driven", "waiting"]


def test_of_times_that_would_cancel_one_another_the_newest_runs(place: Path) -> None:
    *left, last = taken_with_times(place, "cancel", [-7200.0, -3600.0, -1.0])
    assert last.state == "driven"
    assert [(row.state, row.message) for row in left] == [
        ("ended", f"left out: run {last.run} takes its place (overlap='cancel')")
    ] * 2


# -- what dies -------------------------------------------------------------------------------------------------------


def agent_process(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    code = "import logging, sys; logging.basicConfig(level='INFO'); from prefectish.registry.agent import Agent; "
    code += "Agent().start(once='once' in sys.argv)"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=place)


def driver_of(run_id: str) -> int:
    row = until(lambda: (r := queue.row_of(open_store(None), run_id)) is not None and r.driver and r, LIMIT)
    return int(shown(row.driver).rpartition(":")[2])


def test_run_whose_driver_is_killed_is_continued_from_its_record(flow: Any, place: Path) -> None:
    (place / "gate-2").touch()
    run_id = flow.deploy("sales").run()
    agent = agent_process(place)
    try:
        until(lambda: 2 in bodies(place), LIMIT)
        os.kill(driver_of(run_id), signal.SIGKILL)
        (place / "gate-2").unlink()
        state = prefectish.attach(run_id).wait(LIMIT)
    finally:
        agent.terminate()
        agent.wait(LIMIT)
    assert isinstance(state, Success)
    row = history.run(run_id)
    assert (row.trigger, row.part) == ("resume", 1)


DIES = """
import os, signal, sys
from prefectish.history.recorder import HistoryRecorder
from prefectish.registry import agent, driver, queue

def dies_after(owner, name):
    do = getattr(owner, name)
    def then(*arguments, **options):
        do(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, then)

moment, *words = sys.argv[1:]
moments = {
    "taken": (queue, "take"), "begun": (agent.Agent, "_start_driver"), "confirmed": (queue, "confirm"),
    "recorded": (HistoryRecorder, "started"), "ran": (driver, "drive"), "ended": (queue, "end"),
}
dies_after(*moments[moment])
driver.main(words) if words else agent.Agent().start()
"""


@pytest.mark.parametrize(
    ("front", "moment", "resumes", "times"),
    [
        ("report", "confirmed", 1, 1), ("calls", "recorded", 1, 1), ("report", "ran", 1, 1), ("calls", "ran", 1, 1),
        ("report", "ended", 0, 1), ("calls", "taken", 0, 1), ("report", "begun", 0, 1),
    ],
)  # fmt: skip
def test_run_survives_a_death_at_each_moment(place: Path, front: str, moment: str, resumes: int, times: int) -> None:
    """The first driver, or the first agent, dies once something was done, and before anything else is."""
    (place / "dies.py").write_text(DIES)
    program, died = place / "program", place / "died"
    dies = f"{sys.executable} {place}/dies.py {moment}"
    program.write_text(
        f'#!/bin/sh\nif [ "$3" = run ] && [ ! -e {died} ]; then touch {died}; exec {dies} run "$4"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    if moment in ("taken", "begun"):  # of an agent
        died.touch()
    flow = load_flow(f"{place / 'reports.py'}:{front}")
    run_id = flow.deploy("sales", environment=LocalEnvironment(python=program, working_dir=place)).run()
    if moment in ("taken", "begun"):
        done = subprocess.run([*dies.split()], cwd=place, check=False)
        assert done.returncode == -signal.SIGKILL
    Agent().start(once=True)
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)
    row = until(lambda: (r := queue.row_of(open_store(None), run_id)).state == registry_tables.ENDED and r, LIMIT)
    assert (row.resumes, row.message[:7]) == (resumes, "Success")
    assert {x: bodies(place).count(x) for x in range(4)} == dict.fromkeys(range(4), times)
    assert [run.id for run in history.runs()] == [run_id]


def test_h11_driver_that_finds_the_database_locked_begins_later(
    flow: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: a real lock would have to last for longer than SQLite waits."""
    run_id = flow.deploy("sales").run()
    store = open_store(None)
    taken = queue.take(store, "agent", [], datetime.now(UTC).timestamp())
    assert taken is not None
    facts = {"store": store.address, "run": run_id, "claim": taken.claim, "is_signed": False}
    file = place / "facts.json"
    file.write_text(json.dumps(facts))
    monkeypatch.setattr("logging.basicConfig", lambda **options: None)  # it is for a process of its own
    away = iter([True, True, False])
    confirm = queue.confirm

    def confirmed(*arguments: Any) -> Any:
        if next(away):
            raise HistoryUnavailable("database is locked")
        return confirm(*arguments)

    def drive(*arguments: Any, **options: Any) -> Any:
        raise HistoryUnavailable("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr("prefectish.history.store.RETRY_INTERVAL", 0.01)
        patch.setattr("prefectish.registry.queue.confirm", confirmed)
        patch.setattr("prefectish.registry.driver.drive", drive)
        assert driver.main(["run", str(file)]) == LOCKED
    row = queue.row_of(store, run_id)
    assert (row.state, row.resumes) == (registry_tables.DRIVEN, 0)
    assert driver.run(facts) == 0  # no other driver: this one has noted that it has begun
    with monkeypatch.context() as patch:
        patch.setattr("prefectish.history.store.PATIENCE", 0.0)
        patch.setattr("prefectish.registry.queue.confirm", drive)
        assert driver.main(["run", str(file)]) == LOCKED  # before it has begun


def test_h11_driver_that_waited_for_the_database_in_vain_is_begun_again(flow: Any, place: Path) -> None:
    program = place / "program"
    program.write_text(f"""#!/bin/sh
if [ "$3" = run ] && [ ! -e {place}/waited ]; then touch {place}/waited; exit {LOCKED}; fi
exec {sys.executable} "$@"
""")
    program.chmod(0o755)
    run_id = flow.deploy("sales", environment=LocalEnvironment(python=program, working_dir=place)).run()
    Agent().start(once=True)
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)
    assert queue.row_of(open_store(None), run_id).resumes == 1


def test_run_whose_driver_is_told_to_end_is_handed_on(flow: Any, place: Path) -> None:
    """As `scancel`, a preempting queue or the shutdown of a machine does it."""
    (place / "gate-2").touch()
    run_id = flow.deploy("sales").run()
    agent = agent_process(place)
    try:
        until(lambda: 2 in bodies(place), LIMIT)
        os.kill(driver_of(run_id), signal.SIGTERM)
        until(lambda: queue.row_of(open_store(None), run_id).resumes, LIMIT)
        (place / "gate-2").unlink()
        state = prefectish.attach(run_id).wait(LIMIT)
    finally:
        (place / "gate-2").unlink(missing_ok=True)
        agent.terminate()
        agent.wait(LIMIT)
    assert isinstance(state, Success)
    row = history.run(run_id)
    assert (row.trigger, row.part, row.exit_code) == ("resume", 1, 0)
    assert not (place / "told").exists()
    assert queue.row_of(open_store(None), run_id).resumes == 1


def told_to_end(flow: Any, place: Path, **options: Any) -> str:
    """Deploy and run a flow, tell its driver to end, and return the run once the agent has ended."""
    (place / "gate-2").touch()
    run_id = flow.deploy("sales", **options).run()
    agent = agent_process(place)
    try:
        until(lambda: 2 in bodies(place), LIMIT)
        agent.terminate()  # it begins nothing more
        agent.wait(LIMIT)
        os.kill(driver_of(run_id), signal.SIGTERM)
        until(lambda: history.run(run_id).ended is not None, LIMIT)
        until(lambda: queue.row_of(open_store(None), run_id).state != registry_tables.DRIVEN, LIMIT)
    finally:
        (place / "gate-2").unlink()
    return str(run_id)


def test_run_whose_driver_is_told_to_end_ends_if_it_is_not_to_be_continued(flow: Any, place: Path) -> None:
    run_id = told_to_end(flow, place, on_lost="fail")
    Agent().start(once=True)
    row = history.run(run_id)
    assert (row.message, row.exit_code, row.part) == ("terminated", 143, 0)
    assert prefectish.attach(run_id).state.is_finished()


def test_run_that_waits_for_its_next_driver_can_be_cancelled(flow: Any, place: Path) -> None:
    run_id = told_to_end(flow, place)
    run = prefectish.attach(run_id)
    assert not run.state.is_finished()
    run.cancel()
    assert isinstance(run.wait(LIMIT), Cancelled)
    assert history.run(run_id).state == "Cancelled"


def test_next_driver_has_what_is_left_of_the_time_limit(flow: Any, place: Path) -> None:
    run_id = told_to_end(flow, place, timeout=1000)
    with open_store(None).writing() as connection:
        connection.execute(schema.runs.update().values(started=schema.runs.c.started - 2000))
    Agent().start(once=True)
    state = prefectish.attach(run_id).wait(LIMIT)
    assert not state.is_successful()
    found = [child.message for child in history.run(run_id).children("load")]
    assert any("took longer than its timeout of 1000 s" in str(text) for text in [state.message, *found])


def test_driver_that_is_stopped_is_found_while_its_agent_lives(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefectish.registry.agent.STANDS_STILL_AFTER", 2.5 * BEAT)
    (place / "gate-2").touch()
    run_id = load_flow(f"{place / 'reports.py'}:report").deploy("sales").run()
    with meanwhile(Agent().start, True):
        until(lambda: 2 in bodies(place), LIMIT)
        stopped = psutil.Process(driver_of(run_id))
        stopped.suspend()
        until(lambda: queue.row_of(open_store(None), run_id).resumes, LIMIT)
        (place / "gate-2").unlink()
        state = prefectish.attach(run_id).wait(LIMIT)
    assert not stopped.is_running()
    assert isinstance(state, Success)
    assert history.run(run_id).part == 1


def test_run_whose_drivers_are_lost_for_good_fails_and_its_handlers_know(flow: Any, place: Path) -> None:
    (place / "gate-1").touch()
    run_id = flow.deploy("sales", on_lost="fail").run()
    agent = agent_process(place)
    try:
        until(lambda: 1 in bodies(place), LIMIT)
        os.kill(driver_of(run_id), signal.SIGKILL)
        state = prefectish.attach(run_id).wait(LIMIT)
    finally:
        agent.terminate()
        agent.wait(LIMIT)
    assert isinstance(state, Failed)
    assert str(state.message).startswith("driver-lost: ")
    assert history.run(run_id).state == "Failed"
    assert (place / "told").read_text().startswith(f"{flow.name}: driver-lost")


def test_agent_that_is_killed_loses_and_doubles_nothing(flow: Any, place: Path) -> None:
    (place / "gate-3").touch()
    run_id = flow.deploy("sales").run()
    agent = agent_process(place)
    until(lambda: 3 in bodies(place), LIMIT)
    agent.kill()
    agent.wait(LIMIT)
    other = agent_process(place, "once")
    (place / "gate-3").unlink()
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)
    assert other.wait(LIMIT) == 0
    assert sorted(bodies(place)) == [0, 1, 2, 3]
    assert history.run(run_id).part == 0


def test_environment_whose_command_does_not_begin_a_driver_fails_the_run(flow: Any) -> None:
    deployment = flow.deploy("sales")
    environment = json.dumps({**deployment._environment, "python": "/no/python/here"})
    with deployment._store.writing() as connection:
        table = registry_tables.deployments
        connection.execute(table.update().where(table.c.number == deployment.id).values(environment=environment))
    run_id = deployment.run()
    Agent().start(once=True)
    state = prefectish.attach(run_id).wait(LIMIT)
    assert isinstance(state, Failed)
    assert "/no/python/here cannot be started" in str(state.message)


def test_what_a_driver_prints_is_kept_by_a_command_that_does_not_print_it(flow: Any, place: Path) -> None:
    """Nor has a job of a queue a terminal: it prints into a file of its own."""
    (place / "reports.py").write_text("print('loaded by the driver')\n" + SOURCE)
    silent = CommandEnvironment(["sh", "-c", "exec >/dev/null 2>&1; {command}"])
    deployment = flow.deploy("sales", environment=silent)
    run_id = deployment.run()
    Agent().start(once=True)
    assert isinstance(prefectish.attach(run_id).wait(LIMIT), Success)
    assert queue.row_of(deployment._store, run_id).output == "loaded by the driver\n"


def test_flow_that_a_silent_command_cannot_load_is_not_deployed(flow: Any, place: Path) -> None:
    (place / "reports.py").write_text("import module_that_only_i_have\n" + SOURCE)
    silent = CommandEnvironment(["sh", "-c", "exec >/dev/null 2>&1; {command}"])
    with pytest.raises(EnvironmentFailed, match="module_that_only_i_have"):
        flow.deploy("sales", environment=silent)


def test_command_that_does_not_wait_for_its_driver_is_named(flow: Any) -> None:
    deployment = flow.deploy("sales", environment=CommandEnvironment(["sh", "-c", "{command}"]))
    state_of_first = deployment.run()
    Agent().start(once=True)
    assert isinstance(prefectish.attach(state_of_first).wait(LIMIT), Success)


# -- runs of other processes -----------------------------------------------------------------------------------------


def ended(run: Any, state: str) -> int:
    """Return how many children of the map have ended in a state, as far as it is recorded."""
    with suppress(KeyError):  # a flow function has not called it yet
        return int(run.counts("load").get(state, 0))
    return 0


def attached_by_command(*words: str) -> list[Any]:
    done = CliRunner().invoke(app, ["attach", *words, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_detached_run_is_reached_from_any_process(flow: Any, place: Path) -> None:
    (place / "gate-3").touch()
    run = flow.start(detach=True, factor=5)
    until(lambda: 3 in bodies(place), LIMIT)
    until(lambda: ended(run, "Success") == 3, LIMIT)
    other = prefectish.attach(run.id[:20])
    assert other.results("load") == {0: 0, 1: 5, 2: 10}
    assert [child.index for child in other.children("load", "Success")] == [0, 1, 2]
    (asked,) = attached_by_command(run.id, "--limit", "load-1=3")
    assert asked == {"id": run.id, "answer": "load-1: at most 3 at once"}
    other.pause()
    other.resume()
    other.set_limit("load-1", 1)
    assert "Success" in other.story("load-1[0]")
    with pytest.raises(RuntimeError, match=r"no task is called 'lode' in this run: .*did you mean"):
        other.story("lode")
    (place / "gate-3").unlink()
    state = run.wait(LIMIT)
    assert isinstance(state, Success)
    value = state.result if flow.name == "calls" else state.result["total-1"].result
    assert value == 30
    *_, end = attached_by_command(run.id)
    assert (end["id"], end["state"], end["exit_code"], end["counts"]) == (run.id, "Success", 0, {"Success": 5})
    asks = history.run(run.id).asks()
    assert {ask.asked_by for ask in asks} == {requester()}  # the command was called in this process, too
    asked = [(ask.verb, ask.error is None) for ask in asks]
    assert asked == [
        ("set_task_limit", True),
        ("pause", True),
        ("resume", True),
        ("set_task_limit", True),
        ("story", True),
        ("story", False),
    ]
    with pytest.raises(RunNotActive):
        other.pause()


def test_detached_run_is_cancelled_and_its_failures_run_again(flow: Any, place: Path) -> None:
    (place / "broken-0").touch()
    (place / "gate-3").touch()
    run = flow.start(detach=True)
    until(lambda: ended(run, "Failed") == 1 and 3 in bodies(place), LIMIT)
    (place / "broken-0").unlink()
    assert run.retry("load-1", "OSError") == 1
    until(lambda: ended(run, "Success") == 3, LIMIT)
    run.cancel()
    (place / "gate-3").unlink()
    state = run.wait(LIMIT)
    assert not state.is_successful()


def test_detached_run_outlives_its_program(flow: Any, place: Path) -> None:
    (place / "gate-3").touch()
    code = (
        "import os, sys; from prefectish.flow_loading import load_flow\n"
        f"run = load_flow('reports.py:{'report' if flow.name == 'report' else 'calls'}').start(detach=True)\n"
        "print(run.id, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    run = prefectish.attach(done.stdout.strip())
    (place / "gate-3").unlink()
    assert isinstance(run.wait(LIMIT), Success)
    assert run.results("load") == {0: 0, 1: 2, 2: 4, 3: 6}


def test_detach_by_an_agent(flow: Any) -> None:
    run = flow.start(detach="sales", factor=4)
    assert isinstance(run.state, Scheduled)
    Agent().start(once=True)
    assert isinstance(run.wait(LIMIT), Success)


def test_what_cannot_be_detached_is_refused(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    with pytest.raises(TypeError, match="detach must have a history"):
        flow.start(detach=True, history=False)


def test_value_of_a_parameter_that_is_missing_is_refused_before_a_process_starts(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    with pytest.raises(ValueError, match="unknown: fctor"):
        flow.start(detach=True, fctor=3)


# -- flows as tasks, and schedules in this process -------------------------------------------------------------------


@pytest.fixture
def agent(place: Path) -> Iterator[None]:
    process = agent_process(place)
    yield
    process.terminate()
    assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("executor", [LocalExecutor(), LocalDaskExecutor(num_workers=3)], ids=["local", "threads"])
def test_deployed_flow_is_mapped_as_a_task(flow: Any, place: Path, agent: None, executor: Any) -> None:
    flow.deploy("sales")
    (place / "broken-3").touch()
    path = f"sales/{flow.name}"
    with Flow("all") as outer:
        runs = RunFlow(path).map(parameters=[{"factor": 1}, {"factor": 2}])
        asked = RunFlow(path, wait=False, name="asked")(parameters={"factor": 3})
    state = outer.run(executor=executor)
    children = state[runs].map_states
    assert [type(child) for child in children] == [Failed, Failed]
    assert all(f"of {path} ended Failed" in str(child.message) for child in children)
    rows = [history.run(child.result) for child in children]
    assert {row.trigger for row in rows} == {"parent"}
    assert {row.parent for row in rows} == {state.context["flow_run_id"]}
    assert prefectish.attach(state[asked].result).wait(LIMIT).is_failed()


def test_run_that_was_asked_for_is_found_again_when_the_parent_is_resumed(flow: Any, place: Path, agent: None) -> None:
    flow.deploy("sales")
    (place / "broken-3").touch()
    with Flow("all") as outer:
        run = RunFlow(f"sales/{flow.name}")(parameters={"factor": 1})
    failed = outer.run()
    (place / "broken-3").unlink()
    again = outer.resume(failed.context["flow_run_id"], retry_failed=True)
    assert isinstance(again, Success)
    assert again[run].result != failed[run].result


@pytest.fixture(params=["local", "threads", "processes"])
def parents_executor(request: pytest.FixtureRequest) -> Any:
    return LocalExecutor() if request.param == "local" else LocalDaskExecutor(scheduler=request.param, num_workers=2)


def asked_of(number: int, place: Path) -> list[str]:
    """Return the runs that a parent has asked for, once so many of them wait in a body."""
    until(lambda: bodies(place).count(1) == number, LIMIT)
    with open_store(None).reading() as connection:
        query = registry_tables.requested.select().order_by(registry_tables.requested.c.number)
        return [row.run for row in connection.execute(query)]


def was_cancelled(run: str) -> bool:
    return any(ask.verb == "cancel" and ask.answered for ask in history.run(run).asks())


@pytest.mark.usefixtures("agent")
def test_runs_that_a_run_has_asked_for_are_cancelled_with_it(place: Path, parents_executor: Any) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    flow.deploy("sales")
    (place / "gate-1").touch()
    with Flow("all") as outer:
        RunFlow(f"sales/{flow.name}").map(parameters=[{"factor": 1}, {"factor": 2}])
    parent = outer.start(executor=parents_executor)
    runs = asked_of(1 if isinstance(parents_executor, LocalExecutor) else 2, place)
    parent.cancel()
    until(lambda: all(map(was_cancelled, runs)), LIMIT)
    (place / "gate-1").unlink()
    assert not parent.wait(LIMIT).is_successful()
    assert [type(prefectish.attach(run).wait(LIMIT)) for run in runs] == [Cancelled] * len(runs)


@pytest.mark.usefixtures("agent")
def test_run_that_one_child_has_asked_for_is_cancelled_with_it(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:calls")
    flow.deploy("sales")
    (place / "gate-1").touch()
    with Flow("all") as outer:
        asked = RunFlow(f"sales/{flow.name}").map(parameters=[{"factor": 1}, {"factor": 2}])
    parent = outer.start(executor=LocalDaskExecutor(num_workers=2))
    first, second = asked_of(2, place)
    first, second = sorted((first, second), key=child_of)
    parent.cancel(asked, 1)
    until(lambda: was_cancelled(second), LIMIT)
    (place / "gate-1").unlink()
    states = parent.wait(LIMIT)[asked].map_states
    assert [type(state) for state in states] == [Success, Cancelled]
    assert isinstance(prefectish.attach(first).wait(LIMIT), Success)
    assert isinstance(prefectish.attach(second).wait(LIMIT), Cancelled)


def child_of(run: str) -> int:
    """Return which child of its parent has asked for a run, by what it asked."""
    return int(json.loads(queue.row_of(open_store(None), run).parameters)["factor"]) - 1


def test_flow_that_is_not_deployed_fails_its_task(place: Path) -> None:
    with Flow("all") as outer:
        asked = RunFlow("sales/nothing")()
    assert "nothing is deployed as 'sales/nothing'" in str(outer.run()[asked].message)
    with pytest.raises(TypeError, match="flow must be the project/name"):
        RunFlow("sales")


class Soon(Clock):
    """Events so many seconds after they are first asked for: none is missed, however long a program takes to begin."""

    def __init__(self, *seconds: float, factor: int) -> None:
        super().__init__(parameter_defaults={"factor": factor})
        self._seconds = seconds
        self._dates: list[datetime] = []

    def moments(self, after: datetime) -> Iterator[datetime]:
        self._dates = self._dates or [after + timedelta(seconds=each) for each in self._seconds]
        return iter(self._dates)


@pytest.mark.parametrize("front", ["report", "calls"])
def test_served_flows_run_at_their_times(place: Path, front: str) -> None:
    flow = load_flow(f"{place / 'reports.py'}:{front}")
    schedule = Schedule([Soon(0.3, 0.9, factor=6)])
    if front == "report":
        flow.schedule = schedule
    else:
        flow = flow.with_options(schedule=schedule)
    prefectish.serve(flow, overlap="queue")
    assert [row.state for row in history.runs(flow=flow.name)] == ["Success", "Success"]
    assert len(bodies(place)) == 8


def test_served_flow_runs_for_all_that_is_due_at_one_time(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:report")
    flow.schedule = Schedule([Soon(0.3, factor=factor) for factor in (6, 7)])
    prefectish.serve(flow)
    assert [row.state for row in history.runs(flow=flow.name)] == ["Success", "Success"]


SERVES = """
import datetime, logging, sys
from pathlib import Path
logging.basicConfig(level="INFO")
import prefectish
from prefectish.flow_loading import load_flow
from prefectish.schedules import Schedule
from prefectish.schedules.clocks import Clock

front, on_lost, file = sys.argv[1], sys.argv[2], Path("first")

class Soon(Clock):
    "A second after it was first asked for, by whichever process; and a day later."
    def moments(self, after):
        if not file.exists():
            file.write_text((after + datetime.timedelta(seconds=1)).isoformat())
        first = datetime.datetime.fromisoformat(file.read_text())
        return iter([first, first + datetime.timedelta(days=1)])

schedule = Schedule([Soon(parameter_defaults={"factor": 6})])
flow = load_flow(f"reports.py:{front}")
if front == "report":
    flow.schedule = schedule
else:
    flow = flow.with_options(schedule=schedule)
prefectish.serve(flow, on_lost=on_lost)
"""


def serving(place: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVES, *words], cwd=place)


@pytest.mark.parametrize(
    ("front", "how", "on_lost"),
    [("report", "SIGKILL", "resume"), ("calls", "SIGTERM", "resume"), ("report", "SIGKILL", "fail")],
)
def test_served_runs_that_were_left_are_continued(place: Path, front: str, how: str, on_lost: str) -> None:
    (place / "gate-2").touch()
    first = serving(place, front, on_lost)
    until(lambda: 2 in bodies(place), LIMIT)
    first.send_signal(getattr(signal, how))
    code = first.wait(LIMIT)
    (place / "gate-2").unlink()
    assert code == {"SIGKILL": -9, "SIGTERM": 143}[how]
    (left,) = history.runs(flow=front)
    second = serving(place, front, on_lost)
    try:
        until(lambda: (r := history.run(left.id)).ended is not None and r.exit_code != 143, LIMIT)
    finally:
        second.terminate()
        assert second.wait(LIMIT) == 143
    (run,) = history.runs(flow=front)
    if on_lost == "fail":
        assert (run.state, run.message) == ("Failed", "driver-lost: its process is gone")
        assert (place / "told").read_text() == "report: driver-lost: its process is gone"
        return
    assert (run.state, run.part, run.trigger) == ("Success", 1, "resume")
    assert sorted(child.index or 0 for child in run.children("load")) == [0, 1, 2, 3]


def test_flow_without_a_schedule_is_not_served(place: Path) -> None:
    flow = load_flow(f"{place / 'reports.py'}:calls")
    with pytest.raises(FlowDefinitionError, match="flow 'calls' must have a schedule to be served"):
        prefectish.serve(flow)
    with pytest.raises(TypeError, match="one flow or more"):
        prefectish.serve()


def test_a_flow_function_with_kwargs_takes_every_name(place: Path) -> None:
    (place / "open_flow.py").write_text(
        "from prefectish import flow, task\n"
        "@task\n"
        "def total(values):\n    return sum(values)\n"
        "@flow\n"
        "def open_flow(**amounts):\n    return total(list(amounts.values()))\n"
    )
    deployment = load_flow(f"{place / 'open_flow.py'}:open_flow").deploy("sales", parameters={"rent": 3})
    run_id = deployment.run({"food": 4})
    Agent().start(once=True)
    assert prefectish.attach(run_id).wait(LIMIT).is_successful()
