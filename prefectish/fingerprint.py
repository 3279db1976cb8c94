"""A hash of any value by its content, the same in every process.

Values are trees; each node is hashed from its kind and the hashes of its parts. Sets and dicts are unordered.
Functions are hashed by bytecode, constants, names, defaults and closure; line numbers, file names and
annotations are ignored. Classes are hashed by name, and user-defined ones (:meth:`_Tree.body`) by their methods and
attributes too. Anything else is hashed by what pickle would rebuild it from; objects that cannot be pickled (locks,
files, generators) by their type only.

Bytecode depends on the version of Python, and so do fingerprints of functions.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterable
from functools import cached_property
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
from typing import Any

from prefectish.kinds import is_a

#: Length of the hash of a node, in bytes.
HASH_SIZE = 16
#: Maximum depth of nesting; deeper values are hashed by type only.
MAX_DEPTH = 100
#: Types whose values :func:`ascii` distinguishes.
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
#: Names in the namespace of a class that do not affect its behaviour.
_IGNORED_NAMES = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
        "__dict__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__", "__parameters__", "__qualname__",
        "__static_attributes__", "__weakref__", "_abc_impl",
    }
)  # fmt: skip
#: The name of a class, whatever its metaclass computes.
_NAME_OF_CLASS: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_BY_NAME = (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)


def fingerprint(value: Any, is_body: Callable[[type], bool] = lambda cls: False, loose: bool = False) -> str:
    """Return the hash of a value as 32 hexadecimal digits.

    Parameters
    ----------
    is_body
        Function of a class: whether to hash its content, not only its name.
    loose
        Hash mutable values in closures of functions (a list, an object without its own equality) by
        type only.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": {2, 3}}) == fingerprint({"b": {3, 2}, "a": 1})
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    return _Tree(is_body, loose).node(value).hex()


class _Tree:
    """The state while one value is hashed."""

    def __init__(self, is_body: Callable[[type], bool], loose: bool) -> None:
        from hashlib import blake2b

        self.blake2b = blake2b
        self.is_body = is_body
        self.loose = loose
        # Hash of each object by id, with the object, so that its id is not reused.
        self.done: dict[int, tuple[bytes, Any]] = {}
        # Depth of each enclosing object by id: a value inside itself is hashed by its depth.
        self.open_: dict[int, int] = {}

    def node(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _SCALARS:
            return self.leaf(kind.__name__, _scalar(value))
        found = self.done.get(id(value))
        if found is not None:
            return found[0]
        if id(value) in self.open_:
            return self.leaf("around", str(len(self.open_) - self.open_[id(value)]).encode())
        if len(self.open_) > MAX_DEPTH:
            return self.leaf("deep", kind.__qualname__.encode())
        self.open_[id(value)] = len(self.open_)
        try:
            digest = self.inner(value, kind)
        except KeyboardInterrupt:
            raise
        except BaseException:  # what pickles it, and what its class computes, is the user's code
            digest = self.leaf("a class that raises", _NAME_OF_CLASS(kind).encode())
        finally:
            del self.open_[id(value)]
        self.done[id(value)] = digest, value
        return digest

    def leaf(self, kind: str, content: bytes) -> bytes:
        return self.blake2b(kind.encode() + b"\0" + content, digest_size=HASH_SIZE).digest()

    def join(self, kind: str, parts: Iterable[Any]) -> bytes:
        return self.leaf(f"{kind} of", b"".join(self.node(part) for part in parts))

    def inner(self, value: Any, kind: type) -> bytes:
        if kind is list or kind is tuple:
            return self.sequence(value, kind.__name__)
        if kind is set or kind is frozenset:
            return self.leaf(f"{kind.__name__} of", b"".join(sorted(map(self.node, value))))
        if kind is dict or kind is MappingProxyType:
            pairs = (self.node(key) + self.node(item) for key, item in value.items())
            return self.leaf("dict of", b"".join(sorted(pairs)))
        if issubclass(kind, type):
            return self.class_(value)
        how = _KINDS.get(kind)
        if how is not None:
            return how(self, value)
        if is_a(value, _BY_NAME):
            return self.named(value)
        if hasattr(kind, "__next__"):  # the position of an iterator is not hashed, and pickling some iterators warns
            return self.join("a", [kind])
        return self.rebuilt(value)

    def sequence(self, value: Any, kind: str) -> bytes:
        if _SCALARS.issuperset(map(type, value)):
            try:
                return self.leaf(kind, ascii(value).encode())  # fast for a million numbers
            except ValueError:  # Python refuses to print very large integers
                pass
        return self.join(kind, value)

    def named(self, value: Any) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType):
            return self.join("method", [value.__name__, owner])
        home = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__qualname__", "")
        return self.leaf("name", f"{home}.{getattr(value, '__qualname__', value.__name__)}".encode())

    def class_(self, cls: type) -> bytes:
        return self.body(cls) if self.is_body(cls) else self.named(cls)

    def body(self, cls: type) -> bytes:
        """Hash a class by its attributes, and those of its bases that come from the same package."""
        root = _root(cls)
        bases = [
            self.body(base) if _root(base) == root and not is_own_module(base.__module__) else self.class_(base)
            for base in cls.__bases__
        ]
        members = {name: member for name, member in vars(cls).items() if name not in _IGNORED_NAMES}
        return self.join("class", [cls.__qualname__, *bases, members])

    def function(self, value: FunctionType) -> bytes:
        if is_own_module(value.__module__) and "<" not in value.__qualname__:
            return self.named(value)
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__]
        return self.join("function", parts)

    def code(self, code: CodeType) -> bytes:
        numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        parts = [code.co_name, code.co_code, code.co_exceptiontable, code.co_consts, numbers, *names]
        return self.join("code", parts)

    def cell(self, cell: CellType) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            return self.leaf("cell", b"empty")
        if self.loose and _may_change(content):
            return self.join("cell of a", [type(content)])
        return self.join("cell", [content])

    def wrapped(self, value: Any) -> bytes:
        return self.join(type(value).__name__, [getattr(value, name) for name in _WRAPPERS[type(value)]])

    def rebuilt(self, value: Any) -> bytes:
        """Hash what pickle would rebuild the value from."""
        kind = type(value)
        try:
            recipe = _recipe(value)
        except Exception:  # a lock, a generator: only its type can be hashed
            return self.join("a", [kind])
        if isinstance(recipe, str):
            return self.leaf("global", f"{kind.__module__}.{recipe}".encode())
        return self.join("object", recipe)


def _may_change(value: Any) -> bool:
    """Whether a value is mutable."""
    kind = type(value)
    by_value: Any = kind.__hash__
    if by_value is not None and by_value is not object.__hash__:
        return False
    return not (kind in _KINDS or is_a(value, (type, *_BY_NAME)))


def _scalar(value: Any) -> bytes:
    if is_a(value, str):
        return value.encode("utf-8", "surrogatepass")
    if is_a(value, bytes):
        return value
    return hex(value).encode() if is_a(value, int) else repr(value).encode()


def _recipe(value: Any) -> str | list[Any]:
    """Return what pickle would rebuild a value from: a name, or parts."""
    special = copyreg.dispatch_table.get(type(value))
    recipe = special(value) if special is not None else value.__reduce_ex__(4)
    if isinstance(recipe, str):
        return recipe
    make, arguments, state, items, pairs = (*recipe, None, None, None, None)[:5]
    if is_a(value, (set, frozenset)) and type(value).__reduce__ in (set.__reduce__, frozenset.__reduce__):
        arguments = (frozenset(value),)  # not the list that pickle makes of it, whose order differs between processes
    return [make, arguments, state, None if items is None else list(items), None if pairs is None else dict(pairs)]


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def is_own_module(module: str | None) -> bool:
    """Whether a module is part of this package, whose objects are hashed by name so that releases do not matter."""
    return module is not None and module.startswith("prefectish.") and not module.startswith("prefectish.examples.")


_WRAPPERS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
}

_KINDS: dict[type, Callable[[_Tree, Any], bytes]] = {
    FunctionType: _Tree.function,
    CodeType: _Tree.code,
    CellType: _Tree.cell,
    **dict.fromkeys(_WRAPPERS, _Tree.wrapped),
}
