"""What buttons of the page ask for reaches the driver of a run, and the history says who asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx2")
pytest.importorskip("multipart")

from postgres import binaries, owner, server
from real import until
from ui_browser import TOKEN, browser, csrf_of, post

from prefectish import Flow, history, task
from prefectish.engine.pause import pause_task
from prefectish.executors import LocalDaskExecutor
from prefectish.history import shared_limits
from prefectish.ui.queries.items import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefectish.engine.driver.handle import RunHandle

PROGRAMS = binaries()
LIMIT = 90.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if PROGRAMS is None or (__import__("os").geteuid() == 0 and owner() is None):
        pytest.skip("PostgreSQL is not installed here")
    with server(PROGRAMS) as running:
        yield running.url


@pytest.fixture(params=["sqlite", "postgresql"])
def everywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a history, on each kind of database."""
    return str(tmp_path / "history.db") if request.param == "sqlite" else request.getfixturevalue("postgres")


class Live:
    """A run that goes on until its gate is opened, and a browser that looks at it."""

    def __init__(self, store: str) -> None:
        self.gate = threading.Event()
        self.broken = {1, 2, 5}
        gate, broken = self.gate, self.broken

        def load(x: int) -> int:
            if x in broken:
                raise OSError(f"no {x}")
            if x == 3:
                gate.wait(LIMIT)
            return x

        def ask() -> str:
            return str(pause_task("how many?", input=int))

        with Flow("live") as flow:
            task(load, name="load").map(list(range(8)))
            task(ask, name="ask", tags=["db"])()
        self.store = store
        self.handle: RunHandle = flow.start(executor=LocalDaskExecutor(num_workers=3), history=store)  # type: ignore[assignment]
        self.run = str(self.handle.id)

    def row(self) -> Any:
        return history.run(self.run, store=self.store)


@pytest.fixture
def begin() -> Iterator[Callable[[str], Live]]:
    runs: list[Live] = []

    def made(store: str) -> Live:
        runs.append(Live(store))
        return runs[-1]

    yield made
    for run in runs:
        run.gate.set()
        run.handle.cancel()
        run.handle.wait(LIMIT)


def wait_for_failures(live: Live, client: Any) -> dict[str, Any]:
    """Return the run once three items have failed, seven have ended, and the question was asked."""

    def looked() -> Any:
        page = client.get(f"/api/runs/{live.run}").json()
        load = next((each for each in page.get("tasks", ()) if each["is_map"]), None)
        return page if load is not None and load["done"] == 7 and page["waiting"] else None

    found: dict[str, Any] = until(looked, LIMIT)
    return found


def test_a_cause_is_retried_from_the_page(begin: Callable[[str], Live], everywhere: str) -> None:
    live = begin(everywhere)
    with browser(everywhere) as client:
        page = wait_for_failures(live, client)
        load = next(each for each in page["tasks"] if each["is_map"])
        assert (load["failed"], load["running"], load["total"]) == (3, 1, 8)
        assert page["run"]["is_live"]
        live.broken.clear()
        (cause,) = page["causes"]
        answer = post(client, f"/runs/{live.run}/ask", verb="retry", cause=cause["number"])
        assert answer.status_code == 200, answer.text
        until(lambda: client.get(f"/api/runs/{live.run}").json()["tasks"][0]["failed"] == 0, LIMIT)
        states = client.get(f"/api/runs/{live.run}/tasks/{load['step']}/picture").content
        good = history.schema.CODES["Success"] + 1
        assert list(states) == [good, good, good, 255, good, good, good, good]
        (ask,) = live.row().asks()
        assert (ask.verb, ask.answer, ask.asked_by.endswith("on the page")) == ("retry", 3, True)
        step = next(each["step"] for each in page["tasks"] if not each["is_map"])
        asked = client.post(
            f"/api/runs/{live.run}/approve", json={"step": step, "input": 4},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )  # fmt: skip
        assert asked.status_code == 200, asked.text
        live.gate.set()
        state = live.handle.wait(LIMIT)
    assert state.is_successful()
    assert state["ask"].result == "4"


def test_an_item_that_is_cancelled_before_it_begins_says_so(tmp_path: Path) -> None:
    gate = threading.Event()
    with Flow("early") as flow:
        load = task(lambda x: gate.wait(LIMIT), name="load").map(list(range(400)))
        task(lambda x: x, name="rest").map(load)
    store = str(tmp_path / "history.db")
    handle = flow.start(executor=LocalDaskExecutor(num_workers=2), history=store)
    with browser(store) as client:
        run = f"runs/{handle.id}"
        until(lambda: len(client.get(f"/api/{run}").json().get("tasks", ())) == 2, LIMIT)
        until(lambda: client.get(f"/api/{run}/tasks/1/items/390").status_code == 200, LIMIT)
        before = client.get(f"/api/{run}/tasks/1/items/390").json()
        assert (before["state"], before["message"], before["verbs"]) == ("Pending", None, ["cancel"])
        assert "Run it again" not in client.get(f"/{run}/tasks/1/items/390").text
        assert post(client, f"/{run}/ask", verb="cancel", step=1, row=390).status_code == 200
        after = until(lambda: (found := client.get(f"/api/{run}/tasks/1/items/390").json())["message"] and found, LIMIT)
        assert (after["state"], after["message"], after["verbs"]) == ("Pending", CANCELLED, [])
        assert client.get(f"/api/{run}/tasks/1/items/0").json()["message"] is None
        gate.set()
        handle.wait(LIMIT)
        until(lambda: client.get(f"/api/{run}/tasks/1/items/390").json()["state"] == "Cancelled", LIMIT)


def test_a_run_is_held_limited_and_cancelled(begin: Callable[[str], Live], tmp_path: Path) -> None:
    live = begin(str(tmp_path / "history.db"))
    with browser(live.store) as client:
        wait_for_failures(live, client)
        assert post(client, f"/runs/{live.run}/ask", verb="set_limit").status_code == 400
        assert post(client, f"/runs/{live.run}/ask", verb="explode").status_code == 400
        assert post(client, f"/runs/{live.run}/ask", verb="retry", task="none").status_code == 404
        for fields, told in (
            ({"verb": "pause"}, "pause the run"),
            ({"verb": "resume"}, "continue the run"),
            ({"verb": "set_limit", "task": "load", "size": "2"}, "at most 2 of load at once"),
            ({"verb": "set_limit", "tag": "db", "size": "1"}, "at most 1 of tag db at once"),
            ({"verb": "cancel", "task": "ask"}, "cancel ask"),
        ):
            answer = post(client, f"/runs/{live.run}/ask", **fields)
            assert answer.status_code == 200, (fields, answer.text)
            assert told in answer.text
            is_held = client.get(f"/api/runs/{live.run}").json()["run"]["state"] == "Paused"
            assert is_held == (fields["verb"] == "pause")
        assert post(client, f"/runs/{live.run}/ask", verb="cancel").status_code == 200
        live.gate.set()
        state = live.handle.wait(LIMIT)
        until(lambda: live.row().ended is not None, LIMIT)
        answer = post(client, f"/runs/{live.run}/ask", verb="cancel")
        assert answer.status_code == 409
        assert "is not active" in answer.json()["error"]
    assert type(state).__name__ in ("Cancelled", "Failed")


def test_an_answer_of_another_type_is_refused(begin: Callable[[str], Live], tmp_path: Path) -> None:
    live = begin(str(tmp_path / "history.db"))
    with browser(live.store) as client:
        page = wait_for_failures(live, client)
        (waiting,) = page["waiting"]
        assert [field["kind"] for field in waiting["answer"]] == ["integer"]
        fields = {"step": waiting["item"]["step"], "row": 0}
        answer = post(client, f"/runs/{live.run}/approve", **fields, input="many")
        assert (answer.status_code, answer.json()["error"]) == (400, "input must be a whole number, got 'many'")
        assert client.get("/api/approvals").json()["waiting"] == page["waiting"]
        assert post(client, f"/runs/{live.run}/approve", **fields, input="4").status_code == 200
        live.gate.set()
        assert live.handle.wait(LIMIT)["ask"].result == "4"
        assert post(client, f"/runs/{live.run}/approve", **fields, input="4").status_code == 404


def test_a_run_that_has_ended_is_approved_for_its_resumption(tmp_path: Path) -> None:
    with Flow("asks") as flow:
        task(lambda: pause_task("go on?"), name="ask")()
    store = tmp_path / "history.db"
    run = flow.run(history=store).context["flow_run_id"]
    with browser(store) as client:
        (waiting,) = client.get("/api/approvals").json()["waiting"]
        assert (waiting["run"], waiting["answer"], waiting["is_live"]) == (run, [], False)
        answer = post(client, f"/runs/{run}/approve", step=waiting["item"]["step"])
        assert "prefectish resume" in answer.text
        assert client.get("/api/approvals").json()["waiting"] == []
    assert flow.resume(run, history=store).is_successful()


def test_limits_across_runs_are_set_and_forgotten(tmp_path: Path) -> None:
    store = tmp_path / "history.db"
    with browser(store) as client:
        assert post(client, "/limits/set", name="db", size="3").status_code == 200
        assert [(each.name, each.size) for each in shared_limits.limits(store)] == [("db", 3)]
        assert post(client, "/limits/set", name="db").status_code == 200
        assert shared_limits.limits(store) == []
        assert post(client, "/limits/set", name="db", size="-1").status_code == 400


def test_a_deployment_is_run_by_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "reports.py"
    source.write_text(
        "from prefectish import flow, task\n"
        "@task\n"
        "def inc(x): return x + 1\n"
        "@flow(name='daily')\n"
        "def daily(n: int, kind: str = 'all', fast: bool = False, csrf: str = 'mine'): inc(n)\n"
    )
    monkeypatch.chdir(tmp_path)
    from prefectish.flow_loading import load_flow
    from prefectish.registry import queue

    store = tmp_path / "history.db"
    load_flow(f"{source}:daily").deploy("sales", parameters={"kind": "some"}, store=store)
    with browser(store) as client:
        page = client.get("/api/deployments/sales/daily").json()
        fields = {field["name"]: (field["kind"], field["value"], field["required"]) for field in page["form"]}
        assert fields == {
            "n": ("integer", "", True),
            "kind": ("text", "some", False),
            "fast": ("boolean", "false", False),
            "csrf": ("text", "mine", False),
        }
        refused = post(client, "/deployments/sales/daily/run", **{"parameter:n": "many"})
        assert (refused.status_code, refused.json()["error"]) == (400, "n must be a whole number, got 'many'")
        assert (
            post(client, "/deployments/sales/daily/run", **{"parameter:kind": "x"}).status_code == 400
        )  # n is missing
        assert (
            post(
                client,
                "/deployments/sales/daily/run",
                **{"parameter:n": "3", "parameter:fast": "true", "parameter:csrf": "yours"},
            ).status_code
            == 200
        )
        (waiting,) = client.get("/api/deployments/sales/daily").json()["waiting"]
        row = queue.row_of(history.store.open_store(store), waiting["run"])
        assert row.parameters == '{"csrf": "yours", "fast": true, "n": 3}'
        assert post(client, "/deployments/sales/daily/active", active="false").status_code == 200
        assert client.get("/api/deployments").json()["deployments"][0]["is_active"] is False
        assert post(client, "/deployments/sales/daily/archive").status_code == 200
        assert client.get("/api/deployments").json()["deployments"] == []
        assert post(client, "/deployments/sales/daily/run", **{"parameter:n": "3"}).status_code == 409


FORMS = ("/runs/x/ask", "/runs/x/approve", "/limits/set", "/deployments/a/b/run", "/deployments/a/b/archive")


@pytest.mark.parametrize("address", FORMS)
def test_x21_what_changes_something_needs_the_form_of_the_page(address: str, tmp_path: Path) -> None:
    with browser(tmp_path / "history.db") as client:
        csrf = csrf_of(client)
        for fields, headers, status in (
            ({}, {}, 403),
            ({"csrf": "x"}, {}, 403),
            ({"csrf": csrf}, {"origin": "https://evil.example"}, 403),
            ({"csrf": csrf}, {"origin": "null"}, 403),
            ({"csrf": csrf, "x": "y" * 1_000_001}, {}, 413),
        ):
            answer = client.post(address, data={"verb": "cancel", **fields}, headers=headers)
            assert answer.status_code == status, (fields.keys(), headers, answer.text)
        assert client.post(address, content=b"x", headers={"x-csrf-token": csrf}).status_code == 415
        assert client.post(f"/api{address}", data={"csrf": csrf}).status_code == 403
        assert client.post(f"/api{address}", json={}).status_code == 403
        assert client.get(address).status_code in (404, 405)
    with browser(tmp_path / "history.db", read_only=True) as client:
        for answer in (
            post(client, address),
            client.post(f"/api{address}", json={}, headers={"Authorization": f"Bearer {TOKEN}"}),
        ):
            assert answer.status_code == 403
            assert "read-only" in answer.json()["error"]
