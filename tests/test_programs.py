"""The programs of `programs/`, as users of Prefect 2 and 3 write them, on every executor: values, states and counts."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import cloudpickle
import pytest

from prefectish import history
from prefectish.errors import ParameterError

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def program(request, monkeypatch):
    """Import the program that the test is named after."""
    name = request.node.originalname.removeprefix("test_").partition("_")[0]
    spec = importlib.util.spec_from_file_location(f"program_{name}", PROGRAMS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)  # no worker can import it by its name
    yield module
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def ran(executor, tmp_path):
    """Run a flow and return its state, and how many children of which task ended in which state."""
    where = str(tmp_path / "history.db")

    def run(flow, **parameters):
        state = flow.with_options(executor=executor).run(parameters, history=where)
        counts: dict[str, Counter[str]] = {}
        for task in history.run(state.context["flow_run_id"], store=where).tasks():
            counts.setdefault(task["name"], Counter()).update(task["counts"])
        return state, {name: dict(found) for name, found in counts.items() if found}

    return run


def test_images_are_weighed_as_they_come(program, ran):
    state, counts = ran(program.images)
    assert (state.result, type(state).__name__) == ((15, ["empty file"]), "Success")
    assert counts == {"fetch": {"Success": 6}, "weigh": {"Success": 5, "Failed": 1}}


def test_regions_have_shops_of_any_number(program, ran):
    state, counts = ran(program.regions)
    assert state.result == {"north": 2940, "south": 0, "west": 1000}
    assert counts == {"shops_of": {"Success": 3}, "sales_of": {"Success": 4}, "total": {"Success": 3}}


def test_scores_of_a_large_table(program, ran):
    state, counts = ran(program.scores, n=8)
    assert state.result == [float(sum(range(row * 50_000, (row + 1) * 50_000))) for row in range(8)]
    assert counts == {"score": {"Success": 8}}


def test_customers_have_a_flow_each(program, ran):
    state, counts = ran(program.customers)
    assert state.result == [0, 100, 201, 303, "order 3 is gone"]
    assert counts == {}  # each report is a run of its own
    report, counts = ran(program.report, customer=4)
    assert (report.is_failed(), counts["value_of"]) == (True, {"Success": 3, "Failed": 1})


def test_downloads_are_tried_again(program, ran, tmp_path):
    state, counts = ran(program.downloads, folder=str(tmp_path))
    assert state.result == ["a after 1", "bb after 2", "never is not there"]
    assert counts == {"download": {"Success": 2, "Failed": 1}}
    assert [len((tmp_path / f"{name}.log").read_text()) for name in ("a", "bb", "never")] == [2, 3, 4]


def test_lookups_are_made_once(program, ran, tmp_path):
    words = ["drawer", "straw", "drawer"]
    state, counts = ran(program.lookups, words=words, folder=str(tmp_path))
    assert (state.result, sum(counts["look_up"].values())) == (["reward", "warts", "reward"], 3)
    again, _ = ran(program.lookups, words=words, folder=str(tmp_path))
    assert again.result == state.result
    assert sorted((tmp_path / "asked").read_text().split()) == ["drawer", "straw"]


def test_nightly_tables_wait_for_one_another(program, ran, tmp_path):
    state, counts = ran(program.nightly, folder=str(tmp_path))
    assert state.result == (False, ["rows", "more rows"])
    order = (tmp_path / "order").read_text().splitlines()
    assert (order[:2], sorted(order[2:4]), order[4:]) == (["drop", "create"], ["more rows", "rows"], ["broken"])
    assert counts == {"write": {"Success": 4, "Failed": 1, "TriggerFailed": 1}}


def test_greetings_are_logged(program, ran, caplog):
    with caplog.at_level("INFO", logger="prefectish"):
        state, counts = ran(program.greetings)
    assert (state.result, counts) == (8, {"greet": {"Success": 2}})
    said = [record.getMessage() for record in caplog.records]
    assert [said.count(text) for text in ("2 guests", "hello Ada", "hello Grace", "greeted Ada")] == [1, 1, 1, 1]


def test_forecast_checks_its_settings(program, ran):
    place = {"name": "Jena", "latitude": "50.9"}
    state, counts = ran(program.forecast, place=place, start="2026-03-01", days="2", unit="F")
    assert state.result == {"place": "Jena", "from": "2026-03-01", "predicted": [67.8, 69.6], "note": None}
    assert counts == {"predict": {"Success": 2}}
    for wrong in ({"unit": "K"}, {"days": "many"}, {"place": {"name": "x", "latitude": 91}}, {"start": "soon"}):
        with pytest.raises(ParameterError, match=f"'{next(iter(wrong))}'"):
            ran(program.forecast, **{"place": place, "start": "2026-03-01", **wrong})


def test_feeds_are_read_at_once(program, ran):
    state, counts = ran(program.feeds, names=["world", "sport", "gone"])
    assert state.result == (2, ["WORLD 0", "SPORT 0"], ["list", "list", "ConnectionError"])
    assert counts == {"read": {"Success": 3, "Failed": 1}, "headline": {"Success": 2}}


def test_every_program_is_run():
    tested = {name.removeprefix("test_").partition("_")[0] for name in globals() if name.startswith("test_")}
    assert {path.stem for path in PROGRAMS.glob("*.py")} == tested - {"every"}
