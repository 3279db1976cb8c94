"""assert_states: what is expected of a run is met, or what is not is told in full."""

from __future__ import annotations

import pytest

from prefectish import Flow, task
from prefectish.engine.state import Cancelled, Failed, Mapped, Paused, Success, TriggerFailed
from prefectish.testing import assert_states


@task
def load(x):
    return 12 // x


@task
def report(xs):
    return len(xs)


@task
def other():
    return "other"


@pytest.fixture(scope="module")
def ran():
    """A run with a child that failed, and two tasks of one name."""
    with Flow("thumbnails") as flow:
        loaded = load.map([1, 0, 3])
        reported = report(loaded)
        other()
        second = other()
    return flow.run(history=False), loaded, reported, second


@pytest.mark.parametrize(
    "wanted",
    [
        ["Success", "Failed", "Success"],
        ("Success", Failed, Success),
        [Success(result=12), "Failed", Success(result=4)],
        ["Success", lambda state: "ZeroDivisionError" in state.message, "Success"],
        {"Success": 2, "Failed": 1},
        {Success: 2, "Failed": 1, "Skipped": 0},
        "Mapped",
        Mapped,
        lambda state: len(state.map_states) == 3,
    ],
)
def test_map_that_is_as_expected_passes(ran, wanted):
    state, loaded, _, _ = ran
    assert_states(state, {loaded: wanted})
    assert_states(state, {"load-1": wanted})
    assert_states(state, {"load": wanted})


@pytest.mark.parametrize("wanted", ["TriggerFailed", TriggerFailed, lambda state: state.is_failed()])
def test_task_that_is_as_expected_passes(ran, wanted):
    state, _, reported, _ = ran
    assert_states(state, {reported: wanted, None: "Failed"})


def complaint(state, expected):
    with pytest.raises(AssertionError) as caught:
        assert_states(state, expected)
    assert str(caught.value).startswith("not as expected:\n")
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_subclass_is_not_the_class(ran):
    state, _, reported, _ = ran
    reason = """Trigger was "all_successful" but some of the upstream tasks failed."""
    text = f"report: expected Failed, got TriggerFailed('{reason}')"
    assert complaint(state, {reported: "Failed"}) == [text]
    assert complaint(state, {reported: Failed}) == [text]


def test_one_state_for_a_map_is_for_each_child(ran):
    state, loaded, _, _ = ran
    failure = "'Error during execution of task: ZeroDivisionError"
    (line,) = complaint(state, {loaded: "Success"})
    assert line.startswith('load[1]: expected Success, got Failed("Error during execution of task: ZeroDivisionError')
    assert failure[1:] in line
    assert len(complaint(state, {loaded: Cancelled})) == 3


def test_all_that_is_wrong_is_reported_at_once(ran):
    state, loaded, _, _ = ran
    lines = complaint(state, {loaded: ["Success"] * 3, "report": "Success", "other": "Failed", None: "Success"})
    assert [line.partition(":")[0] for line in lines] == ["load[1]", "report", "other-1", "other-2", "the flow"]
    assert lines[2] == "other-1: expected Failed, got Success(result='other')"


def test_slug_is_one_task_and_a_name_is_all_of_that_name(ran):
    state, _, _, second = ran
    assert len(complaint(state, {"other": "Failed"})) == 2
    assert len(complaint(state, {"other-2": "Failed"})) == 1
    assert len(complaint(state, {second: "Failed"})) == 1


def test_results_are_compared_with_a_state_that_is_given(ran):
    state, _, _, second = ran
    assert_states(state, {second: Success(result="other")})
    (line,) = complaint(state, {second: Success(result="another")})
    assert line == "other-2: expected Success(result='another'), got Success(result='other')"


def test_wrong_number_of_children_is_reported_and_their_counts_too(ran):
    state, loaded, _, _ = ran
    assert complaint(state, {loaded: ["Success"]}) == ["load: expected 1 children, got 3"]
    assert complaint(state, {loaded: {"Success": 3}}) == ["load: expected 3 Success, got 1 Failed, 2 Success"]
    assert complaint(state, {loaded: {}}) == ["load: expected no child, got 1 Failed, 2 Success"]


def test_children_are_expected_of_maps_only(ran):
    state, _, reported, _ = ran
    (line,) = complaint(state, {reported: ["Success"]})
    assert line.startswith("report: expected children, got TriggerFailed(")
    assert line.endswith("which is not mapped")


def test_long_lists_of_children_are_cut():
    with Flow("many") as flow:
        loaded = load.map([0] * 40)
    lines = complaint(flow.run(history=False), {loaded: "Success"})
    assert len(lines) == 6
    assert lines[-1] == "load: and 35 more of 40 children"


def test_child_without_a_state_is_none():
    with Flow("part") as flow:
        loaded = load.map([1, 2])
    flow_state = Success(result={loaded: Mapped(map_states=[Success(result=1), None])})
    assert_states(flow_state, {loaded: ["Success", None]})
    assert_states(flow_state, {"load": ["Success", None]})
    assert complaint(flow_state, {loaded: ["Success", "Success"]}) == ["load[1]: expected Success, got no state"]
    assert complaint(flow_state, {loaded: [None, None]}) == ["load[0]: expected no state, got Success(result=1)"]
    assert flow.name == "part"


def test_result_whose_repr_breaks_is_reported_nevertheless():
    class Odd:
        def __repr__(self):
            raise RuntimeError("no repr")

    odd = task(Odd, name="odd")
    with Flow("odd") as flow:
        made = odd()
    assert complaint(flow.run(history=False), {made: "Failed"}) == ["odd: expected Failed, got Success(result=no repr)"]


def test_what_is_not_a_task_and_no_state_is_refused_by_name(ran):
    state, loaded, _, _ = ran
    with pytest.raises(ValueError, match=r"'laod'; the tasks of this run are: Constant\[list\], load,"):
        assert_states(state, {"laod": "Success"})
    with pytest.raises(ValueError, match="unknown task <Task: load>; the tasks of this run are"):
        assert_states(state, {load: "Success"})
    with pytest.raises(ValueError, match="unknown state 'Sucess'; states are: Cached, Cancelled"):
        assert_states(state, {loaded: "Sucess"})
    with pytest.raises(ValueError, match="unknown state 'Sucess'"):
        assert_states(state, {loaded: {"Sucess": 3}})
    with pytest.raises(ValueError, match="an expectation must be the name of a state, a state class, a state or a"):
        assert_states(state, {"report": 3})
    with pytest.raises(ValueError, match=r"state must be the state of a flow as returned by flow\.run\(\.\.\.\),"):
        assert_states(Paused(), {})
