"""The contract of every executor, of states that bodies make themselves, in both spellings."""

from __future__ import annotations

import functools
import re
import threading

import pytest
from cloudpickle import register_pickle_by_value

from prefectish import task
from prefectish.engine import signals
from prefectish.engine.state import Failed, State, Success
from prefectish.executors import LocalDaskExecutor, LocalExecutor

register_pickle_by_value(__import__("sys").modules[__name__])  # workers cannot import it


class Broken(Failed):
    """A kind of failure of this module's own."""


class Fine(Success):
    """A kind of success of this module's own."""


@task
def end_in(name):
    if name == "raised":
        raise signals.ENDRUN(Broken("raised"))
    return {"broken": Broken("broken"), "fine": Fine("fine", result=[4])}.get(name, name)


@task(isolation="process")
def end_apart(name):
    return Broken(name)


@task
def read(value):
    return value


def test_a_state_of_a_class_that_workers_cannot_import_stays_one(spelled):
    def program():
        names = ["broken", "fine", "raised", "plain"]
        fine = spelled.call(end_in, "fine")
        ends = {name: spelled.call(end_in, name) for name in names}
        others = {"read": spelled.call(read, fine), "apart": spelled.call(end_apart, "apart")}
        return {**ends, "map": end_in.map(names), **others}

    found = spelled.states(program)
    expected = [(Broken, "broken"), (Fine, "fine"), (Broken, "raised"), (Success, "Task run succeeded.")]
    assert [(type(found[name]), found[name].message) for name in list(found)[:4]] == expected
    assert [(type(state), state.message) for state in found["map"].map_states] == expected
    assert found["fine"].result == found["read"].result == [4]
    assert (type(found["apart"]), found["apart"].message) == (Broken, "apart")


@task
def hold(kind):
    lock = threading.Lock()
    if kind == "attribute":
        state = Broken("attribute")
        state.__dict__["lock"] = lock
        return state
    return {
        "context": lambda: Failed("context", context={"lock": lock}),
        "message": lambda: Failed(lock),
        "inputs": lambda: Failed("inputs", cached_inputs={"x": lock}),
        "result": lambda: Failed("result", result=lock),
        "plain": lambda: Success("plain"),
    }[kind]()


KINDS = ["plain", "context", "attribute", "message", "inputs", "result", "plain"]


def test_a_state_that_cannot_be_pickled_fails_its_own_child_and_says_so(spelled, caplog):
    found = spelled.states(lambda: {"map": hold.map(KINDS), "alone": spelled.call(hold, "context")})
    states = [*found["map"].map_states, found["alone"]]
    assert [state.is_successful() for state in states] == [kind == "plain" for kind in (*KINDS, "context")]
    if type(found["alone"].context.get("lock")) is type(threading.Lock()):
        return  # the objects themselves are handed over
    texts = [state.message for state in states if not state.is_successful()]
    assert all("could not be pickled: TypeError: cannot pickle '_thread.lock' object" in text for text in texts)
    assert re.search(r"hold\[\d\]\S* failed: (state|result) of hold-1\[\d\] could not be pickled", caplog.text)


@task
def give_lock(n):
    return threading.Lock() if n else n


def test_nu_7_a_result_that_cannot_be_pickled_is_logged(spelled, caplog):
    found = spelled.states(lambda: {"map": give_lock.map([0, 1])})["map"].map_states[1]
    if isinstance(found, Success):
        assert isinstance(spelled.executor, LocalExecutor | LocalDaskExecutor)
        return
    assert found.message.startswith("result of give_lock-1[1] could not be pickled: TypeError: ")
    assert re.search(
        r"give_lock\[1\]\S* failed: result of give_lock-1\[1\] could not be pickled: TypeError", caplog.text
    )


class Told:
    """Tells what it is given by its type."""

    @functools.singledispatchmethod
    def tell(self, value, more=0):
        return ["any", value, more]

    @tell.register
    def _(self, value: int, more=0):
        return ["int", value, more]


def test_e8_a_singledispatchmethod_of_an_instance_is_a_body(spelled):
    body = task(Told().tell, name="tell")
    found = spelled.states(lambda: {"map": body.map([1, "a"], more=[3, 4]), "one": spelled.call(body, 2)})
    assert found["map"].result == [["int", 1, 3], ["any", "a", 4]]
    assert found["one"].result == ["int", 2, 0]
    with pytest.raises(TypeError, match="missing a required argument: 'value'"):
        spelled.states(lambda: {"one": spelled.call(body)})
    assert isinstance(found["one"], State)


class Counter:
    """A body that is an object of a class with a static method."""

    @staticmethod
    def step(value):
        return value + 1

    def __call__(self, value):
        return self.step(value)


def test_e8_an_object_of_a_class_with_a_static_method_is_a_body(spelled):
    body = task(Counter(), name="counter")
    assert spelled.states(lambda: {"map": body.map([1, 2])})["map"].result == [2, 3]
