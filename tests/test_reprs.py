from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pages import EVIL, safe
from real import spend

from prefectish import Flow, Parameter, flatten, task
from prefectish.display import views
from prefectish.engine.state import Failed, Mapped, Pending, Running, Skipped, Success, TriggerFailed
from prefectish.secrets import masking


@task
def load(x):
    if x % 3 == 0:
        raise ValueError(f"no file {x}")
    return x


@task
def total(values):
    return sum(values)


@pytest.fixture
def flow():
    with Flow("loads") as flow:
        total(load.map(Parameter("rows")))
    return flow


@pytest.fixture
def ran(flow):
    return flow.run(rows=[1, 2, 3, 4, 5, 6, 7], history=False)


def test_flow_shows_its_graph_and_parameters(flow):
    page = safe(flow._repr_html_())
    assert "svg" in page.tags
    for text in ("loads", "3 tasks", "load", "total", "rows"):
        assert text in page.text
    assert "stroke-dasharray" in flow._repr_html_()


def test_wide_flow_is_scrolled_and_not_shrunk_beyond_reading():
    with Flow("wide") as flow:
        for n in range(30):
            load([1, 2], task_args={"name": f"branch number {n}"})
    html = flow._repr_html_()
    width, least = map(
        int, re.search(r'<svg class="pf-graph".* width="(\d+)".* style="min-width:(\d+)px', html).groups()
    )
    assert width > 3000
    assert least == pytest.approx(0.75 * width, abs=1)
    assert ".pf-scroll { overflow-x: auto }" in html
    assert "30 tasks, 0 edges" in safe(html).text, "without what is written in the flow"


def test_flow_without_tasks_says_so():
    assert "no tasks yet" in safe(Flow("empty")._repr_html_()).text


def test_flow_with_a_cycle_says_so():
    with Flow("round") as flow:
        one, two = load(1), load(2)
    flow.add_edge(one, two)
    flow.add_edge(two, one)
    assert "cycle: load" in safe(flow._repr_html_()).text


def test_flow_that_is_too_large_to_draw_says_how_it_can_be():
    with Flow("large") as flow:
        for n in range(301):
            load(n)
    assert "visualize(filename=" in safe(flow._repr_html_()).text


def test_run_shows_counts_causes_and_graph(ran):
    page = safe(ran._repr_html_())
    for text in (
        "loads",
        "Failed",
        "5 Success",
        "2 Failed",
        "2 \N{MULTIPLICATION SIGN}",
        "ValueError: no file 3",
        "load[2], load[5]",
    ):
        assert text in page.text
    assert 'raise ValueError(f"no file {x}")' in page.text
    assert "svg" in page.tags


def test_run_that_was_not_recorded_knows_its_slowest_children(tmp_path):
    @task(task_run_name="wait ${seconds}")
    def wait(seconds):
        spend(seconds)
        return [0] * round(1000 * seconds)

    @task
    def idle(x):
        return x

    with Flow("waits") as flow:
        waited = wait.map([0.0, 0.03, 0.06])
        idle.map(flatten(waited))
    state = flow.run(history=False)
    assert [(slow.slug, slow.map_index) for slow in state.result.slowest[:2]] == [("wait-1", 2), ("wait-1", 1)]
    assert len(state.result.slowest) == 20
    for shown in (state._repr_html_(), Path(state.report(tmp_path / "run.html")).read_text()):
        text = safe(shown).text
        assert text.index("wait[2] (wait 0.06)") < text.index("wait[1] (wait 0.03)") < text.index("idle[")
        assert "attempts" not in text


def test_children_whose_bodies_were_not_called_did_not_take_long(ran):
    slugs = {slow.name for slow in views.of_run(ran).slowest}
    assert "load[0]" in slugs
    assert "total-1" not in slugs


def test_causes_come_before_their_consequences():
    children = [TriggerFailed("upstream failed")] * 5 + [Failed("", KeyError("a"))]
    causes, unseen = views.causes_of([("load", Mapped(map_states=children))])
    assert [(cause.kind, cause.number) for cause in causes] == [("Failed", 1), ("TriggerFailed", 5)]
    assert unseen == 0


def test_map_shows_its_children(ran):
    page = safe(ran["load"]._repr_html_())
    assert "5 Success" in page.text
    assert "load[2], load[5]" in page.text
    assert repr(ran["load"]) == 'Mapped("Mapped tasks ended.") of load: 5 of 7 items succeeded, 2 failed'
    assert repr(ran["load"].children(failed=True)).startswith("<2 children\n    load[2]: Failed(")


@pytest.mark.parametrize(
    "state", [Success("done"), Failed("bad", ValueError("bad")), Pending(), Skipped("no"), Running()]
)
def test_single_state_shows_what_it_is(state):
    text = safe(state._repr_html_()).text
    assert type(state).__name__ in text
    assert str(state.message or "") in text


def test_map_that_is_not_finished_counts_children_of_which_nothing_is_known():
    page = safe(Mapped(map_states=[Success(), None], n_map_states=5)._repr_html_())
    assert "4 Pending" in page.text
    assert "1 Success" in page.text


def test_x9_names_and_messages_are_shown_not_obeyed():
    @task(name=EVIL, slug=f"slug {EVIL}")
    def evil(x):
        raise ValueError(EVIL)

    with Flow(EVIL) as flow:
        evil.map(Parameter(f"{EVIL} rows"))
    state = flow.run({f"{EVIL} rows": [1, 2]}, history=False)
    for shown in (flow, state, state[EVIL], state[EVIL][0]):
        assert "alert('x')" in safe(shown._repr_html_()).text
        assert "forged" in safe(shown._repr_html_()).text


def test_run_in_the_background_shows_how_far_it_is():
    gate, begun = threading.Event(), threading.Event()

    @task
    def waits(x):
        begun.set()
        assert gate.wait(60)
        return x

    with Flow("background") as flow:
        waits.map([1, 2, 3])
    run = flow.start(history=False)
    try:
        assert begun.wait(60)
        text = safe(run._repr_html_()).text
        assert "background" in text
        assert "Running" in text
        assert "0 of 3" in text
    finally:
        gate.set()
    run.wait(60)
    assert "3 Success" in safe(run._repr_html_()).text


def test_secrets_are_not_shown(monkeypatch, tmp_path):
    secret = "hunter2 and\na second line"
    monkeypatch.setattr(masking, "_known", masking._known)
    monkeypatch.setattr(masking, "pattern", masking.pattern)
    masking.register(secret)

    @task(name="leaky")
    def leaks(x):
        raise ValueError(f"cannot log in with {secret}")

    with Flow(f"flow with {secret}") as flow:
        leaks.map([1])
    state = flow.run(history=False)
    path = state.report(tmp_path / "run.html")
    with open(path) as file:
        shown = [flow._repr_html_(), state._repr_html_(), state["leaky"][0]._repr_html_(), file.read()]
    for html in shown:
        assert "hunter2" not in html
        assert "second line" not in html
        assert "****" in html


def test_message_whose_str_breaks_is_reported():
    class Broken:
        def __str__(self):
            raise RuntimeError("no")

    assert "Broken whose str raises RuntimeError" in safe(Success(Broken())._repr_html_()).text


def test_many_failures_are_looked_at_in_part(monkeypatch):
    monkeypatch.setattr(views, "MAX_FAILURES_READ", 20)
    children = [Failed("", ValueError(f"row {n}")) for n in range(views.MAX_FAILURES_READ + 7)]
    causes, unseen = views.causes_of([("load", Mapped(map_states=children))])
    assert [cause.number for cause in causes] == [views.MAX_FAILURES_READ]
    assert unseen == 7
    assert "and 7 more failures" in safe(Mapped(map_states=children)._repr_html_()).text


def test_many_causes_are_shown_in_part():
    children = [Failed("", ValueError("cause " + "x" * n)) for n in range(views.MAX_CAUSES + 4)]
    causes, unseen = views.causes_of([("load", Mapped(map_states=children))])
    assert (len(causes), unseen) == (views.MAX_CAUSES, 4)


def test_children_are_named_by_their_run_names():
    state = Mapped(map_states=[Failed("", ValueError("a"), context={"task_run_name": "load eu.csv"})])
    assert views.causes_of([("load", state)])[0][0].named == ["load[0] (load eu.csv)"]


def test_display_is_imported_only_when_used():
    code = (
        "import sys, prefectish\n"
        "with prefectish.Flow('f') as flow: prefectish.Parameter('x')\n"
        "assert not [m for m in sys.modules if m.startswith(('jinja2', 'prefectish.display'))]\n"
        "flow._repr_html_()\n"
        "assert 'jinja2' in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
