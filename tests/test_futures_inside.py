"""Futures inside of arguments (E6): resolved in collections and records, refused elsewhere, on every executor."""

from __future__ import annotations

import functools
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from bodies import inc

from prefectish import Flow, allow_failure, flow, task
from prefectish.errors import PrefectishError


@dataclass
class Plain:
    a: Any
    b: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    plain: Plain | None = None


@dataclass
class Both:
    a: Any

    def __post_init__(self):
        self.both = [self.a, self.a]


class Pair(NamedTuple):
    a: Any
    b: Any


def run_with(executor, function, *args):
    return flow(function, executor=executor, history=False, validate_parameters=False)(*args)


@task
def same(x):
    return x


@task
def one(x):
    return x[0]


def attrs_of(future):
    attrs = pytest.importorskip("attrs")
    return attrs.make_class("Attrs", ["a", "b"])(future, 2)


def model_of(future):
    pydantic = pytest.importorskip("pydantic")
    return pydantic.create_model("Model", a=(Any, ...), b=(int, 3))(a=future)


def open_model():
    pydantic = pytest.importorskip("pydantic")

    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow", frozen=True)
        a: Any = None
        _hidden: Any = pydantic.PrivateAttr(default=None)

    return Open


def open_model_of(future):
    made = open_model()(a=1, more=future, several=[future])
    made._hidden = future
    return made


def array_of(future):
    numpy = pytest.importorskip("numpy")
    made = numpy.empty((2, 1), dtype=object)
    made[0, 0], made[1, 0] = future, 7
    return made


def series_of(future):
    pandas = pytest.importorskip("pandas")
    return pandas.Series([[future], 5, future], index=[2, 1, 0], name="n", dtype=object)


def index_of(future):
    return pytest.importorskip("pandas").Index([future], dtype=object)


MADE = {
    "dataclass": (lambda f: Plain(f, [f]), lambda v: (v.a, v.b) == (2, [2])),
    "frozen, with slots, nested": (lambda f: Frozen([f], Plain(f)), lambda v: (v.a, v.plain.a) == ([2], 2)),
    "attrs": (attrs_of, lambda v: (v.a, v.b) == (2, 2)),
    "pydantic": (model_of, lambda v: (v.a, v.b, v.model_fields_set) == (2, 3, {"a"})),
    "pydantic, extra and private": (
        open_model_of,
        lambda v: (v.a, v.more, v.several, v._hidden, v.model_fields_set) == (1, 2, [2], 2, {"a", "more", "several"}),
    ),
    "deque": (lambda f: deque([f, 1], maxlen=5), lambda v: (list(v), v.maxlen) == ([2, 1], 5)),
    "keys": (lambda f: {f: "x", "y": f, (f, 1): 3}, lambda v: v == {2: "x", "y": 2, (2, 1): 3}),
    "array": (array_of, lambda v: v.tolist() == [[2], [7]]),
    "namedtuple": (lambda f: Pair(f, 1), lambda v: v == Pair(2, 1)),
    "attribute of a dataclass": (Both, lambda v: (v.a, v.both) == (2, [2, 2])),
    "user collections": (
        lambda f: [UserList([f]), UserDict(a=f), ChainMap({"a": f}, {"b": [f]})],
        lambda v: v == [UserList([2]), UserDict(a=2), ChainMap({"a": 2}, {"b": [2]})],
    ),
    "namespace": (lambda f: SimpleNamespace(a=f, b=[f]), lambda v: v == SimpleNamespace(a=2, b=[2])),
    "partial": (
        lambda f: functools.partial(print, f, end=[f]),
        lambda v: (v.func, v.args, v.keywords) == (print, (2,), {"end": [2]}),
    ),
    "slice": (lambda f: slice(1, f), lambda v: v == slice(1, 2)),
    "views": (
        lambda f: [{"a": f}.values(), {"a": f}.items(), {f: 1}.keys(), MappingProxyType({"a": f})],
        lambda v: [list(v[0]), dict(v[1]), list(v[2]), dict(v[3])] == [[2], {"a": 2}, [2], {"a": 2}],
    ),
    "series": (
        series_of,
        lambda v: (v.tolist(), v.index.tolist(), v.name, v.dtype) == ([[2], 5, 2], [2, 1, 0], "n", "O"),
    ),
    "index": (lambda f: series_of(f).index.append(index_of(f)), lambda v: v.tolist() == [2, 1, 0, 2]),
    "frame": (
        lambda f: series_of(f).to_frame().assign(other=1, last=series_of(f)),
        lambda v: v.to_dict("list") == {"n": [[2], 5, 2], "other": [1, 1, 1], "last": [[2], 5, 2]},
    ),
    "other dicts": (lambda f: [OrderedDict(a=f), defaultdict(int, {f: f})], lambda v: v == [{"a": 2}, {2: 2}]),
}


@pytest.mark.parametrize("kind", MADE)
def test_e6_futures_inside_are_resolved(executor, kind):
    make, is_resolved = MADE[kind]

    def passes():
        future = inc.submit(1)
        value = make(future)
        found = [same.submit(value).result(), same(value), *same.map([value]).result()]
        assert make(future) is not value
        return all(is_resolved(each) for each in found), value

    fine, _ = run_with(executor, passes)
    assert fine


@pytest.mark.parametrize("kind", MADE)
def test_e6_tasks_inside_are_resolved_in_a_graph(run, kind):
    make, is_resolved = MADE[kind]
    with Flow("inside") as built:
        before = inc(1)
        once, each = same(make(before)), same.map([make(before), make(inc(1))])
        after = same.map(deque([before, 3]))
    state = run(built)
    values = [state.result[once].result, *state.result[each].result]
    assert all(is_resolved(value) for value in values), values
    assert state.result[after].result == [2, 3]


def test_e6_what_waits_for_a_record_in_a_graph_fails_with_it(run):
    with Flow("inside") as built:
        broken = one([])
        reads, waits = same(Plain(3, [broken])), same(4, upstream_tasks=[Plain(broken)])
        tolerates, each = same(allow_failure(Plain(broken))), same.map(deque([broken, 3]))
    states = run(built).result
    assert [type(states[t]).__name__ for t in (reads, waits, tolerates)] == [
        "TriggerFailed",
        "TriggerFailed",
        "Success",
    ]
    assert isinstance(states[tolerates].result.a, IndexError)
    assert [type(child).__name__ for child in states[each].map_states] == ["TriggerFailed", "Success"]


def test_e6_records_without_futures_are_handed_over_as_they_are():
    plain = Plain(1, [2])
    plain.b.append(plain)  # it holds itself

    @flow(history=False, validate_parameters=False)
    def passes(value):
        return same(value) is value

    assert passes(plain)


def test_e6_what_waits_for_a_record_fails_with_it(executor):
    def fails():
        broken = one.submit([])
        return type(same.submit(Plain(broken), return_state=True)).__name__

    assert run_with(executor, fails) == "TriggerFailed"


def test_e6_results_that_cannot_be_keys_fail_the_call(executor):
    def fails():
        first, second = inc.submit(1), inc.submit(1)
        alike = same.submit({first: "a", second: "b"}, return_state=True)
        listed = same.submit({same.submit([1]): "a"}, return_state=True)
        return [state.message for state in (alike, listed)]

    alike, listed = run_with(executor, fails)
    assert alike.startswith("an argument could not be assembled: ValueError('2 keys of a dict must differ")
    assert listed.startswith("an argument could not be assembled: TypeError(")


class Hides:
    """Holds what no walk over an argument finds."""

    def __init__(self, future):
        self.read = future.result if hasattr(future, "result") else None
        self.future = future


@pytest.mark.parametrize("hide", [Hides, ValueError])
def test_e6_elsewhere_futures_are_refused_where_they_are_read_or_pickled(executor, hide):
    @task
    def reads(hidden):
        future = hidden.future if isinstance(hidden, Hides) else hidden.args[0]
        return future.result()

    def passes():
        return reads.submit(hide(inc.submit(1)), return_state=True).result

    error = run_with(executor, lambda: [passes()])[0]
    assert isinstance(error, PrefectishError | TypeError)
    assert "as an argument" in str(error)
