import copy
import pickle
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.engine import signals
from prefectish.engine.context import context
from prefectish.engine.signals import signal_from_state
from prefectish.engine.state import (
    Cached,
    Failed,
    Looped,
    Paused,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

STATE_OF = {
    signals.FAIL: Failed,
    signals.TRIGGERFAIL: TriggerFailed,
    signals.VALIDATIONFAIL: ValidationFailed,
    signals.SUCCESS: Success,
    signals.RETRY: Retrying,
    signals.SKIP: Skipped,
    signals.PAUSE: Paused,
    signals.LOOP: Looped,
}


class OwnFail(signals.FAIL):
    """A user's signal, whose arguments are not those of its base."""

    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")
        self.code = code


@pytest.mark.parametrize(("signal", "cls"), STATE_OF.items())
def test_signal_carries_its_state(signal, cls):
    made = signal("because")
    assert type(made.state) is cls
    assert made.state.message == str(made) == "because"
    assert signal(message="because").state.message == "because"
    assert signal().state.message is None


@pytest.mark.parametrize("signal", [signal for signal in STATE_OF if signal is not signals.LOOP])
def test_default_result_is_the_signal_itself(signal):
    made = signal("because")
    assert made.state.result is made


def test_default_result_of_a_loop_is_its_repr():
    assert signals.LOOP("again").state.result == "LOOP('again')"
    assert signals.LOOP().state.result == "LOOP()"


@pytest.mark.parametrize("signal", STATE_OF)
@pytest.mark.parametrize("result", [0, None, {}, "x"], ids=repr)
def test_result_may_be_given(signal, result):
    assert signal("because", result=result).state.result == result


def test_keywords_go_to_the_state():
    state = signals.RETRY(start_time=NOON, run_count=3).state
    assert (state.start_time, state.run_count) == (NOON, 3)
    assert signals.LOOP(loop_count=4).state.loop_count == 4
    assert signals.PAUSE(start_time=NOON).state.start_time == NOON
    assert signals.PAUSE().state.start_time is None
    assert signals.FAIL(context={"a": 1}).state.context == {"a": 1}


@pytest.mark.parametrize("signal", STATE_OF)
def test_unknown_keyword_is_refused_when_the_signal_is_made(signal):
    with pytest.raises(TypeError, match="no_such"):
        signal("because", no_such=1)
    with pytest.raises(TypeError):
        signal("because", "a second positional")


def test_counts_come_from_the_run():
    with context(task_run_count=3, task_loop_count=5):
        assert signals.RETRY().state.run_count == 3
        assert signals.LOOP().state.loop_count == 5


@pytest.mark.parametrize("made", [*(signal("x") for signal in STATE_OF), signals.ENDRUN(Success()), OwnFail(1, "sea")])
def test_signals_pass_through_except_exception(made):
    def body():
        try:
            raise made
        except Exception:
            return "swallowed"

    with pytest.raises(signals.Signal):
        body()
    assert not isinstance(made, Exception)


def test_trigger_and_validation_failures_are_failures():
    assert issubclass(signals.TRIGGERFAIL, signals.FAIL)
    assert issubclass(signals.VALIDATIONFAIL, signals.FAIL)


def test_endrun_carries_the_state_given():
    state = Skipped("enough", 4)
    made = signals.ENDRUN(state)
    assert made.state is state
    assert signals.ENDRUN(state=state).state is state
    assert str(made) == "enough"
    assert not isinstance(made, signals.StateSignal)


def test_endrun_needs_a_state():
    with pytest.raises(TypeError, match="ENDRUN takes the state to end in, got 'over'"):
        signals.ENDRUN("over")


def test_timeout_shares_the_base_but_is_not_a_public_signal():
    made = signals.TimeoutSignal()
    assert isinstance(made, signals.Signal)
    assert not isinstance(made, signals.StateSignal)
    assert made.state == TimedOut(result=made)
    assert made.state.message == "Task timed out during execution."


@pytest.mark.parametrize(("signal", "cls"), STATE_OF.items())
def test_signal_from_state_is_by_exact_class(signal, cls):
    assert signal_from_state(cls("m")) is signal


@pytest.mark.parametrize("cls", [State, Running, Cached, TimedOut])
def test_signal_from_state_refuses_what_no_signal_asks_for(cls):
    with pytest.raises(ValueError, match=f"no signal asks for {cls.__name__}; there are signals for Failed, Looped"):
        signal_from_state(cls())


# ---------------------------------------------------------------------- pickling

ROUND_TRIPS = [lambda value: pickle.loads(pickle.dumps(value)), copy.copy]


def same_signal(one, other):
    assert type(one) is type(other)
    assert one.args == other.args
    assert type(one.state) is type(other.state)
    assert one.state.message == other.state.message
    assert (one.state.result is one) is (other.state.result is other)


@pytest.mark.parametrize("round_trip", ROUND_TRIPS, ids=["pickle", "copy"])
@pytest.mark.parametrize("signal", STATE_OF)
def test_every_signal_survives(signal, round_trip):
    made = signal("because")
    same_signal(round_trip(made), made)


@given(st.sampled_from(list(STATE_OF)), st.none() | st.text(), st.integers() | st.text() | st.lists(st.integers()))
def test_result_survives(signal, message, result):
    made = signal(message, result=result)
    copied = pickle.loads(pickle.dumps(made))
    same_signal(copied, made)
    assert copied.state == made.state


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}_", fullmatch=True), st.integers() | st.text()))
def test_attributes_hung_on_a_signal_survive(attributes):
    made = signals.FAIL("a equaled b!")
    for name, value in attributes.items():
        setattr(made, name, value)
    copied = pickle.loads(pickle.dumps(made))
    assert {name: getattr(copied, name) for name in attributes} == attributes
    assert copied.state.result is copied


def test_notes_survive():
    made = signals.FAIL("no")
    made.add_note("look here")
    assert pickle.loads(pickle.dumps(made)).__notes__ == ["look here"]


def test_keywords_survive():
    made = signals.RETRY("later", start_time=NOON, run_count=3)
    with context(task_run_count=9):
        copied = pickle.loads(pickle.dumps(made))
    assert (copied.state.start_time, copied.state.run_count) == (NOON, 3)


def test_default_start_time_survives():
    made = signals.RETRY()
    assert pickle.loads(pickle.dumps(made)).state.start_time == made.state.start_time


def test_signal_of_a_user_survives():
    copied = pickle.loads(pickle.dumps(OwnFail(7, "sea")))
    assert type(copied) is OwnFail
    assert (copied.code, str(copied)) == (7, "7 at sea")
    assert copied.state.result is copied


def test_endrun_survives():
    copied = pickle.loads(pickle.dumps(signals.ENDRUN(Skipped("enough", 4))))
    assert copied.state == Skipped(result=4)
    assert copied.state.message == "enough"


def test_timeout_survives():
    copied = pickle.loads(pickle.dumps(signals.TimeoutSignal()))
    assert copied.state.result is copied


def test_signal_with_what_cannot_be_pickled_says_so():
    made = signals.FAIL("no")
    made.lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(made)
    # Inside a state it is replaced like any other exception.
    assert str(pickle.loads(pickle.dumps(made.state)).result) == "FAIL: no"
