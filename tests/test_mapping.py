"""The rule of what can be mapped over, with many members of each kind."""

from __future__ import annotations

import array
import collections
import enum
import subprocess
import sys
from typing import Any

import pytest

from prefectish.tasks.mapping import (
    MAX_WIDTH,
    TRUSTED_WIDTH,
    Unmappable,
    check_constant,
    check_mappable,
    item_at,
    items_of,
    rule_of,
    width_of,
)


class Scalar:
    """Like an array without dimensions: it has the methods of a sequence and refuses them."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")

    def __getitem__(self, i: int) -> int:
        raise IndexError


class Sized:
    """A sequence of the user's own that says how long it is."""

    def __init__(self, length: Any, items: int = 3) -> None:
        self.length = length
        self.items = items

    def __len__(self) -> Any:
        if isinstance(self.length, Exception):
            raise self.length
        return self.length

    def __getitem__(self, i: int) -> int:
        if i >= self.items:
            raise IndexError(i)
        return 10 * i


class Labels:
    """Takes labels, as a file of HDF5 does."""

    def keys(self) -> list[str]:
        return ["a"]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, label: str) -> int:
        return {"a": 1}[label]


class Endless:
    def __getitem__(self, i: int) -> int:
        return i


class Once:
    def __iter__(self) -> Any:
        return iter([1])


class Text(collections.UserString):
    pass


class Colour(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "keys values")


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([], []),
        ([1, "a"], [1, "a"]),
        ((1, 2), [1, 2]),
        (range(1, 4), [1, 2, 3]),
        (array.array("i", [1]), [1]),
        (memoryview(b"a"), [97]),
        (collections.deque([1, 2]), [1, 2]),
        (collections.UserList([1, 2]), [1, 2]),
        (Point([1], 2), [[1], 2]),
        (Sized(3), [0, 10, 20]),
        (["ab", b"c"], ["ab", b"c"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_items_are_taken_by_position(value: Any, items: list[Any]) -> None:
    check_mappable(value, "load", "argument 'x'")
    assert width_of(value) == len(items)
    assert [item_at(value, i) for i in range(len(items))] == items
    assert list(items_of(value)) == items


@pytest.mark.parametrize("value", [iter([1]), map(str, [1]), (n for n in (1,))], ids=lambda v: type(v).__name__)
def test_iterator_is_given_but_not_returned(value: Any) -> None:
    check_mappable(value, "load", "argument 'x'")
    with pytest.raises(Unmappable, match="collect the items in the body"):
        width_of(value)
    assert next(value) in (1, "1"), "the check took an item"


REFUSED = [
    (3, "int", r"a list, or wrap it in unmapped\(...\) to pass it to every child"),
    (None, "NoneType", "a list, or wrap it"),
    (object(), "object", "a list, or wrap it"),
    (list, "type", "a list, or wrap it"),
    (Scalar(), "Scalar", "a list, or wrap it"),
    (Endless(), "Endless", "a list, or wrap it"),
    ("abc", "str", r"list\(text\) for its characters, or wrap it in unmapped"),
    (Text("abc"), "Text", r"list\(text\)"),
    (b"ab", "bytes", r"list\(data\) for its bytes, or wrap it in unmapped"),
    (bytearray(b"a"), "bytearray", r"list\(data\)"),
    ({1, 2}, "set", r"sorted\(...\) or list\(...\) of it: a set has no order"),
    (frozenset(), "frozenset", "no order"),
    ({"a": 1}, "dict", r"list\(d.items\(\)\), or a list of its keys or values"),
    (collections.OrderedDict(), "OrderedDict", r"list\(d.items\(\)\)"),
    ({}.keys(), "dict_keys", r"list\(...\) of it"),
    ({}.values(), "dict_values", r"list\(...\) of it"),
    ({}.items(), "dict_items", r"list\(...\) of it"),
    (Labels(), "Labels", "a list of its items: .* takes labels"),
    (Colour, "Enum(Meta|Type)", r"list\(...\) of it"),
    (Once(), "Once", r"list\(...\) of it"),
    (Sized(ValueError("no length")), "Sized", r"its length raised ValueError\('no length'\)"),
    (Sized(-1), "Sized", "its length raised ValueError"),
    (Sized(10**30), "Sized", "its length raised OverflowError"),
    (Sized(10**9), "Sized", "it has 1,000,000,000 items, and all but an iterator at most 100,000,000"),
    (Sized(10**6), "Sized", "it says that it has 1,000,000, and the last one raised IndexError"),
    (range(MAX_WIDTH + 1), "range", r"iter\(...\) of it"),
]


@pytest.mark.parametrize(("value", "kind", "way_out"), REFUSED)
def test_what_has_no_item_i_is_refused_with_a_way_out(value: Any, kind: str, way_out: str) -> None:
    with pytest.raises(TypeError, match=f"^load.map: argument 'x' cannot be mapped over: got {kind}; pass .*{way_out}"):
        check_mappable(value, "load", "argument 'x'")
    with pytest.raises(Unmappable, match=f"^a {kind} cannot be mapped over: map over .*{way_out}"):
        width_of(value)


def test_length_below_that_is_trusted_is_not_looked_into() -> None:
    assert width_of(Sized(TRUSTED_WIDTH)) == TRUSTED_WIDTH
    with pytest.raises(IndexError):
        item_at(Sized(5), 4)


def test_item_that_was_refused_says_what_is_wrong_with_its_list() -> None:
    with pytest.raises(Unmappable, match="says that it has 1,000,000"):
        item_at(Sized(10**6), -1)
    with pytest.raises(Unmappable, match="no longer what it was"):
        item_at([1], -1)
    with pytest.raises(Unmappable, match="a dict cannot"):
        item_at({0: 1}, 0)


# ---------------------------------------------------------------------- other libraries


def positions(value: Any) -> list[Any]:
    check_mappable(value, "load", "argument 'x'")
    return [item_at(value, i) for i in range(width_of(value))]


def refusal(value: Any) -> str:
    with pytest.raises(TypeError) as caught:
        check_mappable(value, "load", "argument 'x'")
    return str(caught.value).partition("got ")[2]


def test_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert positions(numpy.arange(3) * 1.5) == [0.0, 1.5, 3.0]
    assert [list(row) for row in positions(numpy.arange(4).reshape(2, 2))] == [[0, 1], [2, 3]]
    assert positions(numpy.array(["a", "b"])) == ["a", "b"]
    assert refusal(numpy.array(5)).startswith("ndarray; pass a list, or wrap it")
    assert refusal(numpy.str_("ab")).startswith("str_; pass list(text)")
    assert width_of(numpy.zeros((TRUSTED_WIDTH + 1, 2))) == TRUSTED_WIDTH + 1


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([30, 10, 20])
    assert positions(series.sort_values()) == [10, 20, 30]
    assert positions(pandas.concat([series[:1], series[:1]])) == [30, 30]
    assert positions(series[series > 15]) == [30, 20]
    assert positions(pandas.Series([1, 2], index=["x", "y"])) == [1, 2]
    assert positions(pandas.Series([1.5], index=[7])) == [1.5]
    assert positions(pandas.Series(["a", "b"], index=[1, 0], dtype="category")) == ["a", "b"]
    assert positions(pandas.Index([7, 5])) == [7, 5]
    days = pandas.date_range("2026-03-01", periods=2)
    assert positions(days) == [pandas.Timestamp("2026-03-01"), pandas.Timestamp("2026-03-02")]
    assert positions(pandas.MultiIndex.from_product([["a"], [1, 2]])) == [("a", 1), ("a", 2)]
    assert positions(pandas.Categorical(["a", "b"])) == ["a", "b"]
    assert positions(pandas.array([1, 2])) == [1, 2]
    frame = pandas.DataFrame({"a": [1, 2]})
    assert refusal(frame) == 'DataFrame; pass df.to_dict("records"), or list(df.itertuples())'
    assert refusal(pandas.DataFrame({0: [1], 1: [2]})).startswith("DataFrame; pass df.to_dict")
    assert "[group for _, group in df.groupby(...)]" in refusal(frame.groupby("a"))
    assert "[group for _, group in df.groupby(...)]" in refusal(frame["a"].groupby([1, 1]))


def test_what_is_derived_from_pandas_is_known_too() -> None:
    pandas = pytest.importorskip("pandas")

    class Shapes(pandas.Series):
        pass

    class Places(pandas.DataFrame):
        pass

    assert positions(Shapes([1, 2], index=[1, 0])) == [1, 2]
    assert refusal(Places({"a": [1]})).startswith("Places; pass df.to_dict")


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    assert positions(polars.Series([3, 1])) == [3, 1]
    assert positions(polars.Series(["a", None])) == ["a", None]
    frame = polars.DataFrame({"a": [1, 2]})
    assert refusal(frame) == "DataFrame; pass df.to_dicts(), or df.rows()"
    assert refusal(frame.lazy()) == "LazyFrame; pass df.collect().to_dicts()"
    assert "df.group_by" in refusal(frame.group_by("a"))


def test_pyarrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, None]})
    assert positions(table["a"]) == [1, None]
    assert [type(item) for item in positions(pyarrow.array([1, 2]))] == [int, int]
    assert positions(pyarrow.array([{"x": 1}])) == [{"x": 1}]
    assert positions(pyarrow.scalar([1, 2])) == [1, 2]
    assert refusal(table) == "Table; pass table.to_pylist()"
    assert refusal(table.to_batches()[0]) == "RecordBatch; pass batch.to_pylist()"


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    cubes = xarray.Dataset({"v": ("time", [1, 2])}, coords={"time": [5, 6]})
    assert [int(item) for item in positions(cubes["v"])] == [1, 2]
    assert "[ds.isel(time=i)" in refusal(cubes)
    assert "[group for _, group in ds.groupby(...)]" in refusal(cubes.groupby("time"))
    assert refusal(cubes["v"][0]).startswith("DataArray; pass a list")


def dask_things() -> list[tuple[Any, str]]:
    import dask
    from dask import bag
    from distributed import Future

    class Lonely(Future):
        """Without a client: nothing but its type is looked at."""

        def __init__(self) -> None: ...

        def __del__(self) -> None: ...

    return [
        (dask.delayed(1), "x.compute()"),
        (dask.delayed([1, 2]), "x.compute()"),
        (bag.from_sequence([1, 2]), "x.compute()"),
        (Lonely(), "future.result(), or client.gather(futures)"),
    ]


def test_what_dask_has_is_refused_as_list_item_and_constant() -> None:
    for value, way_out in dask_things():
        name = type(value).__name__
        assert refusal(value) == f"{name}; pass {way_out}"
        assert refusal([1, value]) == f"list with a {name} at 1; pass {way_out}"
        assert refusal((value,)) == f"tuple with a {name} at 0; pass {way_out}"
        with pytest.raises(Unmappable, match=f"a {name} cannot be mapped over"):
            item_at(Box(value), 0)
        for constant in (value, [1, value]):
            with pytest.raises(TypeError, match=f"^load: argument 'x' is a .*{name}.*, which bodies do not read; pass"):
                check_constant(constant, "load", "argument 'x'")


class Box:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> Any:
        return self.value


def test_dask_array_and_dataframe() -> None:
    pytest.importorskip("numpy")
    from dask import array as arrays

    assert refusal(arrays.zeros(3)) == "Array; pass x.compute()"
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    from dask import dataframe

    made = dataframe.from_pandas(pandas.DataFrame({"a": [1]}), npartitions=1)
    assert refusal(made) == 'DataFrame; pass x.compute().to_dict("records")'
    assert refusal(made["a"]) == "Series; pass x.compute()"


@pytest.mark.parametrize("value", [1, "abc", {"a": 1}, {1}, None, [1, [2]], object()], ids=lambda v: type(v).__name__)
def test_all_other_constants_pass(value: Any) -> None:
    assert check_constant(value, "load", "argument 'x'") is None


def test_rule_imports_no_library() -> None:
    names = ("pandas", "numpy", "polars", "pyarrow", "xarray", "dask", "distributed")
    code = f"import sys, prefectish.tasks.mapping; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rule_is_looked_up_once_a_type() -> None:
    assert rule_of(Sized) is rule_of(Sized)
