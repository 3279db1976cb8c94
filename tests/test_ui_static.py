"""What the page is made of: templates and scripts that a strict policy allows, libraries with their licences."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("jinja2")

from prefectish.engine.state import State
from prefectish.history.schema import STATES
from prefectish.ui import drawing
from prefectish.ui.records import Count, Edge, RunDetail, RunSummary, TaskRow, Track
from prefectish.ui.rendering import environment

UI = Path(drawing.__file__).parent
TEMPLATES = sorted((UI / "templates").rglob("*.html"))
SCRIPTS = sorted((UI / "static").glob("*.js"))
VENDOR = UI / "static" / "vendor"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_compile_and_have_nothing_inline(path: Path) -> None:
    text = path.read_text()
    environment().get_template(str(path.relative_to(UI / "templates")))
    assert not re.search(r"\sstyle=|\son\w+=|javascript:|hx-on|<style|hx-vals|\|safe", text)
    assert all("src=" in script for script in re.findall(r"<script[^>]*>", text))
    assert not re.search(r"https?://", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_evaluate_nothing_and_fetch_nothing_from_elsewhere(path: Path) -> None:
    assert not re.search(r"\beval\(|new Function|https?://|insertAdjacentHTML|document\.write", path.read_text())


def test_libraries_have_their_licences_and_are_listed() -> None:
    listed = (VENDOR / "README.md").read_text()
    packages = set()
    for path in VENDOR.iterdir():
        if path.suffix in (".js", ".css"):
            assert f"`{path.name}`" in listed
            packages.add(path.name.split(".")[0].removesuffix("-ext"))
    licences = {path.name.removesuffix(".LICENSE.txt") for path in VENDOR.glob("*.LICENSE.txt")}
    assert packages == licences


def test_each_state_has_its_colour_in_the_picture_of_a_map() -> None:
    found = drawing.map_states()
    for code, name in enumerate(STATES):
        assert found[code + 1] == (name, next(c.color for c in State.children() if c.__name__ == name))
    assert found[255] == ("Running", drawing.color_of("Running"))
    assert found[100] is None


def detail() -> RunDetail:
    now = datetime.now(UTC)
    run = RunSummary(
        id="r1", name="r1", flow="f", project=None, deployment=None, deployment_version=None, state="Running",
        message=None, is_live=True, is_success=False, is_mixed=False, started=now, ended=None, seconds=1.0, counts=[],
        counted="", trigger=None, slow_factor=None,
    )  # fmt: skip
    kinds = {"is_counted": True, "rate": None, "seconds_left": None, "began": None, "ended": None}
    tasks = [
        TaskRow(
            step=0, slug="names-1", label="<b>", is_map=False, state="Success", counts=[], done=1, failed=0, total=1,
            running=0, **kinds,
        ),
        TaskRow(
            step=1, slug="load-1", label="load", is_map=True, state="Running",
            counts=[Count(state="Success", number=3), Count(state="Failed", number=1)], done=4, failed=1, total=1000,
            running=0, **kinds,
        ),
    ]  # fmt: skip
    return RunDetail(
        run=run, tasks=tasks, hidden=0, edges=[Edge(start=0, end=1, argument="name", mapped=True)], causes=[],
        waiting=[], retrying=0, asks=[], notices=[], facts=[], parameters=None, resumed=0, children=[], parent=None,
        verbs=[], resume_command=None, again=None, again_refused=None, scheduled_for=None,
    )  # fmt: skip


class Drawn(HTMLParser):
    """Collects the attributes of tags, and texts."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_graph_leads_to_maps_and_items_without_styles() -> None:
    drawn = Drawn(str(drawing.graph(detail())))
    assert drawn.links == ["runs/r1/tasks/0/items/0", "runs/r1/tasks/1"]
    assert "style" not in drawn.names
    assert {"<b>", "4 of 1,000", "name"} <= set(drawn.texts)


def test_chart_of_a_track_takes_one_piece_for_equal_values() -> None:
    drawn = str(drawing.busy(Track(name="w", items=9, seconds=1.0, busy=[1.0] * 500 + [2.0] * 500, failed=0)))
    assert 'd="M0,24H0V12H500V0H1000V24z"' in drawn
    assert "at most 2.0 at once" in drawn


@pytest.mark.parametrize(
    ("state", "counts", "live", "shown"),
    [
        ("Mapped", {"Success": 9, "Failed": 3}, False, "Failed, 3 of 12"),
        ("Mapped", {"Success": 9, "TriggerFailed": 1000}, False, "Failed, 1,000 of 1,009"),
        ("Mapped", {"Success": 9, "Cached": 3}, False, "Success"),
        ("Mapped", {"Success": 9, "Skipped": 3}, False, "Mapped"),
        ("Mapped", {"Success": 9, "Cancelled": 30}, False, "Cancelled, 30 of 39"),
        ("Running", {"Success": 9, "Failed": 3, "Pending": 1}, True, "Running, 3 failed"),
        ("Pending", {}, True, "Pending"),
    ],
)
def test_badge_of_a_map_says_what_became_of_its_items(
    state: str, counts: dict[str, int], live: bool, shown: str
) -> None:
    found = (
        detail()
        .tasks[1]
        .model_copy(
            update={
                "state": state,
                "counts": [Count(state=name, number=number) for name, number in counts.items()],
                "failed": sum(number for name, number in counts.items() if "Failed" in name),
                "total": sum(counts.values()),
            }
        )
    )
    parts: Any = environment().get_template("parts.html").module
    text = " ".join(re.sub(r"<[^>]+>", " ", parts.task_badge(found, live)).split())
    assert text == shown
