"""Classes that stand for a value elsewhere: what reading them does, and what is pickled of them."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from prefectish.engine.context import bind, unbind
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs import references
from prefectish.engine.jobs.envelope import encode
from prefectish.engine.jobs.references import Discarded, Gone, Held, LeftOnWorker, ResultRef, Unpicklable
from prefectish.engine.state import Success
from prefectish.errors import PrefectishError, ResultReleased


class Worker:
    """Holds values by handle and counts how often they are fetched."""

    def __init__(self, **values):
        self.values = values
        self.fetched = []

    def fetch(self, handle):
        self.fetched.append(handle)
        return self.values[handle]


def test_held_result_is_fetched_at_each_reading():
    worker = Worker(a=[1])
    state = Success(None, Held("load-1[3]", 10, "a", worker.fetch))
    assert [state.result, state.result] == [[1], [1]]
    assert worker.fetched == ["a", "a"]


def test_held_result_in_an_envelope_is_opened():
    worker = Worker(a=encode([1, 2], "load-1"))
    assert Held("load-1", 10, "a", worker.fetch).get() == [1, 2]


def test_peek_keeps_the_value_here_and_there():
    worker = Worker(a=5)
    held = Held("load-1", 10, "a", worker.fetch)
    assert [held.peek(), held.peek(), held.get()] == [5, 5, 5]
    assert worker.fetched == ["a"]
    assert held.handle == "a"


def test_fetched_result_outlives_its_release():
    worker = Worker(a=5)
    held = Held("load-1", 10, "a", worker.fetch)
    held.fetch()
    worker.values.clear()
    assert held.handle is None
    assert held.get() == 5


@pytest.mark.parametrize(("reason", "text"), [(None, "after its last consumer ran"), ("it is late", "it is late")])
def test_released_result_says_why_and_how_to_keep_it(reason, text):
    held = Held("load-1[3]", 10, "a", Worker(a=5).fetch)
    held.release(reason)
    with pytest.raises(ResultReleased, match=rf"result of load-1\[3\] \(10 bytes\) .*{text}.*keep_results=True"):
        held.get()
    assert repr(held) == "<released result of load-1[3], 10 bytes>"


@pytest.mark.parametrize(
    ("stand_in", "error", "text"),
    [
        (ResultRef(3), AssertionError, "reference 3 was read before"),
        (Discarded("load-1", 10), ResultReleased, r"result of load-1 \(10 bytes\) was not kept"),
        (
            Unpicklable("x", "use-1", TypeError("no")),
            PrefectishError,
            "argument 'x' of use-1 could not be pickled",
        ),
        (Gone("load-1[2]"), ResultReleased, r"result of load-1\[2\] was made before the run was resumed"),
    ],
    ids=["ref", "discarded", "unpicklable", "gone"],
)
def test_stand_in_without_a_value_raises_here_and_in_another_process(stand_in, error, text):
    for one in (stand_in, pickle.loads(pickle.dumps(stand_in))):
        with pytest.raises(error, match=text):
            one.get()


def test_unpicklable_argument_names_the_child_that_reads_it():
    token = bind({"map_index": 4})
    try:
        with pytest.raises(PrefectishError, match=r"of use-1\[4\] could not"):
            Unpicklable("x", "use-1", "TypeError: no").get()
    finally:
        unbind(token)


def test_left_on_worker_is_a_size():
    assert pickle.loads(pickle.dumps(LeftOnWorker(1234))).nbytes == 1234


def test_table_lists_every_class_of_the_module():
    named = re.findall(r"^([A-Z]\w+)(?:, ([A-Z]\w+))?  ", references.__doc__, re.MULTILINE)
    listed = {name for pair in named for name in pair if name}
    own = {
        name for name, value in vars(references).items() if inspect.isclass(value) and "references" in value.__module__
    }
    assert own <= listed
    below = {cls.__name__ for cls in _below(Deferred)}
    assert below - own <= listed | {"Deferred"}


def _below(cls):
    import prefectish.engine.worker.storage
    import prefectish.secrets.lazy  # noqa: F401  and its

    # The results of old flows are their user's, by another name; whether they are loaded is up to other tests.
    rooms = [one for one in cls.__subclasses__() if one.__module__.startswith("prefectish")]
    found = [one for one in rooms if not one.__module__.startswith("prefectish.compat")]
    return [*found, *(sub for one in found for sub in _below(one))]
