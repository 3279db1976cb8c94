"""What a flow function called, as a picture and as a report: of its last run, and of a recorded one."""

from __future__ import annotations

import pytest
from bodies import add, inc, inverse, total

from prefectish import flow
from prefectish.functions import last_runs


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(last_runs, "_last", {})


def pipeline(**options):
    @flow(**options)
    def drawn(n):
        mapped = inverse.map(inc.map(range(-1, n - 1)))
        called = add.submit(inc.submit(1), 2)
        mapped.wait(), mapped.state
        return total.submit([called, inc.submit(called)]).result()

    return drawn


def lines(text):
    return {line.strip() for line in text.splitlines()}


def test_picture_of_the_last_run_has_calls_maps_edges_and_states(executor):
    drawn = pipeline(history=False)
    state = drawn.run(n=2, executor=executor)
    text = drawn.visualize()
    named = {line.partition("[")[2] for line in lines(text) if line.startswith("t") and "-" not in line}
    assert {
        '"inverse[0]"]:::Failed',
        '"inverse[1]"]:::Success',
        '"add[0]"]:::Success',
        '"total[0]"]:::Success',
    } <= named
    assert sum('|"xs"|' in line for line in lines(text)) == 2
    assert sum("-.->" in line for line in lines(text)) == 2
    assert drawn.visualize(state) == text
    assert drawn.visualize(format="dot").startswith('digraph "drawn"')


def test_large_maps_are_drawn_as_one_with_counts(tmp_path):
    drawn = pipeline(history=False)
    drawn.run(n=30)
    path = tmp_path / "drawn.mmd"
    drawn.visualize(filename=path)
    assert "inverse #60;map#62;<br/>29 Success, 1 Failed" in path.read_text()


def test_picture_of_a_recorded_run_is_that_of_the_run(tmp_path):
    drawn = pipeline(history=str(tmp_path / "history.db"))
    state = drawn.run(n=2)
    before = lines(drawn.visualize())
    last_runs._last.clear()
    after = lines(drawn.visualize(state.context["flow_run_id"]))
    for named in ('"inverse[0]"]:::Failed', '"inverse[1]"]:::Success'):
        assert [sum(named in line for line in found) for found in (before, after)] == [1, 1]
    assert sum("-.->" in line for line in after) == 2


def test_handle_and_run_of_the_background_can_be_drawn():
    drawn = pipeline(history=False)
    run = drawn.start(n=2)
    run.wait(20)
    assert drawn.visualize(run) == drawn.visualize()


def test_nothing_to_draw_says_so():
    drawn = pipeline(history=False)
    with pytest.raises(ValueError, match="nothing is known yet of what drawn calls: run it in this process, or pass"):
        drawn.visualize()
    with pytest.raises(ValueError, match="nothing is known of run 'none' of what drawn calls"):
        drawn.visualize("none")
    drawn.run(n=2)
    with pytest.raises(ValueError, match="format must be one of 'mermaid', 'dot'"):
        drawn.visualize(format="gif")


def test_large_results_are_not_kept_for_pictures():
    import gc
    import weakref

    class Large:
        pass

    seen = []

    @flow(history=False)
    def makes():
        from prefectish import task

        @task
        def make():
            made = Large()
            seen.append(weakref.ref(made))
            return made

        make.submit().wait()

    makes()
    gc.collect()
    assert seen[0]() is None
    assert "make[0]" in makes.visualize()


def test_report_of_a_run_that_was_not_recorded(tmp_path):
    drawn = pipeline(history=False)
    page = drawn.run(n=2).report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert page == str(tmp_path / "report.html")
    assert "inverse" in text
    assert "division by zero" in text
