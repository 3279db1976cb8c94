"""The canonical hash of a value: a tree whose nodes are hashed from their kind and the hashes of their parts.

Equal values of one type hash alike in every process, under every hash seed and whatever was imported before; sets and
dicts have no order. Values of different types differ, even if they compare equal (``1``, ``1.0`` and ``True``). All
NaNs are alike; 0.0 and -0.0 are not, since a body can tell them apart.

Classes are their name, functions their bytecode, defaults and closure, and other objects what pickle would rebuild them
from. What pickle refuses (locks, files, generators, connections) has no value that outlives the process:
:class:`prefectish.errors.Unhashable` names it by its path (``rows[3].client``).
`prefectish.fingerprint` is the lenient brother, for flows, where a part without a value must not stand in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prefectish.errors import Unhashable
from prefectish.hashing.digests import SCALARS, digest
from prefectish.hashing.kinds import hash_of

#: How often objects on circles are walked through again before a value is given up.
MAX_ROUNDS = 10_000


def stable_hash(value: Any) -> str:
    """Return the canonical hash of a value: 32 hexadecimal digits.

    An Unhashable names the part of the value that is not the same thing in another process.

    Examples
    --------
    >>> stable_hash({"a": 1, "b": {2, 3}}) == stable_hash({"b": {3, 2}, "a": 1})
    True
    >>> stable_hash(1) == stable_hash(1.0)
    False
    >>> stable_hash({"rows": [1, (n for n in [])]})
    Traceback (most recent call last):
    prefectish.errors.Unhashable: value['rows'][1] cannot be hashed: a generator is not the same in another process
    """
    return named_hash("value", value)


def named_hash(name: str, value: Any, exact: bool = False) -> str:
    """Hash a value as :func:`stable_hash` does; the path in an error begins with this name.

    If it is `exact`, equal values that a body can tell apart differ: dicts by their order, objects by fields that are
    not compared. Such a hash is for this process, and members of a list or a dict that have none count by their type.
    """
    kind = type(value)
    if (scalar := SCALARS.get(kind)) is not None:  # items are, as a rule, and each child has one
        return digest(kind.__name__, scalar(value)).hex()
    try:
        return Tree(exact).node(value).hex()
    except Unhashable as error:
        raise Unhashable(error.reason, f"{name}{error.path}") from None
    except RecursionError:
        raise Unhashable("it is nested too deeply", name) from None


#: Scalars that `ascii` writes in such a way that no two of them look alike.
_PRINTED = frozenset({type(None), bool, int, float, str, bytes})


class Tree:
    """The state while one value is hashed."""

    __slots__ = ("again", "done", "exact", "met", "open_", "outermost")

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        # Hash of each finished object by its id; the object is kept, so that no other gets the id.
        self.done: dict[int, tuple[bytes, Any]] = {}
        self.open_: dict[int, int] = {}  # depth of each object around the current one, by id
        self.outermost = 0  # the smallest depth that an object inside the current one points back to
        # Ids of objects that point back to something around them, and so have no hash of their own.
        self.met: set[int] = set()
        self.again = 0  # how often such an object was met again

    @property
    def gave_up(self) -> bool:
        """Whether the whole value has no hash: a part without one does not count, but this ends the walk."""
        return self.again > MAX_ROUNDS

    def node(self, value: Any) -> bytes:
        """Return the hash of a value."""
        kind = type(value)
        scalar = SCALARS.get(kind)
        if scalar is not None:
            return digest(kind.__name__, scalar(value))
        found = self.done.get(id(value))
        if found is not None:
            return found[0]
        if id(value) in self.open_:
            return self._around(value)
        return self._inner(value, kind)

    def _member(self, value: Any) -> bytes:
        """Return the hash of a member of a container."""
        if not self.exact:
            return self.node(value)
        try:
            return self.node(value)
        except Unhashable:
            if self.gave_up:
                raise
            return digest("a", type(value).__qualname__.encode())

    def part(self, path: str, value: Any, how: Callable[[Any], bytes] | None = None) -> bytes:
        """Return the hash of a part; an error says where it is."""
        try:
            return self.node(value) if how is None else how(value)
        except Unhashable as error:
            raise Unhashable(error.reason, path + error.path) from None

    def join(self, kind: str, parts: Iterable[tuple[str, Any]]) -> bytes:
        """Return the hash of parts in their order, each with its path."""
        return digest(f"{kind} of", b"".join([self.part(path, value) for path, value in parts]))

    def sequence(self, kind: str, values: list[Any] | tuple[Any, ...]) -> bytes:
        """Return the hash of values in their order."""
        if _PRINTED.issuperset(map(type, values)):
            try:
                return digest(kind, ascii(list(values)).encode())  # a million numbers at the speed of C
            except ValueError:  # Python refuses to print very large integers
                pass
        parts: list[bytes] = []
        try:
            parts.extend(map(self._member, values))
        except Unhashable as error:
            raise Unhashable(error.reason, f"[{len(parts)}]{error.path}") from None
        return digest(f"{kind} of", b"".join(parts))

    def unordered(self, kind: str, values: Iterable[Any]) -> bytes:
        """Return the hash of values that have no order."""
        return digest(f"{kind} of", b"".join(sorted([self.part("{...}", value, self._member) for value in values])))

    def mapping(self, kind: str, values: Mapping[Any, Any]) -> bytes:
        """Return the hash of pairs that have no order, unless it is to be exact."""
        pairs = []
        for key, value in values.items():
            name = self.part(" (a key)", key)
            try:
                pairs.append(name + self._member(value))
            except Unhashable as error:  # its path is written only now: most values have none to tell
                raise Unhashable(error.reason, f"[{_cut_repr(key)}]{error.path}") from None
        return digest(f"{kind} of", b"".join(pairs if self.exact else sorted(pairs)))

    def attributes(self, kind: str, values: Mapping[str, Any]) -> bytes:
        """Return the hash of attributes by name."""
        pairs = [digest("name", name.encode()) + self.part(f".{name}", value) for name, value in values.items()]
        return digest(f"{kind} of", b"".join(sorted(pairs)))

    def _around(self, value: Any) -> bytes:
        depth = self.open_[id(value)]
        self.outermost = min(self.outermost, depth)
        return digest("around", str(len(self.open_) - depth).encode())

    def _inner(self, value: Any, kind: type) -> bytes:
        depth = len(self.open_)
        self.open_[id(value)] = depth
        around, self.outermost = self.outermost, depth
        try:
            result = hash_of(self, value, kind)
            if self.outermost == depth:
                # What points to objects around it hashes by how far away they are, so it is not the same elsewhere.
                self.done[id(value)] = result, value
            else:
                self._count(value)
            return result
        finally:
            self.outermost = min(self.outermost, around)
            del self.open_[id(value)]

    def _count(self, value: Any) -> None:
        """Raise if a graph of objects has too many cycles."""
        self.again += id(value) in self.met
        self.met.add(id(value))
        if self.gave_up:
            raise Unhashable("its parts point to one another in too many ways")


def _cut_repr(key: Any) -> str:
    text = repr(key) if type(key) in SCALARS else type(key).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
