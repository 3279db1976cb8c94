import asyncio
import pickle
import traceback

import pytest

from prefectish.engine.capture import Error, InterruptFlag, Value, capture, interrupt


class Own(BaseException):
    pass


@pytest.fixture
def interrupted():
    interrupt.set()
    yield
    interrupt.clear()


def raise_(error):
    raise error


def test_capture_returns_the_value():
    outcome = capture(divmod, 7, 2)
    assert isinstance(outcome, Value)
    assert outcome.value == (3, 1)
    assert repr(outcome) == "Value((3, 1))"


def test_capture_passes_keywords_whatever_their_name():
    outcome = capture(lambda **given: given, fn=1, self=2)
    assert isinstance(outcome, Value)
    assert outcome.value == {"fn": 1, "self": 2}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        asyncio.CancelledError(),
        MemoryError(),
        Own("mine"),
    ],
    ids=repr,
)
def test_capture_turns_every_exception_into_a_value(error):
    outcome = capture(raise_, error)
    assert isinstance(outcome, Error)
    assert outcome.exception is error
    assert repr(outcome) == f"Error({error!r})"


def test_capture_survives_endless_recursion():
    def deeper(n):
        return deeper(n + 1)

    outcome = capture(deeper, 0)
    assert isinstance(outcome, Error)
    assert isinstance(outcome.exception, RecursionError)


def test_capture_lets_the_interrupt_of_the_user_through(interrupted):
    with pytest.raises(KeyboardInterrupt):
        capture(raise_, KeyboardInterrupt())


def test_capture_takes_other_errors_while_interrupted(interrupted):
    assert isinstance(capture(raise_, SystemExit(3)), Error)


def test_capture_leaves_its_own_frame_out_of_the_traceback():
    outcome = capture(raise_, ValueError("boom"))
    assert isinstance(outcome, Error)
    frames = traceback.extract_tb(outcome.exception.__traceback__)
    assert [frame.name for frame in frames] == ["raise_"]


def test_capture_keeps_a_traceback_where_the_call_itself_fails():
    outcome = capture(raise_)
    assert isinstance(outcome, Error)
    assert isinstance(outcome.exception, TypeError)
    assert outcome.exception.__traceback__ is not None


def test_interrupt_is_a_plain_flag():
    flag = InterruptFlag()
    assert not flag.is_set()
    flag.set()
    assert flag.is_set()
    flag.clear()
    assert not flag.is_set()


def test_outcomes_survive_a_pickle():
    assert pickle.loads(pickle.dumps(Value([1]))).value == [1]
    assert pickle.loads(pickle.dumps(Error(ValueError("x")))).exception.args == ("x",)
