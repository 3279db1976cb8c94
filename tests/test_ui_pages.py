"""The pages and the JSON API: everything can be looked at, and nothing that a user wrote can act."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx2")
pytest.importorskip("multipart")

from bodies import give
from postgres import binaries, owner, server
from real import until
from recorded_flows import example
from ui_browser import browser

from prefectish import Flow, context, history, task, unmapped
from prefectish.engine.pause import pause_task
from prefectish.flow_loading import load_flow
from prefectish.history.store import open_store
from prefectish.results import LocalResult
from prefectish.ui.api import LOOKUPS
from prefectish.ui.events import TOPICS, look
from prefectish.ui.pages import PAGES
from prefectish.ui.queries import timelines
from prefectish.ui.queries.failures import failed_items
from prefectish.ui.queries.items import item_detail
from prefectish.ui.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "javascript:alert(3)", "]]><svg/onload=alert(4)>",
    "\u202egnp.exe", "\x1b[31mred\x1b]0;title\x07", "line1\nFAKE 12:00:00 ERROR forged", "<!channel> <@U123> *b* `c`",
    "[x](javascript:alert(5)) ![i](http://evil/t.png) | pipe", "\x9b31m C1", "\u2028ls\u2029ps",
    "{{7*7}} ${7*7} %s {0}", '"]; evil [label="x"]; --> end click A "javascript:alert(6)"',
    "</title></style></textarea>", "&lt;b&gt;", "\ud800",
)  # fmt: skip
PROGRAMS = binaries()
#: Elements by which a text could act, and the attributes of scripts and images of the page's own.
ACTIVE = {"iframe", "object", "embed", "style", "frame", "meta", "base", "link", "script", "img"}


def wait_a_little() -> None:
    """Take time, as a body does."""
    threading.Event().wait(0.01)


class Markup(HTMLParser):
    """Collects what could act in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def check(html: str, is_page: bool) -> None:
    for tag, attributes in Markup(html).found:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", (tag, value)
            assert not (value or "").strip().lower().startswith("javascript:"), (tag, name, value)
            if name in ("href", "src", "action"):
                assert "//" not in (value or "").partition("?")[0], (tag, value)
        if tag in ACTIVE:
            assert is_page, tag
            where = str(attributes.get("src") or attributes.get("href") or "static/")
            assert tag in ("meta", "base") or where.startswith("static/"), (tag, attributes)
    for text in ("\x1b", "\x07", "\x9b", "\u202e", "\u2028", "<script>alert", "<img src=x", "\x00"):
        assert text not in html, ascii(text)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a history in which every text that a user chooses is hostile."""
    path = tmp_path_factory.mktemp("hostile") / "history.db"

    def body(x: str) -> str:
        context.logger.warning("log %s", x)
        if len(x) % 2:
            raise ValueError(x)
        return x

    with Flow(f"flow {TEXTS[0]} {TEXTS[3]}") as flow:
        for number, text in enumerate(TEXTS[:6]):
            task(body, name=f"t{number} {text}", item_key="x", task_run_name="{x}").map(list(TEXTS))
        task(lambda: pause_task(f"shall I? {TEXTS[1]}", input=str), name="ask")()
    for name in (TEXTS[0], TEXTS[1]):
        flow.run(history=path, progress=False, flow_run_name=name)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "history.db"
    for _ in range(2):
        example().run(history=path, progress=False)
    return path


def addresses(path: Path | str, templates: dict[str, Any]) -> Iterator[str]:
    """Yield the addresses of all pages, or lookups, of the newest run of a history."""
    after, before = (run.id for run in history.runs(2, store=path))
    for template in templates.values():
        found = template.replace("{run}", after).replace("{step:number}", "0").replace("{row:number}", "3")
        if "{project}" not in found:
            yield found + (f"?before={before}&after={after}" if "compare" in found else "")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if PROGRAMS is None or (os.geteuid() == 0 and owner() is None):
        pytest.skip("PostgreSQL is not installed here")
    with server(PROGRAMS) as running:
        for _ in range(2):
            example().run(history=running.url, progress=False)
        yield running.url


@pytest.mark.parametrize("made", ["plain", "hostile", "postgres"])
def test_x22_every_page_can_be_looked_at(made: str, request: pytest.FixtureRequest) -> None:
    from prefectish.ui.paths import PATHS

    path = request.getfixturevalue(made)
    with browser(path) as client:
        for address in addresses(path, {name: PATHS[name] for name in PAGES}):
            answer = client.get(address)
            assert answer.status_code == 200, (address, answer.text[:300])
            check(answer.text, is_page=True)
        run = history.runs(1, store=path)[0]
        load = next(each for each in client.get(f"/api/runs/{run.id}").json()["tasks"] if each["is_map"])
        address = f"/api/runs/{run.id}/tasks/{load['step']}/picture"
        assert max(client.get(address, params={"by": "duration"}).content) == 254


def test_x22_fragments_are_as_harmless(hostile: Path) -> None:
    run = history.runs(1, store=hostile)[0].id
    with browser(hostile) as client:
        for name in TOPICS:
            address = "/".join([name, *{"run": [run], "task": [run, "0"], "item": [run, "0", "3"]}.get(name, [])])
            for text in look(client.app.state.source, client.app.state.access, address).events.values():
                check(text, is_page=False)


def test_what_is_looked_up_is_described_by_openapi(plain: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with browser(plain) as client:
        described = client.get("/api/openapi.json").json()
        for address in addresses(plain, {path: path for path in LOOKUPS}):
            answer = client.get(f"/api{address}")
            assert answer.status_code == 200, (address, answer.text)
            path = next(path for path in described["paths"] if _fits(path, f"/api{address.partition('?')[0]}"))
            schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": described["components"]})


def _fits(path: str, address: str) -> bool:
    parts, given = path.split("/"), address.split("/")
    return len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True))


def test_counts_and_causes_are_those_of_the_run(plain: Path) -> None:
    run = history.runs(1, store=plain)[0]
    with browser(plain) as client:
        page = client.get(f"/api/runs/{run.id}").json()
        assert page["run"]["counted"] == run.counts().text()
        load = next(each for each in page["tasks"] if each["is_map"])
        assert {count["state"]: count["number"] for count in load["counts"]} == {"Success": 17, "Failed": 3}
        assert load["is_counted"]
        assert [cause["type"] for cause in page["causes"]].count("ValueError") >= 1
        failed = client.get(f"/api/runs/{run.id}/failures", params={"step": load["step"], "text": "no file 10"}).json()
        assert [item["item"]["index"] for item in failed["items"]] == [10]
        item = client.get(f"/api/runs/{run.id}/tasks/{load['step']}/items/10").json()
        assert item["error"] == "ValueError: no file 10"
        assert any(line["is_here"] and "raise ValueError" in line["text"] for line in item["source"])
        found = client.get(f"/api/runs/{run.id}/tasks/{load['step']}/find", params={"text": "17"}).json()
        assert found["items"][0]["index"] == 17


@pytest.mark.parametrize("made", ["plain", "postgres"])
def test_the_picture_of_a_map_has_a_byte_for_each_item(made: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(made)
    run = history.runs(1, store=store)[0]
    with browser(store) as client:
        load = next(each for each in client.get(f"/api/runs/{run.id}").json()["tasks"] if each["is_map"])
        address = f"/api/runs/{run.id}/tasks/{load['step']}/picture"
        states = client.get(address).content
        failed, good = history.schema.CODES["Failed"] + 1, history.schema.CODES["Success"] + 1
        assert list(states) == [failed if x % 7 == 3 else good for x in range(20)]
        durations = client.get(address, params={"by": "duration"})
        assert len(durations.content) == 20
        assert max(durations.content) == 254
        assert float(durations.headers["x-longest"]) == pytest.approx(
            max(c.duration for c in run.children("load")), 0.01
        )


def test_the_picture_of_durations_has_a_scale_of_four_powers_of_ten(tmp_path: Path) -> None:
    """Of each item that ran, and none of those that did not; where records are missing, too."""
    with Flow("shades") as flow:
        task(lambda n: n, name="load").map(list(range(400)))
    path = str(tmp_path / "history.db")
    run = flow.run(history=path, progress=False).context["flow_run_id"]
    seconds = [8.0 * 10 ** (-n / 60) for n in range(400)]
    database = sqlite3.connect(path)
    database.executemany("UPDATE children SET seconds = ? WHERE row = ?", [(s, n) for n, s in enumerate(seconds)])
    database.execute("UPDATE children SET attempts = 0, state = ? WHERE row = 7", [history.schema.CODES["Skipped"]])
    database.commit()
    # two bytes for each of 127 steps, the first of which has all that is below the scale
    wanted = [2 * min(max(1 + int(1e-9 + 127 * (1 - n / 60 / 4)), 1), 127) for n in range(400)]
    for missing in ((), (3, 399)):
        database.executemany("DELETE FROM children WHERE row = ?", [(row,) for row in missing])
        database.commit()
        with browser(path) as client:
            found = client.get(f"/api/runs/{run}/tasks/0/picture", params={"by": "duration"})
        assert list(found.content) == [0 if n in (7, *missing) else wanted[n] for n in range(400 - len(missing) // 2)]
        assert found.headers["x-longest"] == "8.000000"
    database.close()


def test_pages_are_filtered_and_paged(plain: Path) -> None:
    with browser(plain) as client:
        assert client.get("/api/runs", params={"flow": "example", "size": 1}).json()["paging"]["pages"] == 2
        assert client.get("/api/runs", params={"flow": "other"}).json()["runs"] == []
        for state, number in (("Cancelled", 0), ("Running", 0), ("Unfinished", 0), ("Failed", 2)):
            assert len(client.get("/api/runs", params={"state": state}).json()["runs"]) == number
        assert client.get("/api/runs", params={"since": "2999-01-01T00:00:00Z"}).json()["runs"] == []
        assert client.get("/api/runs", params={"page": "x"}).status_code == 400
        assert client.get("/api/runs", params={"state": "Odd"}).status_code == 404


@pytest.mark.parametrize("address", ["/runs/nothing", "/runs/nothing/tasks/0", "/deployments/a/b", "/nowhere"])
def test_what_is_not_there_is_told(plain: Path, address: str) -> None:
    with browser(plain) as client:
        for found in (client.get(address), client.get(f"/api{address}")):
            assert found.status_code == 404
        assert json.loads(found.text)["error"]


def test_logs_are_read_on(plain: Path, tmp_path: Path) -> None:
    def body(x: int) -> None:
        context.logger.warning("said %d", x)

    with Flow("logs") as flow:
        task(body, name="say").map(list(range(5)))
    run = flow.run(history=tmp_path / "h.db", progress=False).context["flow_run_id"]
    with browser(tmp_path / "h.db") as client:
        first = client.get(f"/api/runs/{run}/logs", params={"limit": 2}).json()
        assert [line["text"] for line in first["lines"]] == ["said 3", "said 4"]
        before = client.get(f"/api/runs/{run}/logs", params={"before": first["earlier"]}).json()
        assert [line["text"] for line in before["lines"]][-1] == "said 2"
        assert client.get(f"/api/runs/{run}/logs", params={"after": first["last"]}).json()["lines"] == []
        assert len(client.get(f"/api/runs/{run}/logs", params={"step": 0, "row": 3}).json()["lines"]) == 1


def test_what_no_worker_ran_is_not_said_of_the_process_that_shows_it(plain: Path) -> None:
    run = history.runs(1, store=plain)[0].id
    with browser(plain) as client:
        assert [each["name"] for each in client.get(f"/api/runs/{run}/timeline").json()["workers"]] == ["the client"]


def test_tracebacks_begin_below_their_lines(tmp_path: Path) -> None:
    with Flow("logs") as flow:
        task(lambda x: 1 / x, name="divide").map([0])
    run = flow.run(history=tmp_path / "h.db", progress=False).context["flow_run_id"]
    with browser(tmp_path / "h.db") as client:
        assert re.search(r"division by zero\n *Traceback", client.get(f"/runs/{run}/logs").text)


@pytest.mark.parametrize("made", ["plain", "postgres"])
def test_runs_of_very_many_items_are_compared_by_task(
    made: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = request.getfixturevalue(made)
    after, before = (run.id for run in history.runs(2, store=store))
    with browser(store) as client:
        whole = client.get("/api/compare", params={"before": before, "after": after}).json()["compared"]
    monkeypatch.setattr("prefectish.ui.queries.comparing.MAX_ITEMS", 3)
    with browser(store) as client:
        part = client.get("/api/compare", params={"before": before, "after": after}).json()["compared"]
    assert (whole["note"], "items a part was read" in part["note"]) == (None, True)
    assert part["new_causes"] == whole["new_causes"] == []
    for one, other in zip(whole["tasks"], part["tasks"], strict=True):
        assert one["task"] == other["task"]
        assert one["total_after"] == pytest.approx(other["total_after"])


def test_an_item_shows_what_it_was_given_where_that_is_json(tmp_path: Path) -> None:
    def numbers() -> list[int]:
        return [10, 20, 30]

    def load(x: int, all: list[int]) -> int:
        return x

    for serializer, shown in (("json", ["20", "[10, 20, 30]"]), ("pickle", [None, None])):
        store = LocalResult(tmp_path / serializer, serializer=serializer)
        with Flow("inputs", result=store) as flow:
            given = task(numbers, name="numbers")()
            task(load, name="load").map(given, unmapped(given))
        path = tmp_path / f"{serializer}.db"
        run = flow.run(history=path, progress=False).context["flow_run_id"]
        with browser(path) as client:
            steps = {each["label"]: each["step"] for each in client.get(f"/api/runs/{run}").json()["tasks"]}
            found = client.get(f"/api/runs/{run}/tasks/{steps['load']}/items/1").json()
        assert [each["text"] for each in found["inputs"]] == shown
        assert all(each["location"] for each in found["inputs"])
        assert run in found["replay"]


def test_a_run_that_was_resumed_shows_its_newest_items(tmp_path: Path) -> None:
    failing = {3}

    def body(x: int) -> int:
        if x in failing:
            raise OSError(x)
        return x

    with Flow("resumed") as flow:
        task(body, name="load").map(list(range(6)))
    path = tmp_path / "h.db"
    run = flow.run(history=path, progress=False).context["flow_run_id"]
    failing.clear()
    flow.resume(run, history=path, retry_failed=True, progress=False)
    with browser(path) as client:
        page = client.get(f"/api/runs/{run}").json()
        assert page["resumed"] == 1
        assert [(count["state"], count["number"]) for count in page["tasks"][0]["counts"]] == [("Success", 6)]
        assert page["causes"] == []
        states = client.get(f"/api/runs/{run}/tasks/{page['tasks'][0]['step']}/picture").content
        assert set(states) == {history.schema.CODES["Success"] + 1}


def test_an_item_that_runs_again_in_a_resumed_run_is_counted_once(tmp_path: Path) -> None:
    gate, begun, failing = threading.Event(), threading.Event(), {3}

    def body(x: int) -> int:
        if x in failing:
            raise OSError(x)
        if x == 3:
            begun.set()
            gate.wait(90)
        return x

    with Flow("again") as flow:
        task(body, name="load").map(list(range(6)))
    path = tmp_path / "h.db"
    run = flow.run(history=path, progress=False).context["flow_run_id"]
    failing.clear()
    options = {"history": path, "retry_failed": True, "progress": False}
    resuming = threading.Thread(target=flow.resume, args=(run,), kwargs=options)
    resuming.start()
    try:
        assert begun.wait(90)
        with browser(path) as client:

            def counted() -> Any:
                (task,) = client.get(f"/api/runs/{run}").json()["tasks"]
                return {count["state"]: count["number"] for count in task["counts"]} if task["running"] else None

            assert until(counted, 90) == {"Success": 5, "Running": 1}
            assert list(client.get(f"/api/runs/{run}/tasks/0/picture").content)[3] == 255
    finally:
        gate.set()
        resuming.join(90)


def test_an_empty_history_says_what_to_do_next(tmp_path: Path) -> None:
    with browser(tmp_path / "new.db") as client:
        assert "run" in client.get("/").text
        pages = {name: client.get(f"/{name}") for name in ("deployments", "agents", "limits", "approvals")}
    assert {page.status_code for page in pages.values()} == {200}
    for name in ("deployments", "agents"):  # an agent of another history would find nothing here
        assert f"prefectish agent start --history {tmp_path}/new.db</pre>" in pages[name].text
    assert give.name == "give"


def test_navigation_counts_open_questions_and_a_run_shows_its_environment(hostile: Path, tmp_path: Path) -> None:
    with browser(hostile) as client:
        state = client.app.state  # they are counted beside the page, which does not wait for that
        until(lambda: look(state.source, state.access, "limits").events["questions"] == "2")
        assert '<span class="number">2</span><span class="unseen"> open</span>' in client.get("/limits").text
        run = client.get("/api/runs").json()["runs"][0]["id"]
        facts = dict(client.get(f"/api/runs/{run}").json()["facts"])
        assert facts["environment"] == "the program that ran it; the flow was not deployed"
    with browser(tmp_path / "new.db") as client:
        assert 'id="questions" class="open" hidden' in client.get("/").text
        assert "How long they take" not in client.get("/").text


def test_search_among_failed_items_looks_at_their_own_messages(tmp_path: Path) -> None:
    store = str(tmp_path / "history.db")
    run_id = example().run(history=store).context["flow_run_id"]
    found = failed_items(Source(open_store(store)), run_id, text="no file 3")
    assert [(each.item.label, each.error) for each in found.items] == [("load[3]", "ValueError: no file 3")]
    assert found.paging.total == 1
    assert failed_items(Source(open_store(store)), run_id, text="no file").paging.total == 3


def test_all_failures_are_counted_beside_a_timeline_of_which_a_part_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "MAX_READ", 20)

    @task
    def odd(n: int) -> int:
        if n % 10 == 1:  # none of these is among the items that are read
            raise ValueError(f"{n} is odd")
        return n

    with Flow("sampled") as flow:
        odd.map(list(range(100)))
    path = tmp_path / "history.db"
    flow.run(history=path, progress=False)
    found = timelines._read(Source(open_store(path)), history.runs(store=path)[0])
    assert found.sample == 5
    assert [(track.items, track.failed) for track in (*found.tasks, *found.workers)] == [(100, 10)] * 2


def test_workers_that_take_turns_are_all_in_a_timeline_of_which_a_part_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "MAX_READ", 20)
    with Flow("turns") as flow:
        task(lambda n: n, name="load").map(list(range(80)))
    path = tmp_path / "history.db"
    flow.run(history=path, progress=False)
    with sqlite3.connect(path) as database:
        database.executemany("INSERT INTO texts VALUES (?, ?, ?)", [(n, f"d{n}", f"host:{n}") for n in range(50, 54)])
        database.execute("UPDATE children SET worker = 50 + row % 4")
    found = timelines._read(Source(open_store(path)), history.runs(store=path)[0])
    assert [track.name for track in found.workers] == ["host:50", "host:51", "host:52", "host:53"]
    assert found.sample == 5
    assert [slow.seconds for slow in found.slowest] == sorted((s.seconds for s in found.slowest), reverse=True)
    assert len(found.slowest) == timelines.MAX_SLOWEST


@pytest.mark.parametrize("width", [1, 20])
def test_no_more_run_at_once_than_one_thread_can(tmp_path: Path, width: int) -> None:
    """Of tasks that run one after the other in one job, which is recorded at its end."""
    with Flow("chained") as flow:
        wait = task(lambda n: wait_a_little(), name="wait")
        for _ in range(2):
            items = list(range(width))
            wait.map(wait.map(wait.map(items))) if width > 1 else wait(wait(wait(1)))
    path = tmp_path / "history.db"
    flow.run(history=path, progress=False)
    found = timelines._read(Source(open_store(path)), history.runs(store=path)[0])
    (worker,) = found.workers
    assert worker.items == 6 * width
    assert 0 < max(worker.busy) <= 1.02
    assert sum(worker.busy) * found.interval == pytest.approx(worker.seconds, rel=0.1)


def test_a_timeline_that_is_still_read_says_so_and_is_fetched_again(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = history.runs(1, store=plain)[0].id
    with browser(plain) as client:
        with monkeypatch.context() as late:
            late.setattr(timelines, "PATIENCE", 0.0)
            late.setattr(timelines, "_read", lambda source, run: threading.Event().wait(0.2))
            early = client.get(f"/runs/{run}/timeline").text
        assert "It is being read" in early
        assert 'class="empty">Nothing has ended yet.' not in early
        assert 'id="read" class="stack" hx-get=' in early
    with browser(plain) as client:
        whole = client.get(f"/runs/{run}/timeline").text
        assert 'id="read" class="stack">' in whole
        assert "It is being read" not in whole


def test_command_that_replays_an_item_runs_in_a_shell(tmp_path: Path) -> None:
    """Whatever is in the path of the history and the name of the task."""
    file = tmp_path / "it's.py"
    file.write_text(
        "from prefectish import Flow, task\n"
        "@task(name='say \"hello\"')\ndef say(x):\n    print('said', x)\n    return x\n"
        "with Flow('says') as says:\n    say.map([5, 6])\n"
    )
    path = str(tmp_path / "it's a history.db")
    load_flow(f"{file}:says").run(history=path, progress=False)
    run = history.runs(store=path)[0]
    command = item_detail(Source(open_store(path)), run.id, 0, 1).replay
    done = subprocess.run(
        command.replace("python -c", f"{sys.executable} -c", 1).replace("pdb=True, ", ""),
        shell=True, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "said 6" in done.stdout, (command, done.stderr)
