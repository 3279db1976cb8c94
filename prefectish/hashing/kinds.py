"""Hashes of values of each kind, except those of numpy and pandas."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from prefectish.errors import Unhashable
from prefectish.fingerprint import fingerprint
from prefectish.hashing.digests import digest

if TYPE_CHECKING:
    from prefectish.hashing.encoder import Tree


def hash_of(tree: Tree, value: Any, kind: type) -> bytes:
    """Return the hash of a value that is not a scalar."""
    how = KINDS.get(kind) or _LATE.get((kind.__module__, kind.__qualname__))
    if how is not None:
        return how(tree, value)
    if isinstance(value, type):
        return by_name(tree, value)
    tokenize = getattr(kind, "__dask_tokenize__", None)
    if tokenize is not None:  # its author says what makes it the same, as xarray and geopandas do
        return tree.join(f"token of {class_name(kind)}", [(".__dask_tokenize__()", tokenize(value))])
    for fits, how in _FAMILIES:
        if fits(kind):
            return how(tree, value)
    return rebuilt(tree, value)


def class_name(cls: type) -> str:
    """Return the name of a class for a hash."""
    return f"{cls.__module__}.{cls.__qualname__}"


def by_name(tree: Tree, value: Any) -> bytes:
    """Hash a global of a module by its name."""
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        return tree.join("method", [("", value.__name__), (".__self__", owner)])
    home = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__qualname__", "")
    return digest("name", f"{home}.{getattr(value, '__qualname__', value.__name__)}".encode())


def _function(tree: Tree, value: FunctionType) -> bytes:
    names = value.__code__.co_freevars
    cells = zip(names, value.__closure__ or (), strict=True)
    parts: list[tuple[str, Any]] = [
        ("", fingerprint(value.__code__)),
        (".__defaults__", value.__defaults__),
        (".__kwdefaults__", value.__kwdefaults__),
        *((f" (its variable {name})", cell) for name, cell in cells),
    ]
    return tree.join("function", parts)


def _cell(tree: Tree, cell: CellType) -> bytes:
    try:
        content = cell.cell_contents
    except ValueError:  # not filled yet
        return digest("cell", b"empty")
    return tree.join("cell", [("", content)])


def _method(tree: Tree, value: MethodType) -> bytes:
    return tree.join("method", [("", value.__func__), (".__self__", value.__self__)])


def _datetime(tree: Tree, value: Any) -> bytes:
    naive = value.replace(tzinfo=None)
    return tree.join(type(value).__name__, [("", naive.isoformat()), ("", value.fold), (".tzinfo", value.tzinfo)])


def _text(kind: str, text: Callable[[Any], str] = str) -> Callable[[Tree, Any], bytes]:
    return lambda tree, value: digest(kind, text(value).encode("utf-8", "surrogatepass"))


def _path(tree: Tree, value: Any) -> bytes:
    # A concrete path is a PosixPath here and a WindowsPath there.
    kind = type(value).__name__ if type(value).__name__.startswith("Pure") else "Path"
    return digest(kind, str(value).encode("utf-8", "surrogatepass"))


def _enum(tree: Tree, value: Any) -> bytes:
    cls = type(value)
    try:
        content = tree.node(value._value_)
    except Unhashable:  # `OPEN = object()`: the name is all there is
        if tree.gave_up:
            raise
        content = b""
    return digest("enum", f"{class_name(cls)}.{value._name_}".encode() + b"\0" + content)


def _dataclass(tree: Tree, value: Any) -> bytes:
    from dataclasses import fields

    names = [field.name for field in fields(value) if field.compare or tree.exact]
    return tree.attributes(class_name(type(value)), {name: getattr(value, name) for name in names})


def _attrs(tree: Tree, value: Any) -> bytes:
    names = [field.name for field in type(value).__attrs_attrs__ if field.eq or tree.exact]
    return tree.attributes(class_name(type(value)), {name: getattr(value, name) for name in names})


def _exception(tree: Tree, value: BaseException) -> bytes:
    """Hash an exception by its arguments; other libraries may register ways to pickle its traceback too."""
    return _from_recipe(tree, value, value.__reduce_ex__(4))


def _set(tree: Tree, value: Any) -> bytes:
    """Hash an instance of a subclass of set or frozenset; pickle would depend on the hash seed."""
    attributes = _Digest(_state(tree, getattr(value, "__dict__", None)))
    members = _Digest(tree.unordered("set", value))
    return tree.join("object", [("", class_name(type(value))), ("", members), ("", attributes)])


def rebuilt(tree: Tree, value: Any) -> bytes:
    """Hash what pickle would rebuild a value from."""
    kind = type(value)
    special = copyreg.dispatch_table.get(kind)
    try:
        recipe = special(value) if special is not None else value.__reduce_ex__(4)
    except Exception as error:  # it is the user's code that refuses
        raise _no_value(kind) from error
    return _from_recipe(tree, value, recipe)


def _from_recipe(tree: Tree, value: Any, recipe: Any) -> bytes:
    kind = type(value)
    if isinstance(recipe, str):
        return digest("global", f"{kind.__module__}.{recipe}".encode())
    make, arguments, state, items, pairs = (*recipe, None, None, None, None)[:5]
    if kind is object:
        raise _no_value(kind)
    return tree.join(
        "object",
        [
            ("", class_name(kind)),
            ("", _Digest(by_name(tree, make) if _is_named(make) else tree.part("", make))),
            *((f" (what it is made of, {i})", argument) for i, argument in enumerate(arguments)),
            ("", _Digest(_state(tree, state))),
            ("", None if items is None else list(items)),
            ("", _Digest(_pairs(tree, value, pairs))),
        ],
    )


def _is_named(make: Any) -> bool:
    return isinstance(make, FunctionType | BuiltinFunctionType | type) and "<" not in make.__qualname__


def _pairs(tree: Tree, value: Any, pairs: Any) -> bytes:
    if pairs is None:
        return b""
    content = list(pairs)
    if hasattr(value, "move_to_end"):  # an OrderedDict: its order is part of it
        return tree.sequence("pairs", content)
    return tree.mapping("dict", dict(content))


def _state(tree: Tree, state: Any) -> bytes:
    if type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
        state = {**(state[0] or {}), **(state[1] or {})}  # attributes, and slots
    if type(state) is not dict or not all(type(name) is str for name in state):
        return tree.part(" (its state)", state)
    if "__pydantic_fields_set__" in state:  # which fields were written out makes no other value
        state = {name: part for name, part in state.items() if name != "__pydantic_fields_set__"}
    return tree.attributes("state", state)


class _Digest:
    """A hash that is already known, in place of a part."""

    __slots__ = ("known",)

    def __init__(self, known: bytes) -> None:
        self.known = known


def _no_value(kind: type) -> Unhashable:
    name = kind.__qualname__ if kind.__module__ == "builtins" else class_name(kind)
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return Unhashable(f"{article} {name} is not the same in another process")


def _refused(tree: Tree, value: Any) -> bytes:
    raise _no_value(type(value))


def _array(function: str) -> Callable[[Tree, Any], bytes]:
    """Return a function that hashes arrays or frames; its module is imported at the first use."""

    def how(tree: Tree, value: Any) -> bytes:
        from prefectish.hashing import arrays

        hashed: bytes = getattr(arrays, function)(tree, value)
        return hashed

    return how


def _in_mro(*names: str) -> Callable[[type], bool]:
    wanted = frozenset(names)
    return lambda kind: any(f"{base.__module__}.{base.__qualname__}" in wanted for base in kind.__mro__)


KINDS: dict[type, Callable[[Tree, Any], bytes]] = {
    list: lambda tree, value: tree.sequence("list", value),
    tuple: lambda tree, value: tree.sequence("tuple", value),
    set: lambda tree, value: tree.unordered("set", value),
    frozenset: lambda tree, value: tree.unordered("frozenset", value),
    dict: lambda tree, value: tree.mapping("dict", value),
    MappingProxyType: lambda tree, value: tree.mapping("dict", value),
    bytearray: lambda tree, value: digest("bytearray", bytes(value)),
    memoryview: lambda tree, value: digest("memoryview", value.tobytes()),
    range: lambda tree, value: tree.sequence("range", (value.start, value.stop, value.step)),
    slice: lambda tree, value: tree.sequence("slice", (value.start, value.stop, value.step)),
    FunctionType: _function,
    CodeType: lambda tree, value: digest("code", fingerprint(value).encode()),
    CellType: _cell,
    MethodType: _method,
    _Digest: lambda tree, value: digest("known", value.known),
    **dict.fromkeys(
        (
            BuiltinFunctionType,
            GetSetDescriptorType,
            MemberDescriptorType,
            MethodDescriptorType,
            ModuleType,
            WrapperDescriptorType,
        ),
        by_name,
    ),
}

#: Types of modules that need not be imported yet, by module and name.
_LATE: dict[tuple[str, str], Callable[[Tree, Any], bytes]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "time"): _datetime,
    ("datetime", "date"): _text("date", lambda value: value.isoformat()),
    ("datetime", "timedelta"): lambda tree, v: tree.sequence("timedelta", (v.days, v.seconds, v.microseconds)),
    ("uuid", "UUID"): _text("UUID"),
    ("decimal", "Decimal"): _text("Decimal"),
    ("fractions", "Fraction"): _text("Fraction"),
    ("re", "Pattern"): lambda tree, value: tree.sequence("pattern", (value.pattern, value.flags)),
}

#: Kinds with subclasses, in the order in which they are asked.
_FAMILIES: tuple[tuple[Callable[[type], bool], Callable[[Tree, Any], bytes]], ...] = (
    (_in_mro("enum.Enum"), _enum),
    (lambda kind: issubclass(kind, set | frozenset), _set),
    (lambda kind: issubclass(kind, BaseException), _exception),
    (_in_mro("pathlib.PurePath", "pathlib._local.PurePath"), _path),
    (_in_mro("numpy.generic"), _array("scalar")),
    (lambda kind: class_name(kind) == "numpy.ndarray", _array("array")),
    (_in_mro("pandas.DataFrame", "pandas.core.frame.DataFrame"), _array("frame")),
    (_in_mro("pandas.Series", "pandas.core.series.Series"), _array("series")),
    (_in_mro("pandas.Index", "pandas.core.indexes.base.Index"), _array("index")),
    (lambda kind: "__attrs_attrs__" in vars(kind), _attrs),
    (lambda kind: "__dataclass_fields__" in vars(kind), _dataclass),
)
