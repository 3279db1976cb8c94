"""Values of users that are not what they seem: each is its child's matter, on every executor and in both spellings."""

from __future__ import annotations

import sys
import weakref
from datetime import timedelta

import pytest

from prefectish import flow, task
from prefectish.engine.signals import FAIL
from prefectish.engine.state import Cached, Failed, Success
from prefectish.errors import TaskRunFailed
from prefectish.history import runs
from prefectish.triggers import all_finished


class Gone:
    pass


class Bound:
    """As proxies that are bound to a request: outside of it everything raises, ``__class__`` too."""

    def __getattribute__(self, name):
        raise RuntimeError("Working outside of request context.")


class QuietExit(Exception):
    def __str__(self):
        sys.exit(5)

    __repr__ = __str__


class Interrupted(Exception):
    def __str__(self):
        raise KeyboardInterrupt

    __repr__ = __str__


class Sly(Exception):
    def __str__(self):
        raise GeneratorExit

    __repr__ = __str__


class Exiting(BaseException):
    """What code of the user's raises: no Exception."""


class Computed(Exception):
    """Computes whatever is read of it."""

    def __getattribute__(self, name):
        raise Exiting(name)


class Argumentative(Exception):
    @property
    def args(self):
        raise SystemExit(5)


class Noted(Exception):
    @property
    def __notes__(self):
        raise KeyboardInterrupt


class Nameless(type):
    def __getattribute__(cls, name):
        if name in ("__name__", "__qualname__", "__module__"):
            raise Exiting(name)
        return super().__getattribute__(name)


def unnamed():
    """A class that cannot be pickled, so that it is made where it is raised."""
    return Nameless("Unnamed", (Exception,), {})()


class Caused(Exception):
    def __init__(self, *args):
        super().__init__(*args)
        self.__cause__ = Computed()


class Wilful:
    """As `Bound`, with what no ``except Exception`` stops."""

    def __getattribute__(self, name):
        raise Exiting(name)


class Placed:
    """A value that has the attributes of the engine's own."""

    location = "Paris"
    nbytes = "many"
    is_away = True


RESULTS = {"dead proxy": lambda: weakref.proxy(Gone()), "bound proxy": Bound, "wilful proxy": Wilful}
UNREADABLE = {kind.__name__: kind for kind in (Computed, Argumentative, Noted, Caused)} | {"Unnamed": unnamed}
ERRORS = {"exit": QuietExit, "interrupt": Interrupted, "generator exit": Sly}


@task(trigger=all_finished)
def count(values):
    return len(values)


@task
def double(x):
    return 2 * x


def children(spelled, body, items=(0, 1, 2, 3), **options):
    """Return the states of the children, and how many the fan-in saw."""
    child = task(body, name="child")

    def program():
        mapped = child.map(list(items))
        return {"mapped": mapped, "counted": spelled.call(count, mapped), "other": double.map([1, 2])}

    states = spelled.states(program, **options)
    assert [state.result for state in states["other"].map_states] == [2, 4]
    return states["mapped"].map_states, states["counted"].result


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("history", [False, True])
def test_u21_result_that_is_a_proxy_of_something_gone_harms_no_sibling(spelled, tmp_path, make, history):
    record = {"history": str(tmp_path / "history.db")} if history else {}
    states, counted = children(spelled, lambda i: make() if i == 2 else i, **record)
    assert [states[i].result for i in (0, 1, 3)] == [0, 1, 3]
    assert [repr(state).partition("(")[0] for state in states] == [type(state).__name__ for state in states]
    assert counted == 4
    if history:
        recorded = runs(store=str(tmp_path / "history.db"))[0].children("child")
        assert [row.state for row in recorded] == [type(state).__name__ for state in states]


class Ambiguous:
    """As arrays and tables: neither true nor false."""

    def __bool__(self):
        raise Exiting("The truth value is ambiguous")

    def __str__(self):
        return "[1 2]"


@pytest.mark.parametrize(
    ("option", "told"),
    [("trigger", "TriggerFailed"), ("retry_condition_fn", "Failed")],
)
def test_u21_answer_without_a_truth_is_its_tasks_failure(spelled, option, told):
    def body(i):
        raise ValueError(i)

    options = {option: lambda *about: Ambiguous(), "max_retries": 1, "retry_delay": timedelta(0)}
    child = task(body, name="child", **options)

    def program():
        mapped = child.map([0, 1])
        return {"mapped": mapped, "counted": spelled.call(count, mapped), "other": double.map([1, 2])}

    states = spelled.states(program)
    assert [state.result for state in states["other"].map_states] == [2, 4]
    assert [type(state).__name__ for state in states["mapped"].map_states] == [told, told]
    assert "The truth value is ambiguous" in states["mapped"].map_states[0].message


@pytest.mark.parametrize(("make", "told"), [(Ambiguous, "[1 2]"), (QuietExit, "whose str raises SystemExit")])
def test_u21_message_that_cannot_be_read_is_its_childs_matter(spelled, make, told, tmp_path):
    def body(i):
        if i == 2:
            raise FAIL(make(), result=0)
        return i

    states, counted = children(spelled, body, history=str(tmp_path / "history.db"))
    assert [type(state).__name__ for state in states] == ["Success", "Success", "Failed", "Success"]
    assert told in states[2].message
    assert counted == 4


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_u21_failure_whose_result_is_a_proxy_of_something_gone_harms_no_sibling(spelled, make, tmp_path):
    def body(i):
        if i == 2:
            raise FAIL("no good", result=make())
        return i

    states, counted = children(spelled, body, history=str(tmp_path / "history.db"))
    assert [type(state).__name__ for state in states] == ["Success", "Success", "Failed", "Success"]
    assert counted == 4
    recorded = runs(store=str(tmp_path / "history.db"))[0].children("child")
    assert [row.state for row in recorded] == ["Success", "Success", "Failed", "Success"]


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_u21_result_of_a_failure_that_is_a_proxy_of_something_gone_is_no_exception_to_raise(make):
    @task
    def child():
        raise FAIL("no good", result=make())

    state = flow(lambda: child.submit().result()).run(history=False)
    assert type(state) is Failed
    assert type(state.result) is TaskRunFailed
    assert "no good" in state.message


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_u21_cached_result_that_is_a_proxy_of_something_gone_is_asked_nothing(spelled_here, make):
    cached = task(lambda i: make() if i == 2 else i, name="cached", cache_for=timedelta(hours=1))
    for _ in range(2):
        states = spelled_here.states(lambda: {"mapped": cached.map([0, 1, 2, 3])})
        assert [type(state) for state in states["mapped"].map_states] == [Cached] * 4


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_u21_flow_function_returns_a_proxy_of_something_gone(make):
    value = make()
    state = flow(lambda: [value, double.submit(2)]).run(history=False)
    assert type(state) is Success
    assert state.result[0] is value
    assert state.result[1] == 4


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_u21_item_that_is_a_proxy_of_something_gone_is_its_childs_matter(spelled, make, tmp_path):
    states, counted = children(spelled, lambda x: 1, [0, make(), 2], history=str(tmp_path / "history.db"))
    assert [states[i].result for i in (0, 2)] == [1, 1]
    assert counted == 3


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_u22_exception_whose_text_ends_the_program_is_its_childs_failure(spelled, kind, tmp_path):
    def body(i):
        if i == 2:
            raise kind
        return i

    states, counted = children(spelled, body, history=str(tmp_path / "history.db"))
    assert [type(state).__name__ for state in states] == ["Success", "Success", "Failed", "Success"]
    assert f"{kind.__name__} whose repr raises" in states[2].message
    assert counted == 4


@pytest.mark.parametrize("name", UNREADABLE)
def test_u23_exception_that_raises_when_it_is_looked_at_is_its_childs_failure(spelled, name, tmp_path):
    kind = UNREADABLE[name]

    def body(i):
        if i == 2:
            raise kind()
        return i

    states, counted = children(spelled, body, history=str(tmp_path / "history.db"))
    assert [type(state).__name__ for state in states] == ["Success", "Success", "Failed", "Success"]
    assert f"{name}: an exception that raises" in states[2].message
    assert "in body" in states[2].traceback
    assert counted == 4
    recorded = runs(store=str(tmp_path / "history.db"))[0].children("child")
    assert [row.state for row in recorded] == ["Success", "Success", "Failed", "Success"]


def test_place_that_a_result_names_is_none_of_the_engines(spelled, tmp_path):
    states, counted = children(spelled, lambda i: Placed(), history=str(tmp_path / "history.db"))
    assert {state.result.location for state in states} == {"Paris"}
    recorded = runs(store=str(tmp_path / "history.db"))[0].children("child")
    assert {row.location for row in recorded} == {None}
    assert counted == 4
