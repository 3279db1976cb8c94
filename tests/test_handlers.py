import pickle
from operator import methodcaller

import pytest

from prefectish.engine import signals
from prefectish.engine.capture import interrupt
from prefectish.engine.context import raise_on_exception
from prefectish.engine.handlers import call_handlers, callback_factory, on_failure_handler
from prefectish.engine.state import Failed, Paused, Pending, Resume, Retrying, Running, Skipped, Success, TriggerFailed
from prefectish.utilities import notifications

OLD = Pending()
NEW = Running("Starting task run.")


def keep(obj, old, new):
    return None


def answer(value):
    def answering(obj, old, new):
        return value

    return answering


def break_with(error):
    def breaking(obj, old, new):
        raise error

    return breaking


def never(obj, old, new):
    pytest.fail("a handler after one that broke was called")


def test_no_handlers_keep_the_state():
    transition = call_handlers("task", [], OLD, NEW)
    assert transition.state is NEW
    assert transition.aborted is False
    assert repr(transition) == 'Transition(Running("Starting task run."), aborted=False)'


def test_handler_gets_object_old_and_new():
    seen = []
    call_handlers("task", [lambda *args: seen.append(args)], OLD, NEW)
    assert seen == [("task", OLD, NEW)]


def test_handler_that_returns_none_keeps_the_state():
    assert call_handlers("task", [keep], OLD, NEW).state is NEW


def test_handlers_are_called_in_order_and_see_the_output_of_the_one_before():
    seen = []

    def note(obj, old, new):
        seen.append((old, new))

    paused, resume = Paused(), Resume()
    transition = call_handlers("task", [note, answer(paused), note, answer(resume), keep, note], OLD, NEW)
    assert [new for _, new in seen] == [NEW, paused, resume]
    assert {id(old) for old, _ in seen} == {id(OLD)}
    assert transition.state is resume
    assert not transition.aborted


def test_handler_may_turn_a_failure_into_a_success():
    transition = call_handlers("task", [answer(Success("fine", 1))], NEW, Failed("no"))
    assert transition.state == Success(result=1)
    assert not transition.aborted


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_handler_that_raises_ends_the_run_at_once(error):
    """U10."""
    transition = call_handlers("task", [break_with(error), never], OLD, NEW)
    assert type(transition.state) is Failed
    assert transition.state.message == f"Unexpected error while calling state handlers: {error!r}"
    assert transition.state.result is error
    assert transition.aborted


def test_handler_lets_the_interrupt_of_the_user_through():
    interrupt.set()
    try:
        with pytest.raises(KeyboardInterrupt):
            call_handlers("task", [break_with(KeyboardInterrupt())], OLD, NEW)
    finally:
        interrupt.clear()


@pytest.mark.parametrize(
    ("signal", "cls"),
    [
        (signals.PAUSE("wait"), Paused),
        (signals.RETRY("again"), Retrying),
        (signals.SKIP("not today"), Skipped),
        (signals.FAIL("no"), Failed),
        (signals.ENDRUN(Success("over", 4)), Success),
    ],
    ids=repr,
)
def test_handler_that_raises_a_signal_names_the_state(signal, cls):
    transition = call_handlers("task", [break_with(signal), never], OLD, NEW)
    assert transition.state is signal.state
    assert type(transition.state) is cls
    assert transition.aborted


@pytest.mark.parametrize("value", [42, "Success", Success, False], ids=repr)
def test_handler_that_returns_no_state_fails_the_run(value):
    """U11."""
    transition = call_handlers("task", [answer(value), never], OLD, NEW)
    assert type(transition.state) is Failed
    assert transition.state.message == f"state handler answering returned {type(value).__name__}"
    assert type(transition.state.result) is TypeError
    assert transition.aborted


def test_raise_on_exception_is_left_to_the_owner_of_the_run():
    """A handler may run on a worker, where nothing must escape; its error is in the state."""
    with raise_on_exception():
        transition = call_handlers("task", [break_with(ValueError("boom"))], OLD, NEW)
    assert type(transition.state.result) is ValueError
    assert transition.aborted


def test_raise_on_exception_still_takes_signals():
    with raise_on_exception():
        assert call_handlers("task", [break_with(signals.SKIP())], OLD, NEW).state.is_skipped()


def test_callback_fires_if_its_check_is_true():
    seen = []
    handler = callback_factory(lambda obj, state: seen.append((obj, state)), lambda state: state.is_running())
    assert handler("task", OLD, NEW) is NEW
    assert handler("task", NEW, OLD) is OLD
    assert seen == [("task", NEW)]


@pytest.mark.parametrize("truthy", [1, "yes", [0]], ids=repr)
def test_callback_does_not_fire_for_what_is_merely_truthy(truthy):
    handler = callback_factory(lambda obj, state: pytest.fail("fired"), lambda state: truthy)
    assert handler("task", OLD, NEW) is NEW


def test_callback_ignores_what_its_function_returns():
    handler = callback_factory(lambda obj, state: Failed(), lambda state: True)
    assert handler("task", OLD, NEW) is NEW


def test_callback_survives_a_pickle():
    handler = callback_factory(print, methodcaller("is_running"))
    assert pickle.loads(pickle.dumps(handler))("task", OLD, OLD) is OLD
    assert repr(handler) == "callback_factory(<built-in function print>, operator.methodcaller('is_running'))"


@pytest.mark.parametrize(
    ("state", "calls"),
    [(Failed(), 1), (TriggerFailed(), 1), (Success(), 0), (Retrying(), 0), (Running(), 0)],
    ids=repr,
)
def test_on_failure_fires_for_every_kind_of_failure_only(state, calls):
    seen = []
    transition = call_handlers("task", [on_failure_handler(lambda obj, new: seen.append(new))], OLD, state)
    assert seen == [state] * calls
    assert transition.state is state


def test_on_failure_survives_a_pickle():
    handler = pickle.loads(pickle.dumps(on_failure_handler(print)))
    assert handler("task", OLD, NEW) is NEW


def test_notifications_offer_the_factory():
    assert notifications.callback_factory is callback_factory
