"""The version of a flow changes with what the flow does, and with nothing else."""

from __future__ import annotations

import functools
import itertools
import operator
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels import label

from prefectish import Flow, Parameter, Task, case, resource_manager, task, triggers, unmapped
from prefectish.fingerprint import fingerprint
from prefectish.flow_version import differs_only_in_closure, task_version


def version(body: Callable[..., Any], **options: Any) -> str:
    """Return the version of a flow with one task."""
    with Flow("f") as flow:
        task(body, name="body", **options)()
    return flow.version


def function(source: str, name: str = "f", **names: Any) -> Callable[..., Any]:
    """Return a function as if a module of that text had been imported."""
    scope: dict[str, Any] = dict(names)
    exec(compile(source, f"/somewhere/{len(source)}.py", "exec"), scope)
    made: Callable[..., Any] = scope[name]
    return made


# ---------------------------------------------------------------------- bodies


def test_version_is_short_text() -> None:
    assert re.fullmatch("[0-9a-f]{32}", Flow("empty").version)


def test_version_does_not_depend_on_lines_files_or_addresses() -> None:
    here = function("def f(x=1):\n    return [y + x for y in (1, 2)]")
    there = function("\n\n# moved\ndef f(x=1):\n\n    return [y + x for y in (1, 2)]  # and commented")
    assert here.__code__.co_filename != there.__code__.co_filename
    assert version(here) == version(there)


BODIES = [
    "def f(x=1): return x + 1",
    "def f(x=1): return x + 2",
    "def f(x=2): return x + 1",
    "def f(x=1.0): return x + 1",
    "def f(x=True): return x + 1",
    "def f(x=1): return x - 1",
    "def f(y=1): return y + 1",
    "def f(*, x=1): return x + 1",
    "def f(*, x=2): return x + 1",
    "def f(x=1): return g(x)",
    "def f(x=1): return h(x)",
    "def f(x=1): return x.real",
    "def f(x=1): return x.imag",
    "def f(x=1): return x in {1, 2}",
    "def f(x=1): return x in {1, 3}",
    "def f(x=1):\n    def inner(): return 1\n    return inner()",
    "def f(x=1):\n    def inner(): return 2\n    return inner()",
    "def f(x=1):\n    try: return x\n    except KeyError: return 1",
    "def f(x=1):\n    try: return x\n    except ValueError: return 1",
    "async def f(x=1): return x + 1",
    "f = lambda x=1: x + 1",
]


def test_version_changes_with_the_body() -> None:
    assert len({version(function(source)) for source in BODIES}) == len(BODIES)


def test_version_does_not_change_between_two_looks() -> None:
    for source in BODIES:
        assert version(function(source)) == version(function(source))


def test_version_changes_with_what_a_body_closes_over() -> None:
    def make(n: Any) -> Callable[..., Any]:
        return lambda: n

    assert version(make(1)) == version(make(1))
    assert version(make(1)) != version(make(2))
    assert version(make(make(1))) != version(make(make(2)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([1], [2], True), ({"a": 1}, {"a": 2}, True), ({1}, {2}, True), (Counter("a"), Counter("b"), True),
        (1, 2, False), ("a", "b", False), ((1,), (2,), False), (Path("a"), Path("b"), False), (len, max, False),
        (lambda: 1, lambda: 2, False), (int, str, False), ([1], {1}, False),
    ],
    ids=label,
)  # fmt: skip
def test_version_of_a_task_tells_values_it_closes_over_from_what_may_change(one: Any, other: Any, same: bool) -> None:
    def make(held: Any) -> Any:
        def inner() -> Any:
            return held

        return task(lambda: inner(), name="holds")

    before, after = task_version(make(one)), task_version(make(other))
    assert before != after
    assert task_version(make(one)) == before
    assert differs_only_in_closure(before, after) is same
    assert not differs_only_in_closure(None, after)


def test_body_that_refers_to_itself_has_a_version() -> None:
    def make(base: int) -> Callable[..., Any]:
        def down(n: int = 3) -> Any:
            return down(n - 1) if n else base

        return down

    assert version(make(1)) == version(make(1)) != version(make(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (functools.partial(pow, 2, exp=3), functools.partial(pow, 2, exp=4)),
        (functools.partial(pow, 2, exp=3), functools.partial(divmod, 2, exp=3)),
        (lambda: 1, len),
        (operator.neg, operator.pos),
        ("a".join, "b".join),
        (datetime.now, datetime.utcnow),
    ],
)
def test_version_knows_callables_of_all_kinds(one: Any, other: Any) -> None:
    def of(body: Any) -> str:
        flow = Flow("f", tasks=[made := Task("body")])
        made.run = body
        return flow.version

    assert of(one) == of(one) != of(other)


def test_functions_of_prefectish_count_by_name() -> None:
    assert fingerprint(triggers.all_finished) == fingerprint(triggers.always_run)
    assert fingerprint(triggers.all_finished) != fingerprint(triggers.all_successful)


# ---------------------------------------------------------------------- classes


def subclass(source: str) -> type[Task]:
    made: Any = function(f"class T(Task):\n{source}", "T", Task=Task, __name__="somewhere")
    return made  # type: ignore[no-any-return]


CLASSES = [
    "    def run(self): return 1",
    "    def run(self): return 2",
    "    n = 1\n    def run(self): return 1",
    "    n = 2\n    def run(self): return 1",
    "    def run(self): return 1\n    def help(self): return 1",
    "    @staticmethod\n    def help(): return 1\n    def run(self): return 1",
    "    @classmethod\n    def help(): return 1\n    def run(self): return 1",
    "    @property\n    def help(self): return 1\n    def run(self): return 1",
    "    @property\n    def help(self): return 2\n    def run(self): return 1",
    "    def run(self): return super().run()",
]


def test_version_changes_with_the_class_of_a_task() -> None:
    versions = {Flow("f", tasks=[subclass(source)("name")]).version for source in CLASSES}
    assert len(versions) == len(CLASSES)
    assert versions == {Flow("f", tasks=[subclass(source)("name")]).version for source in CLASSES}


def test_version_changes_with_a_base_class_and_an_attribute() -> None:
    def made(n: int, attribute: int) -> str:
        class Base(Task):
            def run(self) -> int:
                return n

        class Derived(Base):
            pass

        one = Derived("name")
        one.attribute = attribute  # type: ignore[attr-defined]
        return Flow("f", tasks=[one]).version

    assert made(1, 1) == made(1, 1)
    assert len({made(1, 1), made(2, 1), made(1, 2)}) == 3


def test_version_changes_with_a_resource_manager() -> None:
    def made(result: int) -> str:
        class Thing:
            def cleanup(self, resource: Any) -> int:
                return result

        with Flow("f") as flow, resource_manager(Thing)():
            pass
        return flow.version

    assert made(1) == made(1) != made(2)


# ---------------------------------------------------------------------- the graph


@task
def inc(x: Any, y: Any = 0) -> Any:
    return x + y + 1


def build(change: str = "") -> Flow:
    """Make a flow, with one thing changed."""
    with Flow("other name" if change == "name" else "f") as flow:
        n = Parameter("n", default=2 if change == "default" else 1)
        a = inc(n, task_args={"tags": ["red"]} if change == "tags" else {})
        b = inc.map([1, 3] if change == "list" else [1, 2], unmapped(n if change == "source" else a))
        c = inc(a, y={"k": [2 if change == "constant" else 1]}, upstream_tasks=[b] if change == "edge" else [])
        with case(a, 2 if change == "case" else 1):
            inc(c, task_args={"max_retries": 1, "retry_delay": 2} if change == "option" else {})
        if change == "task":
            inc(1)
    if change == "references":
        flow.set_reference_tasks([a])
    return flow


CHANGES = ["default", "tags", "list", "source", "constant", "edge", "case", "option", "task", "references"]


def test_version_changes_with_anything_in_the_graph() -> None:
    assert build().version == build().version
    assert len({build(change).version for change in ["", *CHANGES]}) == len(CHANGES) + 1


def test_version_does_not_change_with_name_or_copy_or_run() -> None:
    flow = build()
    before = flow.version
    assert build("name").version == before
    assert flow.copy().version == before
    flow.run()
    assert flow.version == before


def test_version_does_not_depend_on_the_order_of_tasks() -> None:
    def made(*names: str) -> str:
        return Flow("f", tasks=[Task(name) for name in names]).version

    assert made("a", "b") == made("b", "a") != made("a", "c")


SCRIPT = """
import functools
from prefectish import Flow, Parameter, Task, case, task, unmapped

@task(max_retries=2, retry_delay=1, tags={"a", "b", "c"})
def f(x, y={"one", "two", "three"}):
    return [n for n in x if n in {"p", "q", "r", "s"}] + [lambda: y]

class Mine(Task):
    words = frozenset({"u", "v", "w"})
    def run(self, x):
        return super().run()

with Flow("f") as flow:
    with case(f(Parameter("x", default={"k": {1, "l", None}})), {"e", "f"}):
        Mine()(f.map([object, print, functools.partial(f.run, 1)], unmapped({"m", "n"})))
print(flow.version)
"""


def test_version_is_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    commands = [[sys.executable, str(script)], [sys.executable, "-X", "importtime", str(script)]]
    commands.append([sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import script", str(tmp_path)])
    told = set()
    for number, command in enumerate(commands * 2):
        environment = {"PYTHONHASHSEED": str(number), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        told.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(told) == 1


# ---------------------------------------------------------------------- values


def test_sets_of_a_class_of_ones_own_differ_by_members_class_and_attributes() -> None:
    class Words(set[Any]):
        pass

    named = Words("ab")
    named.name = "letters"  # type: ignore[attr-defined]
    given = [Words("ab"), Words("abc"), named, {"a", "b"}, frozenset("ab")]
    assert len({fingerprint(each) for each in given}) == len(given)
    one, other = Words([0, 8]), Words([8, 0])
    assert list(one) != list(other)  # their hashes collide
    assert fingerprint(one) == fingerprint(other)


class Color(Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    a: int
    b: int


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x


VALUES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 1,
    lambda: True,
    lambda: 1.0,
    lambda: "1",
    lambda: b"1",
    lambda: 1j,
    lambda: ...,
    lambda: [1],
    lambda: (1,),
    lambda: {1},
    lambda: frozenset({1}),
    lambda: [[1]],
    lambda: [1, [2]],
    lambda: [1, 2],
    lambda: ["1"],
    lambda: {1: 2},
    lambda: {2: 1},
    lambda: [(1, 2)],
    lambda: range(3),
    lambda: slice(3),
    lambda: 10**5000,
    lambda: [10**5000],
    lambda: [10**5000 + 1],
    lambda: "\ud800",
    lambda: ["\ud800"],
    lambda: float("nan"),
    lambda: -0.0,
    lambda: 0.0,
    lambda: Color.RED,
    lambda: Color.BLUE,
    lambda: Pair(1, 2),
    lambda: Pair(1, 3),
    lambda: Slotted(1),
    lambda: Slotted(2),
    lambda: Plain(1),
    lambda: Plain([Plain(1)]),
    lambda: timedelta(1),
    lambda: datetime(2026, 3, 1),
    lambda: Path("/a"),
    lambda: re.compile("a"),
    lambda: re.compile("b"),
    lambda: int,
    lambda: str,
    lambda: list[int],
    lambda: list[str],
    lambda: int | None,
    lambda: threading.Lock(),
    lambda: iter([1]),
    lambda: (n for n in "a"),
    lambda: re,
    lambda: functools,
    lambda: ValueError("a"),
    lambda: ValueError("b"),
]


def test_different_values_have_different_fingerprints_and_equal_ones_the_same() -> None:
    first, second = [fingerprint(make()) for make in VALUES], [fingerprint(make()) for make in VALUES]
    assert first == second
    assert len(set(first)) == len(VALUES)


def test_value_inside_itself_has_a_fingerprint() -> None:
    def loop(inside: Any) -> list[Any]:
        made = [inside]
        made.append(made)
        return made

    assert fingerprint(loop(1)) == fingerprint(loop(1)) != fingerprint(loop(2))


def test_deep_values_have_a_fingerprint() -> None:
    def deep(levels: int, bottom: Any) -> Any:
        return [deep(levels - 1, bottom)] if levels else bottom

    assert fingerprint(deep(50, 1)) != fingerprint(deep(50, 2))
    assert fingerprint(deep(400, 1)) == fingerprint(deep(400, 2)) != fingerprint(deep(50, 2))


def test_value_that_breaks_when_it_is_taken_apart_counts_by_its_type() -> None:
    class Broken:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("never")

    class Odd(Broken):
        def __reduce_ex__(self, protocol: Any) -> Any:
            return list, (), None, 3

    assert fingerprint(Broken()) == fingerprint(Broken()) != fingerprint(Odd())


def test_values_that_end_the_program_when_they_are_asked_are_hashed_by_type() -> None:
    class Leaving:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise SystemExit(3)

    class Nameless(type):
        def __getattribute__(cls, name: str) -> Any:
            raise GeneratorExit

    assert fingerprint(Leaving()) == fingerprint(Leaving()) != fingerprint(object())
    assert fingerprint([Nameless("Unnamed", (), {}), 1]) != fingerprint([Nameless("Unnamed", (), {}), 2])


def test_sharing_a_part_does_not_count() -> None:
    part = [object, 1]
    assert fingerprint([part, part]) == fingerprint([[object, 1], [object, 1]])


def test_arrays_count_by_their_content() -> None:
    numpy = pytest.importorskip("numpy")
    one, same, other = numpy.arange(4), numpy.arange(4), numpy.arange(4) + 1
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one) != fingerprint(one.reshape(2, 2)) != fingerprint(one.astype(float))


def test_iterator_is_not_used_up() -> None:
    letters = itertools.islice("abc", 3)
    fingerprint(letters)
    assert list(letters) == ["a", "b", "c"]


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(scalars, inner) | st.frozensets(scalars),
)


@given(values, values)
def test_fingerprints_agree_as_far_as_the_values_do(one: Any, other: Any) -> None:
    # What equals and is written alike is alike; 1 and 1.0 and True are not.
    def written(value: Any) -> Any:
        if isinstance(value, dict):
            return ("dict", frozenset((written(key), written(item)) for key, item in value.items()))
        if isinstance(value, frozenset):
            return ("set", frozenset(map(written, value)))
        if isinstance(value, list | tuple):
            return (type(value).__name__, tuple(map(written, value)))
        return (type(value).__name__, repr(value))

    assert (fingerprint(one) == fingerprint(other)) == (written(one) == written(other))
