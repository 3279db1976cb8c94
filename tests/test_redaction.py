"""Exceptions and states of an attempt without the values of secrets."""

from __future__ import annotations

import pickle

import pytest

from prefectish.engine.signals import FAIL, SKIP
from prefectish.engine.state import Failed, Retrying, Success
from prefectish.engine.worker.redaction import redacted, redacted_state
from prefectish.errors import RemoteError
from prefectish.secrets.masking import MASK, register

VALUE = "k9#/canary value"


class Picky(Exception):
    def __init__(self, code, secret):
        super().__init__(code)
        self.code = code
        self.secret = secret

    def __str__(self):
        return f"{self.code}: {self.secret}"


class Stubborn(Exception):
    def __str__(self):
        return f"told from elsewhere: {VALUE}"


def test_redacted_keeps_the_exception_and_masks_its_arguments():
    register(VALUE)
    error = ValueError(f"no {VALUE}", {"token": VALUE}, 3)
    assert redacted(error) is error
    assert error.args == (f"no {MASK}", {"token": MASK}, 3)


def test_redacted_masks_attributes_notes_and_the_chain():
    register(VALUE)
    error = Picky(7, VALUE)
    error.add_note(f"with {VALUE}")
    error.__cause__ = KeyError(VALUE)
    error.__cause__.__context__ = OSError(2, "No such file", f"/srv/{VALUE}")
    assert redacted(error) is error
    assert str(error) == f"7: {MASK}"
    assert error.__notes__ == [f"with {MASK}"]
    assert error.__cause__.args == (MASK,)
    assert error.__cause__.__context__.filename == f"/srv/{MASK}"


def test_redacted_masks_the_members_of_a_group():
    register(VALUE)
    group = ExceptionGroup("several", [ValueError(VALUE), ExceptionGroup("inner", [KeyError(VALUE)])])
    assert redacted(group) is group
    assert VALUE not in repr(group)


def test_redacted_replaces_an_exception_that_still_tells():
    register(VALUE)
    stand_in = redacted(Stubborn())
    assert isinstance(stand_in, RemoteError)
    assert stand_in.type_name == "Stubborn"
    assert stand_in.message == f"told from elsewhere: {MASK}"
    assert VALUE not in str(pickle.dumps(stand_in))


def test_redacted_leaves_exceptions_alone_that_tell_nothing():
    register(VALUE)
    error = ValueError("nothing", ["to", "hide"])
    parts = error.args[1]
    assert redacted(error) is error
    assert error.args[1] is parts


def test_redacted_ends_on_a_chain_that_is_a_ring():
    register(VALUE)
    one, two = ValueError(VALUE), KeyError(VALUE)
    one.__context__, two.__context__ = two, one
    assert VALUE not in repr(redacted(one))


@pytest.mark.parametrize("signal", [FAIL(f"no {VALUE}"), SKIP(f"not with {VALUE}")])
def test_redacted_masks_the_state_a_signal_asks_for(signal):
    register(VALUE)
    found = redacted(signal)
    assert found is signal
    assert VALUE not in f"{signal.state!r} {signal!r} {signal.state.result!r}"


def test_redacted_state_masks_message_exception_and_traceback():
    register(VALUE)
    state = redacted_state(Failed(f"no {VALUE}", Stubborn(), traceback=f"line 1: {VALUE}"))
    assert VALUE not in f"{state!r} {state.result!r} {state.traceback}"
    retrying = redacted_state(Retrying(f"again {VALUE}", ValueError(VALUE), run_count=2))
    assert retrying.run_count == 2
    assert VALUE not in f"{retrying!r} {retrying.result!r}"


def test_redacted_state_leaves_results_alone():
    register(VALUE)
    state = Success("Task run succeeded.", [VALUE])
    assert redacted_state(state) is state
    assert state.result == [VALUE]
