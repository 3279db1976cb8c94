"""Progress that bodies report themselves, and functions that listen to the progress of a run."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from real import meanwhile, spend, until
from typer.testing import CliRunner

from prefectish import Flow, context, flow, history, task
from prefectish.cli.app import app
from prefectish.display import words
from prefectish.engine.worker import body_progress
from prefectish.engine.worker.body_progress import Board, BodyProgress


@task(task_run_name="model ${n}")
def fit(n):
    for epoch in range(12):
        context.progress(epoch, 12, f"epoch {epoch}")
        spend(0.1)
    context.progress(12, 12)
    return n


def seen_by(run):
    seen = []
    state = run(seen.append)
    assert state.is_successful()
    assert seen[-1].ended
    return seen


def check(seen):
    reports = [body for progress in seen for body in progress.inside]
    assert {body.label for body in reports} <= {"fit[0] (model 5)", "fit[1] (model 6)"}
    assert reports
    assert max(body.done for body in reports) > 2
    assert all(body.total == 12 for body in reports)
    assert any("epoch" in (body.message or "") for body in reports)


def test_bodies_report_from_every_process(run):
    with Flow("fits") as graph:
        fit.map([5, 6])
    check(seen_by(lambda listen: run(graph, progress=listen)))


def test_bodies_of_flow_functions_report_too(executor):
    @flow
    def fits():
        fit.map([5, 6], return_state=True)

    check(seen_by(lambda listen: fits.run(executor=executor, history=False, progress=listen)))


def until_recorded(store):
    until(lambda: store.exists() and history.runs(store=store) and history.runs(store=store)[0].progress())
    return history.runs(store=store)[0]


def test_what_bodies_report_stands_in_the_history_while_they_run(spelled, tmp_path):
    store = tmp_path / "h.db"
    with meanwhile(lambda: spelled.states(lambda: {"fit": fit.map([5, 6])}, history=store)):
        recorded = until_recorded(store)
        said = [body for body in recorded.progress() if body.message]
        assert {body.label for body in said} <= {"fit[0] (model 5)", "fit[1] (model 6)"}
        assert all((body.total, body.message) == (12, f"epoch {body.done:g}") for body in said)
    assert recorded.progress() == []


def test_words_of_bodies_are_shown_by_the_command(tmp_path):
    store = tmp_path / "h.db"
    with Flow("fits") as graph:
        fit.map([5, 6])
    started = graph.start(executor="threads", history=store)
    recorded = until_recorded(store)
    shown = CliRunner().invoke(app, ["show", recorded.id, "--watch", "--history", str(store)]).output
    assert started.wait(60).is_successful()
    assert re.search(r"^fit\[\d\] \(model \d\): \d+ of 12 \(\d+%\), epoch \d+$", shown, re.MULTILINE), shown
    after = json.loads(CliRunner().invoke(app, ["show", recorded.id, "--json", "--history", str(store)]).output)
    assert after["progress"] == []


@task
def says_odd_things():
    context.progress(Fraction(1, 2), Decimal(2), message=17)
    spend(0.6)
    context.progress("half", None)
    spend(0.6)


def test_odd_reports_stop_no_record(tmp_path, caplog):
    with Flow("odd") as graph:
        says_odd_things()
    state = graph.run(history=tmp_path / "h.db")
    assert state.is_successful()
    assert state.exit_code == 0
    assert "no longer recorded" not in caplog.text


def test_reports_are_sent_a_few_times_a_second(monkeypatch):
    put = []
    monkeypatch.setattr(body_progress.board, "put", lambda run_id, report: put.append(report.done))

    @task
    def count():
        for n in range(20_000):
            context.progress(n, 20_000)
        context.progress(20_000, 20_000)

    with Flow("counts") as graph:
        count()
    graph.run(history=False)
    assert put[0] == 0
    assert put[-1] == 20_000
    assert len(put) < 20


def test_outside_of_a_task_nothing_is_reported():
    assert context.progress(1, 2) is None


def test_board_forgets_bodies_that_ended_and_runs_that_are_closed():
    board, ended = Board(), set()
    report = BodyProgress("fit-1", 3, "fit[3]", 1, 2, None)
    board.put("run", report)
    assert board.of("run") == []
    board.open("run", lambda slug, index: (slug, index) not in ended)
    board.put("run", report)
    assert board.of("run") == [report]
    board.put("run", report._replace(done=None))
    assert board.of("run") == []
    board.put("run", report)
    ended.add(("fit-1", 3))
    assert board.of("run") == []
    board.close("run")
    assert board.of("run") == []


@task(heartbeat_timeout=0.5)
def falls_silent(n):
    for part in range(3):
        context.progress(part, 3)
        spend(0.2)
    spend(1.5 if n else 0)
    return n


def test_silent_body_is_warned_of_by_name_and_goes_on(run, caplog):
    with Flow("silent") as graph:
        falls_silent.map([0, 1])
    state = run(graph)
    assert state.is_successful()
    assert [type(child).__name__ for child in state["falls_silent"].map_states] == ["Success", "Success"]
    said = [record.getMessage() for record in caplog.records if "no progress was reported" in record.getMessage()]
    assert said == [
        "falls_silent[1]: no progress was reported for 0.5 s (heartbeat_timeout=0.5); its state is unchanged"
    ]


@task(heartbeat_timeout=0.3, max_retries=1, retry_delay=1.2)
def waits(n):
    if context.task_run_count == 1:
        raise OSError("again")
    return n


def test_wait_for_a_retry_is_no_silence(caplog):
    with Flow("waits") as graph:
        waits.map([0])
    assert graph.run(history=False).is_successful()
    assert "no progress was reported" not in caplog.text


def test_heartbeat_timeout_is_checked():
    with pytest.raises(ValueError, match="heartbeat_timeout"):
        task(heartbeat_timeout=-1)(fit.run)


def test_listener_that_raises_stops_no_run(caplog):
    with Flow("fits") as graph:
        fit.map([5])

    def broken(progress):
        raise OSError("no window")

    assert graph.run(history=False, progress=broken).is_successful()
    assert "the progress of this run is no longer shown" in caplog.text


@pytest.mark.parametrize(("total", "text"), [(50, "fit: 12 of 50 (24%), x"), (None, "fit: 12, x"), (0, "fit: 12, x")])
def test_words_for_a_body(total, text):
    assert words.inside(BodyProgress("fit-1", None, "fit", 12, total, "x")) == text
