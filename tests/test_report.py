from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from bodies import double
from pages import EVIL, safe
from sqlalchemy import text

from prefectish import Flow, Parameter, flow, history, task
from prefectish.display import report, views
from prefectish.display.timeline import Row, ticks, timeline
from prefectish.engine.state import Success
from prefectish.executors import LocalDaskExecutor
from prefectish.history.measures import MAX_SLOWEST, TIME_BINS, WorkerTrack, measure
from prefectish.history.outline import arrows, find, first_of


@task(max_retries=1, retry_delay=0, task_run_name="read ${x}")
def load(x):
    if x % 5 == 4:
        raise ValueError(f"no file {x}")
    return x


@task
def total(values):
    return len(values)


def a_flow():
    with Flow("loads") as flow:
        total(double.map(load.map(Parameter("rows"))))
    return flow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return str(tmp_path_factory.mktemp("history") / "runs.db")


@pytest.fixture(scope="module")
def ran(place):
    return a_flow().run(rows=list(range(10)), history=place, executor=LocalDaskExecutor("threads", num_workers=2))


@pytest.fixture(scope="module")
def recorded(ran, place):
    return history.run(ran.context["flow_run_id"], place)


def written(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_report_of_a_state_shows_what_its_record_knows(ran, tmp_path):
    path = ran.report(tmp_path / "run.html")
    assert path == str(tmp_path / "run.html")
    page = safe(written(path))
    for part in (
        "loads",
        "Failures by cause",
        "ValueError: no file 4",
        "load[4] (read 4)",
        "Timeline",
        "Slowest children",
    ):
        assert part in page.text
    assert re.search(r"2\s+retried", page.text)
    assert "median" in page.text
    assert "rows" in page.text  # the parameter in the graph


def test_record_tells_the_causes_of_more_failures_than_a_state_is_looked_at_for(ran, monkeypatch):
    monkeypatch.setattr(views, "MAX_FAILURES_READ", 1)
    assert views.of_run(ran).unseen == 4
    text = safe(ran._repr_html_()).text
    assert "2 \N{MULTIPLICATION SIGN} ValueError" in text
    assert "3 \N{MULTIPLICATION SIGN} TriggerFailed" in text
    assert "more failures" not in text


def test_report_of_a_recorded_run_has_graph_and_times(recorded, tmp_path):
    page = safe(written(report.of_run(recorded, tmp_path / "run.html")))
    for part in ("loads", "load", "double", "2 Failed", "2 TriggerFailed", recorded.id, "LocalDaskExecutor"):
        assert part in page.text
    assert page.tags.count("svg") >= 4


def test_report_needs_nothing_else_to_be_read(ran, tmp_path):
    html = written(ran.report(tmp_path / "run.html"))
    addresses = set(re.findall(r"https?://[^\"'\s<]+", html)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert not re.search(r"@import|url\(|<script|<link|\ssrc=", html)
    assert "color-scheme: light dark" in html


def test_report_of_a_run_that_was_not_recorded_says_what_is_missing(tmp_path):
    state = a_flow().run(rows=[1, 2], history=False)
    page = safe(written(state.report(tmp_path / "run.html")))
    assert "is only known for runs that are recorded" in page.text
    assert "2 Success" in page.text
    assert "Timeline" not in page.text


def test_flow_function_shows_what_its_record_knows(tmp_path):
    @flow
    def loads():
        return load.submit(4, allow_failure=True).state, load.submit(1).result()

    state = loads(return_state=True)
    assert "ValueError: no file 4" in safe(state._repr_html_()).text
    assert "ValueError: no file 4" in safe(written(state.report(tmp_path / "run.html"))).text


def test_report_of_something_else_is_refused(tmp_path):
    with pytest.raises(TypeError, match="the state of a flow run, or of a recorded run of a flow function, got"):
        Success("done", 3).report(tmp_path / "run.html")
    assert not os.path.exists(tmp_path / "run.html")


def test_x9_names_are_shown_not_obeyed(tmp_path):
    @task(name=EVIL, slug="evil", item_key=lambda x: f"{EVIL}{x}")
    def evil(x):
        raise ValueError(EVIL)

    with Flow(EVIL) as flow:
        evil.map(Parameter("rows"))
    place = tmp_path / "runs.db"
    state = flow.run(rows=[1, 2], history=place, flow_run_name=EVIL)
    run = history.run(state.context["flow_run_id"], place)
    for path in (state.report(tmp_path / "a.html"), report.of_run(run, tmp_path / "b.html")):
        assert "alert('x')" in safe(written(path)).text
    for shown in (run, history.runs(store=place)):
        assert "alert('x')" in safe(shown._repr_html_()).text


def test_record_is_found_where_this_process_wrote_it(ran, recorded):
    found = find(recorded.id)
    assert found is not None
    assert found.id == recorded.id
    assert find("no such run") is None


def test_unreadable_record_does_not_prevent_showing_a_state(tmp_path, monkeypatch, caplog):
    state = a_flow().run(rows=[1, 2], history=False)
    (tmp_path / "history.db").write_text("not a database, and long enough to be taken for one" * 20)
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    assert "2 Success" in safe(state._repr_html_()).text
    assert "cannot be read: history.db is not a prefectish history" in caplog.text


@pytest.mark.parametrize("front", ["graph", "function"])
def test_record_that_breaks_while_it_is_read_does_not_prevent_showing_a_state(tmp_path, monkeypatch, caplog, front):
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    state = a_flow().run(rows=[1, 2]) if front == "graph" else flow(lambda: 17).run()
    with closing(sqlite3.connect(tmp_path / "history.db")) as file, file:
        file.execute("ALTER TABLE children RENAME COLUMN seconds TO minutes")
    assert ("2 Success" if front == "graph" else "The flow function returned.") in safe(state._repr_html_()).text
    assert "cannot be read: history" in caplog.text


def test_finding_makes_no_history(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    assert find("no such run") is None
    assert not os.path.exists(tmp_path / "home")


def test_arrows_are_recorded(recorded):
    found = [(arrow.start, arrow.end, arrow.key, arrow.mapped) for arrow in arrows(recorded)]
    assert found == [("load-1", "double-1", "x", True), ("double-1", "total-1", "values", False)]


def test_first_of_a_group_are_read_alone(recorded):
    group = next(group for group in recorded.failures() if group.type == "ValueError")
    assert [child.index for child in first_of(group, 1)] == [4]
    assert [child.index for child in first_of(group, 5)] == [4, 9]


def test_measures_add_up(recorded):
    measures = measure(recorded)
    assert {slug: len(times) for slug, times in measures.times.items()} == {"load-1": 10, "double-1": 8}
    assert measures.again == 2
    assert sum(measures.steps["load-1"].ended) == 10
    assert sum(measures.steps["load-1"].failed) == 2
    assert [slow.seconds for slow in measures.slowest] == sorted((s.seconds for s in measures.slowest), reverse=True)
    busy = sum(sum(track.busy) for track in measures.workers.values()) * measures.length / TIME_BINS
    assert busy == pytest.approx(sum(track.seconds for track in measures.workers.values()), abs=0.02)


def test_track_spreads_a_child_over_the_pieces_it_ran_in():
    track = WorkerTrack()
    track.add(0.5, 3.25, 2.75, failed=False)
    track.add(3.5, 3.75, 0.25, failed=True)
    track.close()
    assert track.busy[:5] == [0.5, 1.0, 1.0, 0.5, 0.0]
    assert track.ended[:5] == [0, 0, 0, 2, 0]
    assert track.failed[:5] == [0, 0, 0, 1, 0]


def test_run_and_list_of_runs_show_themselves(recorded, place):
    page = safe(recorded._repr_html_())
    for part in ("loads", recorded.id, "8 Success", "2 Failed", "Slowest children"):
        assert part in page.text
    runs = history.runs(store=place)
    assert recorded.id in safe(runs._repr_html_()).text
    assert "no runs are recorded" in safe(history.runs(flow="none of this name", store=place)._repr_html_()).text
    assert recorded.report(os.path.join(os.path.dirname(place), "run.html")).endswith("run.html")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A recorded run of 100,000 children on 200 workers; only its rows are made up."""
    place = str(tmp_path_factory.mktemp("wide") / "runs.db")
    state = a_flow().run(rows=[1, 4], history=place)
    run = history.run(state.context["flow_run_id"], place)
    with run._store.writing() as connection:
        connection.execute(
            text("INSERT INTO texts (digest, text) SELECT value, 'host:' || value FROM (" + _count(200) + ")")
        )
        names = [column["name"] for column in _columns(connection)]
        made = {
            "row": "n.value + 2",
            "seconds": "0.001 + (n.value % 997) * 0.0001",
            "at": "c.at + n.value * 0.0001",
            "worker": "(SELECT min(number) FROM texts WHERE text LIKE 'host:%') + n.value % 200",
        }
        values = ", ".join(made.get(name, f"c.{name}") for name in names)
        connection.execute(
            text(
                f"INSERT INTO children ({', '.join(names)}) SELECT {values} FROM children c, ({_count(50_000)}) n "
                f"WHERE c.step IN (SELECT step FROM steps WHERE mapped) AND c.row = 1"
            )
        )
        connection.execute(text("UPDATE runs SET ended = started + 10"))
    return history.run(run.id, place)


def _count(number):
    steps = "SELECT 0 UNION ALL SELECT value + 1 FROM t WHERE value < "
    return f"WITH RECURSIVE t(value) AS ({steps}{number - 1}) SELECT value FROM t"


def _columns(connection):
    return [{"name": row[1]} for row in connection.execute(text("PRAGMA table_info(children)"))]


def test_report_of_a_wide_run_stays_small(wide, tmp_path):
    html = written(report.of_run(wide, tmp_path / "run.html"))
    page = safe(html)
    assert len(html) < 500_000
    assert "100,005" in page.text
    assert "others" in page.text
    named = f" --history {wide._store.location}"  # however long it is: a command is not cut
    assert f"and 49,989 more: prefectish failures {wide.id} --all{named}" in page.text
    assert html.count("<tr>") < 100


def test_repr_of_a_wide_run_is_small_too(wide):
    assert len(wide._repr_html_()) < 100_000
    assert len(measure(wide).slowest) == MAX_SLOWEST


def test_timeline_without_rows_is_nothing():
    assert timeline([], 1.0, "red", "red", alike=True) == ""
    assert "<svg" in timeline([Row("idle", [0, 0], [], "nothing")], 1.0, "red", "red", alike=True)


@pytest.mark.parametrize("length", [1e-6, 0.3, 1, 59, 61, 3600, 86_400, 1e7])
def test_ticks_are_few_and_inside(length):
    found = ticks(length)
    assert 1 < len(found) <= 12
    assert found[0] == 0
    assert found[-1] <= length * 1.000001


def test_report_opens_in_a_browser(ran, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    path = ran.report(tmp_path / "run.html")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1600",
    ]  # fmt: skip
    picture = tmp_path / "run.png"
    shot = [browser, *options, f"--screenshot={picture}", f"file://{path}"]
    subprocess.run(shot, check=True, timeout=240, capture_output=True)
    assert picture.stat().st_size > 20_000
    dump = [browser, *options, "--dump-dom", f"file://{path}"]
    dumped = subprocess.run(dump, check=True, timeout=240, capture_output=True)
    assert "Failures by cause" in dumped.stdout.decode()


def test_report_is_a_file_of_its_user_alone(tmp_path):
    before = os.umask(0)
    try:
        written = Flow("private", tasks=[task(lambda: 1, name="one")]).run(history=False).report(tmp_path / "r.html")
    finally:
        os.umask(before)
    assert os.stat(written).st_mode & 0o777 == 0o600
