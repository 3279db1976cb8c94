"""Keys of cached results: the digests of the code and of each argument, and the key computed from them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prefectish.engine.context import get_logger
from prefectish.errors import Unhashable
from prefectish.fingerprint import fingerprint, is_own_module

#: The name of the code among the parts of a key; not a valid name of an argument.
CODE_PART = "its code"
_codes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_loose_codes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_warned: set[tuple[str | None, str, str]] = set()


class KeyInputs(dict[str, Any]):
    """The inputs of a task function, hashed at most once."""

    __slots__ = ("_digests",)

    _digests: dict[str, str | None]

    @property
    def digests(self) -> dict[str, str | None]:
        """The hash of each input by name; None for an input that cannot be hashed."""
        try:
            return self._digests
        except AttributeError:
            self._digests = {name: _digest(name, value) for name, value in self.items()}
            return self._digests


def digests_of(inputs: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the hash of each input by name; None for an input that cannot be hashed."""
    return (inputs if isinstance(inputs, KeyInputs) else KeyInputs(inputs)).digests


def _digest(name: str, value: Any) -> str | None:
    try:
        return argument_digest(name, value)
    except Unhashable:
        return None


def argument_digest(name: str, value: Any) -> str:
    """Return the hash of an argument; an Unhashable names the part: ``rows[3].client``."""
    from prefectish.hashing.encoder import named_hash

    return named_hash(name, value)


def code_digest(task: Any) -> str:
    """Return a hash of the code of a task: its function, or its class and its attributes other than options."""
    found = _codes.get(task)
    if found is None:
        found = _codes[task] = _code_digest(task)
    return found


def loose_code_digest(task: Any) -> str:
    """Return a hash of the code of a task, ignoring mutable values in the closure of its function."""
    body = vars(task).get("run")
    if getattr(body, "__closure__", None) is None:
        return code_digest(task)
    found = _loose_codes.get(task)
    if found is None:
        found = _loose_codes[task] = fingerprint(body, loose=True)
    return found


def _code_digest(task: Any) -> str:
    body = vars(task).get("run")
    if body is not None:
        return fingerprint(body)
    base = next(cls for cls in type(task).__mro__ if is_own_module(cls.__module__))
    options = {name for cls in base.__mro__ for name in (*vars(cls), *vars(cls).get("__annotations__", ()))}
    own = {name: value for name, value in vars(task).items() if name not in options}
    return fingerprint((type(task), own), lambda cls: not is_own_module(cls.__module__) and issubclass(cls, base))


class Parts(dict[str, str]):
    """The digests from which a key is computed: by name of the argument, and :data:`CODE_PART`."""

    __slots__ = ()


def parts_of(task: Any, inputs: Mapping[str, Any]) -> Parts:
    """Return the parts of a task's key; an Unhashable names the part of the first input that cannot be hashed."""
    parts = Parts({CODE_PART: code_digest(task)} if task is not None else {})
    for name, value in inputs.items():
        found = inputs.digests[name] if isinstance(inputs, KeyInputs) else None
        parts[name] = argument_digest(name, value) if found is None else found
    return parts


class InputHash:
    """A key of the task's code and its arguments: for ``cache_key_fn=``. Its instance is :data:`task_input_hash`.

    Parameters
    ----------
    left_out
        Names of arguments that do not matter.
    """

    __slots__ = ("left_out",)

    def __init__(self, left_out: Iterable[str] = ()) -> None:
        self.left_out = frozenset(left_out)

    def __call__(self, context: Any, arguments: Mapping[str, Any]) -> str | None:
        """Return the key: 32 hexadecimal digits.

        It is None, with one warning in the log that names the part, if one of the arguments, by name, has no stable
        hash. The context is that of the run, with the `task`.

        Examples
        --------
        >>> task_input_hash({}, {"x": 1}) == task_input_hash({}, {"x": 1})
        True
        """
        try:
            return key_of_parts(parts_of(context.get("task"), self.read(arguments)))
        except Unhashable as error:
            _warn(context, _called(context, "a task"), error)
            return None

    def without(self, *names: str) -> InputHash:
        """Return a key function that leaves arguments out, such as a connection, which has no hash.

        Raises
        ------
        TypeError
            A name is not a string, or there is none.

        Examples
        --------
        >>> key = task_input_hash.without("client")
        >>> key({}, {"x": 1, "client": object()}) == key({}, {"x": 1, "client": object()})
        True
        """
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"without() must be given names of arguments, got {name!r}")
        if not names:
            raise TypeError("without() must be given the names of the arguments to leave out, got none")
        return InputHash(self.left_out.union(names))

    def read(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that the key is made of."""
        if not self.left_out:
            return arguments
        return KeyInputs((name, value) for name, value in arguments.items() if name not in self.left_out)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InputHash) and self.left_out == other.left_out

    def __hash__(self) -> int:
        return hash(self.left_out)

    def __repr__(self) -> str:
        names = ", ".join(map(repr, sorted(self.left_out)))
        return f"task_input_hash.without({names})" if names else "task_input_hash"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (InputHash, (sorted(self.left_out),)) if self.left_out else "task_input_hash"


#: The key of the task's code and all of its arguments: for ``cache_key_fn=``.
task_input_hash = InputHash()


def key_of_parts(parts: Mapping[str, str]) -> str:
    """Return the key computed from parts, independent of their order."""
    from prefectish.hashing import stable_hash

    return stable_hash(dict(parts))


def _called(facts: Any, otherwise: str) -> str:
    """Return the label of a task from the context of its run; without one its slug or name, if they are there."""
    known = (facts.get(name) for name in ("task_label", "task_slug", "task_name"))
    return str(next(filter(None, known), otherwise))


def _warn(facts: Any, task: str, error: Unhashable) -> None:
    """Warn once per run about a part of the inputs of a task."""
    warning = facts.get("flow_run_id"), task, error.path
    if warning not in _warned:
        _warned.add(warning)
        get_logger().warning("%s is not cached: %s", task, error)


class KeyContext(Mapping[str, Any]):
    """The context passed to a `cache_key_fn`: run facts, also as attributes, and the task."""

    __slots__ = ("_facts", "_task")

    def __init__(self, task: Any, facts: Mapping[str, Any]) -> None:
        self._task = task
        self._facts = facts

    def __getitem__(self, name: str) -> Any:
        return self._task if name == "task" else self._facts[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the context of a cache key has no {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        yield "task"
        yield from (name for name in self._facts if name != "task")

    def __len__(self) -> int:
        return sum(1 for _ in self)


def cache_key(task: Any, facts: Mapping[str, Any], inputs: KeyInputs) -> tuple[str | None, Parts]:
    """Return the key from the task's `cache_key_fn` (None: no caching) and the parts that explain it.

    Raises
    ------
    TypeError
        If the function returns neither a string nor None; and whatever it raises.
    Unhashable
        With `task_input_hash`, after one warning in the log.
    """
    make: Callable[..., Any] = task.cache_key_fn
    context = KeyContext(task, facts)
    if isinstance(make, InputHash):
        try:
            parts = parts_of(task, make.read(inputs))
        except Unhashable as error:
            _warn(facts, _called(facts, task.name), error)
            raise
        return key_of_parts(parts), parts
    key = make(context, dict(inputs))
    if key is not None and not isinstance(key, str):
        raise TypeError(f"cache_key_fn of {task.name} must return a string, or None for no caching, got {key!r}")
    known = {name: digest for name, digest in inputs.digests.items() if digest is not None}
    return key, Parts({CODE_PART: code_digest(task), **known})
