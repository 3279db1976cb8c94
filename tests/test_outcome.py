from __future__ import annotations

import copy
import pickle

import cloudpickle
import pytest

from prefectish import Flow, Parameter, Task, history, task
from prefectish.engine import signals
from prefectish.engine.state import Cancelled, Failed, Mapped, Pending, Skipped, State, Success
from prefectish.engine.task_states import ChildStates, MapResult, TaskStates


@task
def load(x):
    if x == 2:
        raise ValueError("no such file")
    if x == 3:
        raise signals.SKIP("nothing in it")
    return x * 10


@task
def total(values):
    return len(values)


@task(name="say")
def said(x):
    return x


@pytest.fixture(scope="module")
def ran():
    with Flow("loads") as flow:
        loaded = load.map(Parameter("rows"))
        total(loaded, task_args={"trigger": lambda states: True, "skip_on_upstream_skip": False})
        said("once")
        said("twice")
    return flow.run(rows=[1, 2, 3, 4], history=False)


def test_task_is_found_by_name_slug_and_itself(ran):
    by_name = ran["load"]
    assert by_name.is_mapped()
    assert ran["load-1"] is by_name
    loaded = next(t for t in ran.result if t.name == "load")
    assert ran[loaded] is by_name


def test_child_is_found_by_index(ran):
    assert ran["load"][0].result == 10
    assert ran["load"][-1].result == 40
    assert [state.result for state in ran["load"][:1]] == [10]
    with pytest.raises(IndexError, match="there is no child 4: the map has 4"):
        ran["load"][4]


def test_key_of_an_item_is_no_index_and_the_message_says_where_it_is_one():
    @task(item_key=lambda x: x[0])
    def keyed(x):
        return x[1]

    with Flow("keyed") as graph:
        keyed.map([("a", 1), ("b", 2)])
    state = graph.run()
    for ask in (lambda: state["keyed"]["b"], lambda: state.results("keyed")["b"]):
        with pytest.raises(TypeError, match=r"an integer or a slice, got 'b'; .* history\.run\(run_id\)\.child\("):
            ask()
    run = history.run(state.context["flow_run_id"])
    assert run.child("keyed", "b").index == 1


def test_name_of_no_task_is_reported_with_those_there_are(ran):
    with pytest.raises(KeyError, match=r"no task is called 'lode' in this run: .*'load'"):
        ran["lode"]


def test_name_of_two_tasks_is_reported_with_their_slugs(ran):
    with pytest.raises(KeyError, match=r"2 tasks are called 'say'.*'say-1', 'say-2'"):
        ran["say"]
    assert ran["say-2"].result == "twice"


def test_task_that_was_called_once_stands_for_its_call(ran):
    assert ran[load] is ran["load"]
    assert ran.children(load, failed=True).indices == [1]
    assert ran.results(load).failed.keys() == {1}
    with pytest.raises(KeyError, match=r"2 tasks are calls of <Task: say>.*'say-1', 'say-2'"):
        ran[said]


def test_task_that_was_called_under_another_name_stands_for_its_call():
    class Twice(Task):
        def run(self, x):
            return 2 * x

    once, twice, other = task(lambda x: x, name="same"), Twice(), Twice(name="other")
    with Flow("f") as flow:
        once(1, task_args={"name": "renamed"})
        twice(2)
        other(3)
    state = flow.run(history=False)
    assert [state[each].result for each in (once, twice, other)] == [1, 4, 6]
    assert copy.copy(state)[once].result == 1


def test_foreign_task_is_refused(ran):
    for foreign in (task(lambda x: x, name="load"), Task(name="load"), 3):
        with pytest.raises(KeyError, match="not among the tasks of this run"):
            ran[foreign]


def test_state_of_a_task_has_no_states_inside():
    with pytest.raises(TypeError, match="is not the state of a flow run"):
        Success("", {"load": 3})["load"]


def test_state_is_not_a_sequence(ran):
    for state in (ran, ran["load"]):
        with pytest.raises(TypeError):
            iter(state)
        with pytest.raises(TypeError):
            len(state)


def test_completion_offers_names_and_slugs_where_names_are_not_enough(ran):
    assert set(ran._ipython_key_completions_()) == {"load", "total", "say-1", "say-2", "rows"}
    for key in ran._ipython_key_completions_():
        assert isinstance(ran[key], State)
    assert ran["load"]._ipython_key_completions_() == []
    assert Success("", 3)._ipython_key_completions_() == []


def test_ipython_completes_the_names(ran):
    completer = pytest.importorskip("IPython.core.completer")
    found = completer.IPCompleter(use_jedi=False, global_namespace={"state": ran}, namespace={"state": ran})
    with completer.provisionalcompleter():
        texts = [completion.text for completion in found.completions('state["lo', 9)]
    assert any("load" in text for text in texts)


def test_failed_children_are_found_with_their_indices(ran):
    failed = ran.children("load", failed=True)
    assert [type(state) for state in failed] == [Failed]
    assert failed.indices == [1]
    assert dict(failed.items())[1] is ran["load"][1]
    assert repr(failed).startswith('<1 child\n    load[1]: Failed("')
    assert ran["load"].children(failed=True) == failed


def test_children_by_state_are_of_the_class_or_below(ran):
    assert ran.children("load", state="Success").indices == [0, 2, 3]
    assert ran.children("load", state=Skipped).indices == [2]
    assert ran.children("load", failed=False).indices == [0, 2, 3]
    assert ran.children("load").indices == [0, 1, 2, 3]
    with pytest.raises(TypeError, match="unexpected keyword argument 'faild'"):
        ran.children("load", faild=True)


def test_single_task_is_its_own_only_child(ran):
    assert ran.children("total") == [ran["total"]]
    assert ran.children("total", failed=True) == []


def test_children_of_a_state_without_a_task_are_those_of_its_class(ran):
    assert ran.children() == type(ran).children()
    assert Failed("").children(names_only=True) == Failed.children(names_only=True)
    assert Failed("").children(True)[0] is Failed


def test_repr_of_children_is_short_and_in_lines_of_its_own():
    children = [Failed("one\nforged \x1b[31m line") for _ in range(9)]
    lines = repr(Mapped(map_states=children).children(failed=True)).splitlines()
    assert len(lines) == 7
    assert lines[0] == "<9 children"
    assert "one\\nforged \\x1b[31m line" in lines[1]


def test_results_are_aligned_with_items(ran):
    results = ran.results("load")
    assert len(results) == 4
    assert (results[0], results[2], results[3]) == (10, None, 40)
    assert isinstance(results[1], ValueError)
    assert results.ok == {0: 10, 3: 40}
    assert list(results.failed) == [1]
    assert results.skipped == {2: "nothing in it"}
    assert results.missing == {}
    assert repr(results) == "<MapResult of 4: 2 ok, 1 failed, 1 skipped>"
    assert isinstance(results[1:], MapResult)
    assert results[1:].ok == {2: 40}


def test_results_tell_what_is_missing():
    results = Mapped(map_states=[Cancelled(), None, Pending(), Success("", 1)], n_map_states=5).results()
    assert list(results.missing) == [0, 1, 2, 4]
    assert repr(results) == "<MapResult of 5: 1 ok, 0 failed, 0 skipped, 1 cancelled, 3 unfinished>"


def test_results_are_read_when_asked_for():
    class Sore(Success):
        __slots__ = ()

        @property
        def result(self):
            raise AssertionError("read too early")

    results = Mapped(map_states=[Sore(), Success("", 1)]).results()
    assert results[1] == 1
    assert repr(results).startswith("<MapResult of 2: 2 ok")
    with pytest.raises(AssertionError, match="too early"):
        results[0]


def test_results_of_a_task_that_is_not_mapped_are_refused(ran):
    with pytest.raises(TypeError, match="total is not mapped"):
        ran.results("total")


def test_states_of_a_run_travel_with_what_is_known_of_the_flow(ran):
    for there in (cloudpickle.loads(cloudpickle.dumps(ran)), copy.deepcopy(ran)):
        states = there.result
        assert isinstance(states, TaskStates)
        assert there["say-2"].result == "twice"
        assert states.flow_name == "loads"
        assert states.arrows == ran.result.arrows
        assert set(states.slugs) == set(states)


def test_arrows_and_maps_are_those_of_the_flow(ran):
    states = ran.result
    found = {(arrow.start, arrow.end, arrow.key, arrow.mapped) for arrow in states.arrows}
    assert ("rows", "load-1", "x", True) in found
    assert ("load-1", "total-1", "values", False) in found
    assert states.mapped == {"load-1"}


def test_child_states_pickle():
    children = Mapped(map_states=[Failed("a"), Success()]).children(failed=True)
    back = pickle.loads(pickle.dumps(children))
    assert isinstance(back, ChildStates)
    assert back.indices == [0]
    assert back == children
