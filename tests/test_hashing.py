"""The canonical hash: what is alike, what is not, in which processes, and what is refused by name."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import types
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels import label

from prefectish.errors import PrefectishError, Unhashable
from prefectish.hashing import stable_hash
from prefectish.hashing.digests import SCALARS
from prefectish.hashing.encoder import named_hash


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    OTHER = object()


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Row:
    name: str
    tags: set
    seen: object = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@attrs.define
class Site:
    host: str
    hits: object = attrs.field(default=0, eq=False)


class Plain:
    def __init__(self, **values):
        self.__dict__.update(values)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


def noted(frame):
    frame.attrs["unit"] = "m"  # pandas does not compare it
    return frame


class Chosen:
    """Says by itself what belongs to it."""

    def __init__(self, kept):
        self.kept = kept
        self.lock = threading.Lock()

    def __getstate__(self):
        return {"kept": self.kept}


class Bag(frozenset):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


def shift(x, by=1):
    return x + by


def shifted(by):
    def inner(x):
        return x + by

    return inner


def with_default(value):
    return lambda x=value: x


#: Makes the same values in any process that runs it; words, so that sets and dicts have another order under each seed.
VALUES = """
import collections, datetime, decimal, enum, fractions, functools, pathlib, types, uuid, dataclasses, re
import numpy, pandas
words = "one two three four five six seven eight nine ten".split()
class Color(enum.Enum):
    RED = 1
    GREEN = "g"
class Plain: pass
@dataclasses.dataclass
class Row:
    tags: set
class Bag(set): pass
plain = Plain(); plain.tags = set(words); plain.me = plain
def shift(x, by=1): return x in {"one", "two", "three", by}
values = [
    None, True, 3, -2**90, 0.1, -0.0, float("nan"), 1j, "text", b"bytes", tuple(words), list(words), set(words),
    frozenset(words), {w: {v: 1 for v in words} for w in words}, collections.OrderedDict.fromkeys(words, 1),
    collections.defaultdict(list, a=[1]), collections.Counter(words), collections.deque(words, 20), Color.GREEN,
    plain, Row(set(words)), Bag(words), shift, functools.partial(shift, by=set(words)), Plain, len, "a".join, types,
    datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), datetime.date(2026, 1, 1), datetime.timedelta(1, 2),
    uuid.UUID(int=5), decimal.Decimal("1.10"), fractions.Fraction(1, 3), pathlib.Path("a/b"), re.compile("a+"),
    range(3), slice(1), ValueError("no", 3), types.SimpleNamespace(a=set(words)), ..., NotImplemented,
    numpy.arange(6).reshape(2, 3), numpy.float32(1.5), numpy.array(words), numpy.array([set(words)], dtype=object),
    pandas.DataFrame({"w": words, "n": range(10)}), pandas.Series(words, dtype="category"), pandas.Index(words),
    pandas.Timestamp("2026-01-01"), pandas.NA, pandas.NaT, int | None, list[int],
]
"""


def hashes_elsewhere(seed: str, before: str = "") -> list[str]:
    program = f"{before}\n{VALUES}\nfrom prefectish.hashing import stable_hash\nfor v in values: print(stable_hash(v))"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


def test_hash_is_the_same_in_other_processes_under_other_seeds_and_after_other_imports():
    first = hashes_elsewhere("1")
    assert len(first) == len(set(first)) > 50
    assert hashes_elsewhere("2") == first
    assert hashes_elsewhere("3", "import tblib.pickling_support as t; t.install(); import distributed") == first


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "80ada554d8b4f6dd53d253d981d90410"),
        (17, "d1d0614131ad532181f7a27c99c11a31"),
        ("text", "483b14772cc88fbfce24b795b97f72da"),
        ([1, "a", None], "c332acb4d73b897c9f5690c5e7343440"),
        ({"a": (1.5, b"x")}, "171ea58d9cb79d71ca5fb1ba5c809b12"),
        (date(2026, 1, 1), "51eb397af109b3720b1913e7d798e470"),
        (noted(pd.DataFrame([[1, 2], [3, 4]])), "af9d12cf286f77922d833260b375af83"),
        (noted(pd.Series([1.5, 2.5], name="y")), "032b29053bdda0558cd00d5637e2c2aa"),
    ],
)
def test_hash_is_the_one_that_stores_know(value, expected):
    assert stable_hash(value) == expected


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, 1 + 0j, "1", b"1", np.int64(1), np.float64(1), Decimal(1), Fraction(1), [1], (1,), {1}),
        (0.0, -0.0, float("nan"), 0, 0j, complex(0, -0.0)),
        (None, False, 0, "", b"", (), [], {}, set(), frozenset(), bytearray(), ..., "None"),
        ([1, 2], [12], ["1", "2"], ["12"], [[1], [2]], [[1, 2]], [2, 1]),
        (["a", "b"], ["ab"], ["a, b"], ["a', 'b"], [b"a", b"b"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, {"ab": 1, "": 2}, [("a", 1), ("b", 2)]),
        (datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01", datetime(2026, 1, 1, tzinfo=UTC), time(0)),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
        (Color.RED, Color.GREEN, Color.OTHER, Access.READ, Access.WRITE, Access.READ | Access.WRITE, 1, "RED"),
        (Row("a", {1}), Row("b", {1}), Row("a", {2}), {"name": "a", "tags": {1}}),
        (Point(0.0, 1.0), Point(1.0, 0.0), (0.0, 1.0), Site("a"), Site("b"), Plain(x=0.0, y=1.0), Plain()),
        (Slotted(1), Slotted(2), Plain(a=1)),
        (Pair(1, 2), Pair(2, 1), (1, 2)),
        (shift, shifted(1), shifted(2), lambda x: x, lambda x: -x, lambda x=1: x, len, max),
        (functools.partial(shift, by=1), functools.partial(shift, by=2), shift, functools.partial(shift, 1)),
        (Plain, Slotted, Plain(), "Plain"),
        (pathlib.Path("a"), pathlib.PurePosixPath("a"), "a", pathlib.Path("b")),
        (ValueError("a"), ValueError("b"), TypeError("a"), ValueError),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
        (np.arange(6), np.arange(6.0), np.arange(6).reshape(2, 3), np.arange(6, dtype="i4"), list(range(6))),
        (np.array([1.0, np.nan]), np.array([np.nan, 1.0]), np.array([-0.0, 0.0]), np.array([0.0, -0.0])),
        (np.array(["a", "b"]), np.array(["a", "b"], dtype=object), np.array([b"a", b"b"])),
        (np.array(["2026"], "M8[s]"), np.array(["2026"], "M8[ns]"), np.array([1], "m8[s]"), np.datetime64("2026")),
        (np.longdouble("0.1"), np.longdouble(0.1), np.float64(0.1)),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), pd.Series([1], name="a")),
        (pd.DataFrame({"a": [1]}, index=[7]), pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]})),
        (pd.Series([1, 2]), pd.Series([1, 2], dtype="Int64"), pd.Series([1, None], dtype="Int64"), pd.Index([1, 2])),
        (pd.Series(["a"], dtype="category"), pd.Series(["a"]), pd.Categorical(["a"], ["a", "b"])),
        (pd.Categorical(["a"], ["a"], ordered=True), pd.Categorical(["a"], ["a"])),
        (pd.to_datetime(["2026-01-01"]), pd.to_datetime(["2026-01-01"], utc=True), pd.period_range("2026", periods=1)),
        (pd.MultiIndex.from_tuples([(1, 2)]), pd.MultiIndex.from_tuples([(2, 1)]), pd.Index([(1, 2)], tupleize_cols=0)),
        (["a"].append, ["b"].append, ["a"].pop, [].append, list.append),
        (range(3), range(4), [0, 1, 2], slice(3)),
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_different_values_have_different_hashes(values):
    assert len({stable_hash(value) for value in values}) == len(values)


def structured(padding: int):
    array = np.zeros(2, dtype=np.dtype({"names": ["a", "b"], "formats": ["i1", "i8"], "offsets": [0, 8]}))
    array.view("u1")[1] = padding
    array["b"] = 3
    return array


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (float("nan"), -math.nan),
        ({"b": 2, "a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, types.MappingProxyType({"a": 1})),
        ({3, 1, 2}, {1, 2, 3}),
        (Bag([3, 1]), Bag([1, 3])),
        (Row("a", {1, 2}, seen=1), Row("a", {2, 1}, seen=threading.Lock())),
        (Site("a", hits=1), Site("a", hits=2)),
        (Plain(a=1, b=2), Plain(b=2, a=1)),
        (Chosen(3), Chosen(3)),
        (shifted(1), shifted(1)),
        (Color.OTHER, Color["OTHER"]),
        (collections.defaultdict(int, a=1, b=2), collections.defaultdict(int, b=2, a=1)),
        (np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3)),
        (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        (np.array([np.nan]), -np.array([np.nan])),
        (structured(1), structured(2)),
        (pd.DataFrame({"a": range(4)})[:2], pd.DataFrame({"a": [0, 1]})),
        (pd.Series(["x", None]), pd.Series(["x", "y", None]).iloc[[0, 2]].reset_index(drop=True)),
        (re.compile("a"), re.compile("a")),
        (uuid.UUID(int=1), uuid.UUID(int=1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_alike_have_one_hash(one, other):
    assert stable_hash(one) == stable_hash(other)


def test_function_is_its_code_and_not_the_place_where_it_stands():
    sources = ["def f(x):\n return x + 1", "\n\n# moved\ndef f(x):\n    return x + 1", "def f(x):\n return x + 2"]
    functions = []
    for source in sources:
        names: dict = {"__name__": f"module_{len(functions)}"}
        exec(source, names)
        functions.append(names["f"])
    assert stable_hash(functions[0]) == stable_hash(functions[1]) != stable_hash(functions[2])


def test_recursive_function_and_circular_list_have_hashes():
    def down(n):
        return n and down(n - 1)

    circle: list = [1]
    circle.append(circle)
    other: list = [1]
    other.append(other)
    assert stable_hash(circle) == stable_hash(other) != stable_hash([1, [1]])
    assert stable_hash(down)


def test_objects_on_a_circle_hash_by_value_wherever_they_were_met_first():
    parent = Plain(name="p")
    children = [Plain(name=name, parent=parent) for name in "ab"]
    parent.children = {child.name: child for child in children}
    parent.reverse = {child.name: child for child in reversed(children)}
    first = stable_hash(parent)
    parent.__dict__ = dict(reversed(parent.__dict__.items()))
    assert stable_hash(parent) == first


def test_shared_parts_are_hashed_once():
    value: list = [1]
    for _ in range(60):
        value = [value, value]
    assert stable_hash(value) == stable_hash([value[0], value[1]])


def test_objects_in_which_everything_points_to_everything_are_refused():
    nodes = [Plain(name=i) for i in range(30)]
    for node in nodes:
        node.others = list(nodes)
    with pytest.raises(Unhashable, match="in too many ways"):
        stable_hash(nodes[0])


def test_value_that_is_nested_too_deeply_is_refused():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Unhashable, match=r"^value cannot be hashed: it is nested too deeply$"):
        stable_hash(value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "value"),
        ([1, 2, [threading.Lock()]], "value[2][0]"),
        ({"rows": [Plain(client=threading.Lock())]}, "value['rows'][0].client"),
        ({threading.current_thread: threading.Lock()}, "value[function]"),
        ({"x" * 100: threading.Lock()}, f"value['{'x' * 59}…]"),
        (Row("a", {threading.Lock()}), "value.tags{...}"),
        (Site(threading.Lock()), "value.host"),
        (functools.partial(shift, by=threading.Lock()), "value (its state)"),
        (with_default(threading.Lock()), "value.__defaults__[0]"),
        (shifted(threading.Lock()), "value (its variable by)"),
        (Plain(x=1).__init__.__func__.__get__(threading.Lock()), "value.__self__"),
        (np.array([1, threading.Lock()], dtype=object), "value[1]"),
        (pd.DataFrame({"a": [1], "b": [threading.Lock()]}), "value['b'][0]"),
        (object(), "value"),
        ((n for n in "ab"), "value"),
    ],
    ids=label,
)
def test_part_that_cannot_be_hashed_is_named(value, path):
    with pytest.raises(Unhashable) as caught:
        stable_hash(value)
    assert caught.value.path.startswith(path)
    assert caught.value.reason.endswith("is not the same in another process")
    assert str(caught.value) == f"{caught.value.path} cannot be hashed: {caught.value.reason}"
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, PrefectishError)


def test_path_begins_with_the_name_of_the_argument():
    with pytest.raises(Unhashable, match=r"^rows\[3\]\.client cannot be hashed: a _thread.lock is not the same"):
        named_hash("rows", [0, 1, 2, Plain(client=threading.Lock())])


def test_hash_of_numbers_too_large_to_print_is_made_digit_by_digit():
    assert stable_hash([10**5000]) != stable_hash([10**5000 + 1])


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.datetimes()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def typed(value):
    """What a value is, written down independently: two values are alike if and only if these are equal."""
    if isinstance(value, dict):
        return "dict", frozenset((typed(key), typed(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(typed, value))
    if isinstance(value, float):
        return "float", value.hex()
    return type(value).__name__, value


@given(values, values)
def test_hashes_are_equal_exactly_where_values_are(one, other):
    assert (stable_hash(one) == stable_hash(other)) == (typed(one) == typed(other))


@given(st.lists(scalars, max_size=5), st.lists(scalars, max_size=5))
def test_hashes_of_lists_are_equal_exactly_where_lists_are(one, other):
    assert (stable_hash(one) == stable_hash(other)) == (typed(one) == typed(other))


@given(st.dictionaries(st.text(), st.integers()), st.randoms())
def test_order_of_a_dict_does_not_count(value, random):
    pairs = list(value.items())
    random.shuffle(pairs)
    assert stable_hash(dict(pairs)) == stable_hash(value)
    assert stable_hash(set(value)) == stable_hash({key for key, _ in pairs})


def test_every_scalar_has_a_hash_of_32_digits():
    assert all(re.fullmatch("[0-9a-f]{32}", stable_hash(kind())) for kind in SCALARS)


class Tokenized:
    """Holds what has no hash, and says what makes it the same."""

    def __init__(self, name):
        self.name = name
        self.handle = (x for x in "a generator")

    def __dask_tokenize__(self):
        return (type(self), self.name)


class Other(Tokenized):
    pass


def test_token_of_dask_is_honoured():
    assert stable_hash(Tokenized("a")) == stable_hash(Tokenized("a"))
    assert stable_hash(Tokenized("a")) != stable_hash(Tokenized("b"))
    assert stable_hash(Tokenized("a")) != stable_hash(Other("a"))
    assert stable_hash({"x": [Tokenized("a")]}) == stable_hash({"x": [Tokenized("a")]})


def test_token_without_a_hash_is_named_by_its_place():
    odd = Tokenized("a")
    odd.name = odd.handle
    with pytest.raises(Unhashable, match=r"\.__dask_tokenize__\(\)\[1\]"):
        stable_hash(odd)
