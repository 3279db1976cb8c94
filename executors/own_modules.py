"""The user's own modules that bodies reach by name, and whether another process would run the same code of them.

A body is sent by value, and what it imports by name: a worker with an older ``helper.py`` would compute with that, and
no error would tell. So the content of such modules is compared. What counts is what a process *runs*: the module that
it has imported, which may be older than the file. Not compared are installed packages, the standard library,
prefectish, what has no source, and modules that are sent by value.
"""

from __future__ import annotations

import ast
import dis
import importlib
import importlib.machinery
import importlib.util
import os
import pickletools
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from hashlib import blake2b
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import psutil

#: Pickles up to this size, in bytes, are looked through; of larger ones only the code of the function is.
MAX_SCANNED = 1 << 20
#: Opcodes that push text, and those that read it again from the memo.
_TEXT = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_READ = frozenset({"BINGET", "LONG_BINGET", "GET"})
#: Modules of no file of the user's.
_OURS = frozenset({"prefectish", "__main__", "__mp_main__"})
#: Loaders that change nothing of the source; what others load (pytest's rewritten asserts) may differ from it.
_PLAIN = (importlib.machinery.SourceFileLoader, importlib.machinery.SourcelessFileLoader)


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_Step = TypeVar("_Step", bound=_Numbered)


class Content(NamedTuple):
    """What a process runs of a module."""

    file: str  # where it is, for errors
    source: str  # digest of its source, without comments and docstrings
    in_memory: str | None  # digest of what is imported; None if it is not
    is_stale: bool  # what is imported is older than the source
    is_needed: bool = False  # a body cannot be unpickled without it


# ---------------------------------------------------------------------- which modules


def reached(payloads: Iterable[bytes], bodies: Iterable[Any]) -> dict[str, Content]:
    """Return the contents of the user's own modules that pickled tasks reach, by name, as this process has them.

    Parameters
    ----------
    payloads
        The pickled tasks.
    bodies
        Their functions: what these import when they run is reached too.
    """
    needed = {name for payload in payloads if len(payload) <= MAX_SCANNED for name in references(payload)}
    names: dict[str, bool] = {}
    todo = [(name, False) for body in bodies for name in imported_by(body)]
    todo += [(name, True) for name in sorted(needed)]  # taken first: what is needed is not only imported
    while todo:
        name, is_needed = todo.pop()
        if name in names or not is_own(name):
            continue
        names[name] = is_needed
        todo += [(parent, is_needed) for parent in _parents(name)]
        todo += [(other, False) for other in _used_by(sys.modules.get(name))]
    found = {name: content(name) for name in sorted(names)}
    return {name: c._replace(is_needed=names[name]) for name, c in found.items() if c is not None}


class ComparedTasks:
    """The tasks of a run whose modules were compared.

    Each call in a flow function is a step of its own, and calls of one task have the same bytes: what they reach is
    looked for once, as a search of modules costs some milliseconds.
    """

    def __init__(self) -> None:
        self._steps: set[int] = set()
        self._digests: set[bytes] = set()

    def add(self, steps: Iterable[_Step], payloads: Mapping[int, bytes]) -> list[_Step]:
        """Add steps, and return those whose tasks are new.

        Parameters
        ----------
        steps
            Steps of the run.
        payloads
            The pickled tasks, by the numbers of their steps.
        """
        new = []
        for step in steps:
            if step.number in self._steps:
                continue
            self._steps.add(step.number)
            digest = blake2b(payloads[step.number], digest_size=16).digest()
            if digest not in self._digests:
                self._digests.add(digest)
                new.append(step)
        return new


def references(payload: bytes) -> set[str]:
    """Return the names of the modules that a pickle refers to."""
    found: set[str] = set()
    memo: list[str | None] = []
    texts: list[str | None] = [None, None]  # what was pushed last
    for code, argument, _ in pickletools.genops(payload):
        name, value = code.name, cast("Any", argument)
        if name in _TEXT:
            texts = [texts[-1], value]
        elif name in _READ:
            texts = [texts[-1], memo[value] if value < len(memo) else None]
        elif name == "MEMOIZE":
            memo.append(texts[-1])
        elif name == "STACK_GLOBAL":
            if texts[0] is not None:
                found.add(texts[0])
            texts = [None, None]
        elif name == "GLOBAL":
            found.add(value.split(" ")[0])
            texts = [None, None]
        else:
            last = texts[-1]
            if (
                name == "TUPLE1" and last is not None and last in sys.modules
            ):  # cloudpickle imports a module by its name
                found.add(last)
            texts = [texts[-1], None] if name in ("FRAME", "PROTO") else [None, None]
    return found


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _used_by(module: ModuleType | None) -> Iterator[str]:
    """Yield the names of modules that a module has imported, or takes functions, classes and objects from."""
    for value in list(vars(module).values()) if module is not None else ():
        if isinstance(value, ModuleType):
            yield value.__name__
            continue
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:  # type: ignore[union-attr]
            yield from imported_by(value)
        for of in (value, type(value)):
            name = getattr(of, "__module__", None)
            if isinstance(name, str):
                yield name


def imported_by(body: Any) -> set[str]:
    """Return the names of modules that a function imports when it runs, and those it calls that are sent with it."""
    found: set[str] = set()
    todo, seen = [body], set()
    while todo:
        value = todo.pop()
        while not isinstance(value, FunctionType):
            inner = getattr(value, "__func__", None) or getattr(value, "func", None) or getattr(value, "run", None)
            inner = inner or getattr(value, "__wrapped__", None)
            if inner is None or inner is value:
                break
            value = inner
        if not isinstance(value, FunctionType) or value in seen:
            continue
        seen.add(value)
        for code in _codes(value.__code__):
            found.update(_imports(code))
            used = [value.__globals__[n] for n in code.co_names if n in value.__globals__]
            found.update(name for each in used if isinstance(name := _home_of(each), str))
            todo += [each for each in used if callable(each) and getattr(each, "__module__", None) in _OURS]
        todo += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        todo.append(getattr(value, "__wrapped__", None))
    return found


def _home_of(value: Any) -> Any:
    return value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)


def _is_filled(cell: Any) -> bool:
    try:
        return callable(cell.cell_contents)
    except ValueError:
        return False


@cache
def _imports(code: CodeType) -> tuple[str, ...]:
    found: list[str] = []
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            found.append(module := instruction.argval)
        elif instruction.opname == "IMPORT_FROM":  # it may be a module of a package
            found.append(f"{module}.{instruction.argval}")
    return tuple(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def is_own(name: str) -> bool:
    """Whether a module is the user's: not installed, not of Python, not of prefectish, and not sent by value."""
    if not name or name.partition(".")[0] in _OURS or name in sys.builtin_module_names:
        return False
    cloudpickle = sys.modules.get("cloudpickle")
    by_value = () if cloudpickle is None else cloudpickle.list_registry_pickle_by_value()
    if any(name == each or name.startswith(f"{each}.") for each in by_value):
        return False
    file = _file_of(name)
    return file is not None and not any(file.startswith(folder) for folder in _installed())


def _file_of(name: str) -> str | None:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) if module is not None else _spec_of(name)
    return _real_path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


_real_path = lru_cache(maxsize=4096)(os.path.realpath)


def _spec_of(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except Exception:  # importing its package failed, or a finder did
        return None


@cache
def _installed() -> tuple[str, ...]:
    """Return the folders of installed packages, and of Python itself."""
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages", "lib-dynload"))
    folders.update([*site.getsitepackages(), site.getusersitepackages()])
    return tuple(os.path.realpath(folder) + os.sep for folder in folders)


# ---------------------------------------------------------------------- what of them runs here


def content(name: str) -> Content | None:
    """Return what this process runs, or would import, of a module; None if it has no source here."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) if module is not None else _spec_of(name)
    get_source: Callable[[str], str | None] | None = getattr(getattr(spec, "loader", None), "get_source", None)
    if spec is None or not spec.origin or get_source is None:
        return None
    try:
        source = get_source(name)
    except Exception:  # the file is gone, or is not text
        return None
    if source is None:
        return None
    if module is None:
        return Content(spec.origin, _digest_of_source(source), None, False)
    codes = _codes_by_digest(source, spec.origin) if isinstance(spec.loader, _PLAIN) else None
    literals = _literals(source) if codes is not None and _is_newer(spec.origin) else {}
    memory, stale = _memory(module, codes, literals)
    return Content(spec.origin, _digest_of_source(source), memory, stale)


def _is_newer(file: str) -> bool:
    """Whether a file may have changed since this process began."""
    return changed_at(file) > _began(os.getpid()) - 1


@cache
def _began(pid: int) -> float:
    """Return when a process began, in seconds since the epoch."""
    return float(psutil.Process(pid).create_time())


def changed_at(file: str) -> float:
    """Return when a file changed here, in seconds since the epoch; its own time may be that of where it came from."""
    try:
        found = os.stat(file)
    except OSError:  # it is in an archive
        return float("inf")
    return max(found.st_mtime, found.st_ctime)


def _memory(module: ModuleType, codes: frozenset[str] | None, literals: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the digest of what is imported, and whether it is older than the source."""
    own = {_digest_of_code(code) for code in _codes_of_module(module)}
    values = {name: vars(module).get(name) for name in literals}
    changed = any(type(values[n]) is not type(literal) or values[n] != literal for n, literal in literals.items())
    stale = codes is not None and (changed or not own <= codes)
    return _digest(repr((sorted(own), sorted(map(repr, values.items()))))), stale


def _codes_of_module(module: ModuleType) -> Iterator[CodeType]:
    """Yield the code of all functions of a module, of methods too."""
    file = getattr(module, "__file__", None)
    todo = list(vars(module).values())
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, type) and value.__module__ == module.__name__:
            todo += vars(value).values()
        elif isinstance(value, property):
            todo += [value.fget, value.fset, value.fdel]
        elif isinstance(value, staticmethod | classmethod | MethodType | partial):
            todo.append(value.func if isinstance(value, partial) else value.__func__)
        elif isinstance(value, FunctionType):
            if value.__code__.co_filename == file:
                yield value.__code__
            todo.append(value.__dict__.get("__wrapped__"))
        elif isinstance(getattr(value, "__dict__", None), dict) and isinstance(vars(value).get("run"), FunctionType):
            todo.append(vars(value)["run"])  # a task


@lru_cache(maxsize=128)
def _codes_by_digest(source: str, file: str) -> frozenset[str]:
    try:
        whole = compile(source, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return frozenset()  # nothing of it can be what is imported
    return frozenset(map(_digest_of_code, _codes(whole)))


@cache
def _digest_of_code(code: CodeType) -> str:
    """Return a digest of a function's code: not of its place, its comments and docstring."""
    return _digest(repr(_parts_of_code(code)))


def _parts_of_code(code: CodeType) -> tuple[Any, ...]:
    constants = [_parts_of_code(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    return (
        code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount,
        code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags, constants,
    )  # fmt: skip


def _constant(value: Any) -> Any:
    return ("set", sorted(map(repr, value))) if isinstance(value, frozenset) else (type(value).__name__, repr(value))


@cache
def _literals(source: str) -> dict[str, Any]:
    """Return the names of a module that are bound once, to a number or a text that is written there."""
    bound: dict[str, list[Any]] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            bound.setdefault(node.id, []).append(None)
        elif isinstance(node, ast.Global):
            for name in node.names:
                bound.setdefault(name, []).extend([None, None])
    found: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target: Any = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        value = statement.value
        is_literal = isinstance(value, ast.Constant) and isinstance(value.value, int | float | str | bytes)
        if is_literal and isinstance(target, ast.Name) and len(bound[target.id]) == 1:
            found[target.id] = value.value  # type: ignore[union-attr]
    return found


@cache
def _digest_of_source(source: str) -> str:
    """Return a digest of a source without its comments, blank lines and docstrings."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _digest(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                node.body = body[1:]
    return _digest(ast.dump(tree))


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# ---------------------------------------------------------------------- the comparison


def stale_here(wanted: Mapping[str, Content]) -> str | None:
    """Say which module this process runs in an older version than its file has; None if none."""
    for name, here in wanted.items():
        if here.is_stale:
            return (
                f"module {name} has changed since this program imported it, and other processes would run what is in "
                f"{here.file} now; restart the program, or importlib.reload({name})"
            )
    return None


def differences(wanted: Mapping[str, Content], find: Callable[[str], Content | None] = content) -> list[str]:
    """Return what this process would run in another way than the one that asks, in words; runs on a worker."""
    return [text for name, theirs in wanted.items() if (text := _difference(name, theirs, find(name))) is not None]


def missing(name: str) -> str:
    """Say that a module is not there."""
    return f"ModuleNotFoundError: No module named {name!r}"


def _difference(name: str, wanted: Content, here: Content | None) -> str | None:
    if here is None:
        # What only a module of the client's imports may not be needed there.
        return missing(name) if wanted.is_needed else None
    if not wanted.is_stale and not here.is_stale:
        if wanted.source == here.source:
            return None
        return f"module {name} differs: {here.file} there, and {wanted.file} here"
    if wanted.in_memory == here.in_memory:
        return None
    if here.is_stale:
        return f"module {name} was imported there before {here.file} was changed: what runs is the older one"
    return f"module {name} has changed here since this program imported it, and there it is what {here.file} has now"
