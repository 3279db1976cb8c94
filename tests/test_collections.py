"""Constants, and collections with tasks inside."""

from __future__ import annotations

from collections import OrderedDict, UserList, deque, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
from bodies import take

from prefectish import Flow, Parameter, Task, flatten, unmapped
from prefectish.tasks import Constant, Dict, List, Set, Tuple
from prefectish.tasks.collections import Filled, holds_tasks

Point = namedtuple("Point", "x y")
T = Task("t")


def made_for(flow: Flow, result: Task) -> Task:
    """The task that feeds the only edge of a task."""
    (edge,) = flow.edges_to(result)
    made: Task = edge.upstream_task
    return made


def compute(flow: Flow, made: Task, **values: Any) -> Any:
    inputs = dict(flow.constants.get(made, {}))
    for edge in flow.edges_to(made):
        assert edge.key is not None
        up = edge.upstream_task
        inputs[edge.key] = values[up.name] if up.name in values else compute(flow, up, **values)
    return made.run(**inputs)


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (1, False),
        (T, False),
        ([], False),
        ([1, [2, (3, {4})], {"a": 5}], False),
        ([T], True),
        ((1, (2, [T])), True),
        ({T}, True),
        (frozenset({T}), True),
        ({"a": [T]}, True),
        ({T: 1}, True),
        ([unmapped(1)], True),
        (Point(1, T), True),
        ("abc", False),
    ],
)
def test_holds_tasks_looks_into_builtin_collections(value: Any, holds: bool) -> None:
    assert holds_tasks(value) is holds


def test_holds_tasks_stands_a_list_inside_itself() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    assert not holds_tasks(ring)


def test_holds_tasks_needs_no_recursion() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert not holds_tasks(deep)
    while deep:  # a chain of this length must not be freed from its outer end
        deep = deep.pop()


@pytest.mark.parametrize("value", [1, None, "s", [1, 2], (1, [2, {"a": {3}}]), {"a": 1}, {1, 2}, Point(1, 2), object()])
def test_value_without_tasks_is_one_constant(value: Any) -> None:
    with Flow("f") as flow:
        result = take(value)
    assert flow.constants[result]["x"] is value
    assert flow.tasks == {result}


@pytest.mark.parametrize(
    ("make", "kind", "expected"),
    [
        (lambda p: [p, 2, p], List, [7, 2, 7]),
        (lambda p: (p, 2), Tuple, (7, 2)),
        (lambda p: Point(1, p), Tuple, Point(1, 7)),
        (lambda p: {p, 2}, Set, {7, 2}),
        (lambda p: frozenset({p}), Set, frozenset({7})),
        (lambda p: {"a": p, "b": 2}, Dict, {"a": 7, "b": 2}),
        (lambda p: OrderedDict(a=p), Filled, OrderedDict(a=7)),
        (lambda p: deque([p, 2], maxlen=5), Filled, deque([7, 2], maxlen=5)),
        (lambda p: SimpleNamespace(a=[p], b=2), Filled, SimpleNamespace(a=[7], b=2)),
        (lambda p: UserList([p]), Filled, UserList([7])),
        (lambda p: {p: "a", (1, 2): 3}, Dict, {7: "a", (1, 2): 3}),
        (lambda p: [[p], {"k": (p, [1, 2])}], List, [[7], {"k": (7, [1, 2])}]),
        (lambda p: [unmapped(5), flatten(p)], List, [5, 7]),
    ],
)
def test_collection_with_a_task_inside_becomes_a_task(make: Any, kind: type[Task], expected: Any) -> None:
    with Flow("f") as flow:
        result = take(make(Parameter("p")))
    made = made_for(flow, result)
    assert isinstance(made, kind)
    assert made.auto_generated
    value = compute(flow, made, p=7)
    assert (value, type(value)) == (expected, type(expected))


def test_more_than_ten_members_keep_their_order() -> None:
    with Flow("f") as flow:
        p = Parameter("p")
        result = take([p if i % 2 else i for i in range(25)])
        keys = take({i: p if i % 2 else i for i in range(25)})
    expected = ["p" if i % 2 else i for i in range(25)]
    assert compute(flow, made_for(flow, result), p="p") == expected
    assert list(compute(flow, made_for(flow, keys), p="p").values()) == expected


def test_collection_runs_whatever_the_order_of_its_inputs() -> None:
    items = {f"item_{i}": i for i in range(12)}
    assert List().run(**dict(reversed(items.items()))) == list(range(12))


def test_constant_runs_to_its_value() -> None:
    value = [1]
    constant = Constant(value)
    assert constant.run() is value
    assert (constant.name, constant.auto_generated) == ("Constant[list]", True)
