"""What can be mapped over: one rule, asked while a flow is built, where a result was made, and where an item is read.

Items are taken by position. Containers of other libraries are known by the names of their classes: nothing is imported.
"""

from __future__ import annotations

import sys
from collections import UserString
from collections.abc import (
    AsyncIterator,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from enum import EnumMeta
from operator import getitem
from typing import Any, NamedTuple

from prefectish.errors import describe

#: Beginning of the message of a state or an error for a result that cannot be mapped over.
UNMAPPABLE_RESULT = "At least one upstream state has an unmappable result."
#: Children that a map can have; an iterator, which is read during the run, may have more.
MAX_WIDTH = 100_000_000
#: Types whose rules are remembered.
MAX_RULES = 1_000
#: Containers that say that they are longer show that they have their last item.
TRUSTED_WIDTH = 1_000

#: Their items are read directly; their length is true.
LISTS = (list, tuple, range)

_TO_EVERY_CHILD = "or wrap it in unmapped(...) to pass it to every child"
#: The way out of what has no items at all.
A_LIST = f"a list, {_TO_EVERY_CHILD}"
_RECORDS = 'df.to_dict("records"), or list(df.itertuples())'
_SLICES = '[ds.isel(time=i) for i in range(ds.sizes["time"])]'
_GATHER = "future.result(), or client.gather(futures)"

#: Ways out of tables of other libraries, by library and class.
_TABLES = {
    ("polars", "DataFrame"): "df.to_dicts(), or df.rows()",
    ("polars", "LazyFrame"): "df.collect().to_dicts()",
    ("polars", "GroupBy"): "[group for _, group in df.group_by(...)]",
    ("pandas", "BaseGroupBy"): "[group for _, group in df.groupby(...)]",
    ("pyarrow", "Table"): "table.to_pylist()",
    ("pyarrow", "RecordBatch"): "batch.to_pylist()",
    ("xarray", "Dataset"): _SLICES,
    ("xarray", "DataTree"): _SLICES,
    ("xarray", "GroupBy"): "[group for _, group in ds.groupby(...)]",
}
#: Classes of what a call returns.
_CALLS = {("prefectish", "Task"), ("prefectish", "TaskFuture"), ("prefectish", "MapFuture")}
#: Libraries whose values say that they are Dask collections, also where they are none.
_SAY_DASK = {"xarray", "pint"}


class Rule(NamedTuple):
    """How values of a type are mapped over."""

    #: Returns the item of a value at a position; None if values of the type cannot be mapped over.
    read: Callable[[Any, int], Any] | None
    #: What to map over instead.
    way_out: str = ""
    #: `flatten` refuses it as an element, too: it has rows, but not by position.
    is_table: bool = False
    #: It stands for a value that Dask has, or would compute: no task takes it.
    is_dask: bool = False
    #: It stands for the result of a call: a task, or a future of ours.
    is_call: bool = False


#: Rules that were found, by type.
_rules: dict[type, Rule] = {kind: Rule(getitem) for kind in LISTS}


class Unmappable(TypeError):
    """Raised when a value cannot be mapped over."""

    def __init__(self, kind: str, way_out: str) -> None:
        super().__init__(kind, way_out)
        self.kind = kind  # what it is, the name of its type as a rule
        self.way_out = way_out  # what to map over instead

    def __str__(self) -> str:
        return f"a {self.kind} cannot be mapped over: map over {self.way_out}"


def rule_of(kind: type) -> Rule:
    """Return how values of a type are mapped over.

    Examples
    --------
    >>> rule_of(list).read([3, 4], 1)
    4
    >>> rule_of(dict).way_out
    'list(d.items()), or a list of its keys or values'
    """
    rule = _rules.get(kind)
    if rule is None:
        if len(_rules) >= MAX_RULES:  # a program that makes classes without end
            _rules.clear()
        names = {(str(base.__module__).partition(".")[0], base.__name__) for base in kind.__mro__}
        rule = _rules[kind] = _rule_of_library(kind, names) or _rule_by_methods(kind)
    return rule


def _rule_of_library(kind: type, names: set[tuple[str, str]]) -> Rule | None:
    """Return the rule for a type of Dask, pandas, polars, pyarrow or xarray; None for any other."""
    if names & _CALLS:
        return Rule(None, "a list of them, list(...)", is_call=True)
    if ("distributed", "Future") in names:
        return Rule(None, _GATHER, is_table=True, is_dask=True)
    libraries = {library for library, _ in names}
    classes = {name for _, name in names}
    if hasattr(kind, "__dask_graph__") and not libraries & _SAY_DASK:
        rows = '.to_dict("records")' if "DataFrame" in classes else ""
        return Rule(None, f"x.compute(){rows}", is_table=True, is_dask=True)
    if hasattr(kind, "iloc"):  # pandas, and what is like it
        if "DataFrame" in classes:
            return Rule(None, _RECORDS, is_table=True)
        if "Series" in classes:
            return Rule(_by_iloc)
    if names & {("pyarrow", "Array"), ("pyarrow", "ChunkedArray"), ("pyarrow", "ListScalar")}:
        return Rule(_as_python)
    way_out = next((_TABLES[name] for name in names if name in _TABLES), None)
    return None if way_out is None else Rule(None, way_out, is_table=True)


def _by_iloc(series: Any, position: int) -> Any:
    return series.iloc[position]


def _as_python(array: Any, position: int) -> Any:
    """Return an item as Python has it: nothing can be computed with a scalar of Arrow."""
    return array[position].as_py()


#: By the base classes of a type; the first line counts that fits.
_BY_BASES: tuple[tuple[Any, Rule], ...] = (
    (str | UserString, Rule(None, f"list(text) for its characters, {_TO_EVERY_CHILD}")),
    (bytes | bytearray, Rule(None, f"list(data) for its bytes, {_TO_EVERY_CHILD}")),
    (Iterator | AsyncIterator, Rule(None, "a list: collect the items in the body")),
    (Sequence, Rule(getitem)),
    (KeysView | ValuesView | ItemsView, Rule(None, "list(...) of it")),
    (Mapping, Rule(None, "list(d.items()), or a list of its keys or values")),
    (Set, Rule(None, "sorted(...) or list(...) of it: a set has no order")),
    (EnumMeta, Rule(None, "list(...) of it")),
    (type, Rule(None, A_LIST)),
)


def _rule_by_methods(kind: type) -> Rule:
    found = next((rule for bases, rule in _BY_BASES if issubclass(kind, bases)), None)
    if found is not None:
        return found
    if hasattr(kind, "keys"):
        return Rule(None, "a list of its items: its [...] takes labels")
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        return Rule(getitem)
    return Rule(None, "list(...) of it" if hasattr(kind, "__iter__") else A_LIST)


def width_of(value: Any) -> int:
    """Return the number of items of a value.

    Unmappable is raised if it has none that could be taken by position, or not as many as it says.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        _check_members(value, kind.__name__)
        return len(value)
    rule = rule_of(kind)
    if rule.read is None:
        raise Unmappable(kind.__name__, rule.way_out)
    try:
        width = len(value)
    except TypeError:  # an array without dimensions has a __len__ that raises
        raise Unmappable(kind.__name__, A_LIST) from None
    except Exception as error:
        raise Unmappable(kind.__name__, f"a list of its items: its length raised {describe(error)}") from error
    if width > MAX_WIDTH:
        way_out = f"iter(...) of it: it has {width:,} items, and all but an iterator at most {MAX_WIDTH:,}"
        raise Unmappable(kind.__name__, way_out)
    if width > TRUSTED_WIDTH and kind is not range:
        _check_last(value, rule.read, width)
    return width


def _check_last(value: Any, read: Callable[[Any, int], Any], width: int) -> None:
    try:
        read(value, width - 1)
    except LookupError as error:
        way_out = f"a list of its items: it says that it has {width:,}, and the last one raised {describe(error)}"
        raise Unmappable(type(value).__name__, way_out) from error
    except Exception:
        return  # the child that reads it will tell


def _check_members(values: Iterable[Any], kind: str) -> None:
    """Refuse a list in which an item is Dask's; one pass in C over the types, for lists of millions."""
    for member in set(map(type, values)):
        if member not in _HARMLESS and rule_of(member).is_dask:
            position = next(i for i, item in enumerate(values) if type(item) is member)
            raise Unmappable(f"{kind} with a {member.__name__} at {position}", rule_of(member).way_out)


#: Types of which no value is Dask's.
_HARMLESS = frozenset((int, str, float, dict, list, tuple, bool, type(None), bytes))


def item_at(value: Any, position: int) -> Any:
    """Return the item of a value at a position; at one below 0, whatever is wrong with the value is raised.

    Unmappable is raised if the value cannot be mapped over, or the item stands for a value that Dask has; and whatever
    the container of the user raises.
    """
    rule = rule_of(type(value))
    if rule.read is None or position < 0:
        width_of(value)
        raise Unmappable(type(value).__name__, "a list of its items: it is no longer what it was")
    return checked_item(rule.read(value, position))


def checked_item(item: Any) -> Any:
    """Return an item; Unmappable is raised if it stands for a value that Dask has."""
    rule = rule_of(type(item))
    if rule.is_dask:
        raise Unmappable(type(item).__name__, rule.way_out)
    return item


def pulled(item: Any) -> Any:
    """Return an item that an iterator gave; Unmappable is raised if it stands for a value that is not there yet.

    Of a list the calls in it are waited for; an iterator is read while what it would wait for may need its place.
    """
    rule = rule_of(type(item))
    if rule.is_call:
        raise Unmappable(f"{type(item).__name__} that an iterator gives", rule.way_out)
    return checked_item(item)


def check_result(value: Any) -> None:
    """Refuse a result that only the body's own connection to Dask keeps: a Future, a list with one, what was persisted.

    A collection that is not computed yet is a graph, which another body may compute. Raises a TypeError.
    """
    if "dask" not in sys.modules:
        return
    members = set(map(type, value)) - _HARMLESS if type(value) in (list, tuple) else {type(value)}
    for kind in members:
        if kind in _HARMLESS or not rule_of(kind).is_dask:
            continue
        if rule_of(kind).way_out == _GATHER:
            raise TypeError(f"a {kind.__name__} ends with the body that made it; return {_GATHER}")
        if kind is type(value) and any(rule_of(type(part)).way_out == _GATHER for part in _graph_values(value)):
            raise TypeError(
                f"what a persisted {kind.__name__} holds ends with the body that made it; return a computed value, or "
                f"keep it by client.publish_dataset(...)"
            )


def _graph_values(collection: Any) -> Iterable[Any]:
    found: Iterable[Any] = dict(collection.__dask_graph__() or {}).values()
    return [getattr(node, "value", node) for node in found]  # a DataNode of later versions of Dask holds it


def items_of(value: Any) -> Iterable[Any]:
    """Return the items of a value by position; Unmappable is raised if it has none."""
    width = width_of(value)
    return value if type(value) in LISTS else (item_at(value, i) for i in range(width))


def check_mappable(value: Any, task_name: str, argument: str, flattened: bool = False) -> None:
    """Reject a constant, or a collection of tasks, whose items cannot be taken by position.

    An iterator passes, unless it is to be `flattened`. A TypeError names task, argument, type and an alternative.
    """
    if is_iterator(value):
        _check_flattened(value, f"{task_name}.map", argument, flattened)
        return
    try:
        width_of(value)
    except Unmappable as error:
        refused = f"{task_name}.map: {argument} cannot be mapped over: got {error.kind}; pass {error.way_out}"
        raise TypeError(refused) from error.__cause__


def _check_flattened(value: Any, where: str, argument: str, flattened: bool) -> None:
    if flattened and is_iterator(value):
        kind, way_out = type(value).__name__, "itertools.chain.from_iterable(...) of it, or list(...)"
        raise TypeError(f"{where}: {argument} cannot be flattened: got {kind}; pass {way_out}")


def check_constant(value: Any, task_name: str, argument: str, flattened: bool = False) -> None:
    """Reject a constant that stands for a value that Dask has, or a list with one in it, as `check_mappable` does."""
    _check_flattened(value, task_name, argument, flattened)
    try:
        checked_item(value)
        if type(value) in (list, tuple):
            _check_members(value, type(value).__name__)
    except Unmappable as error:
        refused = f"{task_name}: {argument} is a {error.kind}, which bodies do not read; pass {error.way_out}"
        raise TypeError(refused) from None


def is_iterator(value: Any) -> bool:
    """Whether items can be pulled from a value, once."""
    return hasattr(type(value), "__next__")
