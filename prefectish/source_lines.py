"""Code that travels by value takes its file name and its lines along, so that tracebacks and debuggers show them.

cloudpickle sends functions and classes of a script, a notebook or a registered module as code objects; since 3.1.3 it
replaces their file name by ``<dynamic-code>``. Here they keep it, and each function brings its own lines of source, no
other part of the file: as much text as there is code, 64 KiB in a pickle at most, beyond which only names travel. Where
they are loaded, lines that the file of that name does not hold are put into `linecache`, as IPython and attrs do.
"""

from __future__ import annotations

import builtins
import io
import linecache
import re
import sys
from functools import cache
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Iterator

#: Characters of source in one pickle.
LARGEST_SOURCE = 1 << 16
#: Files whose lines are kept in a process; the oldest give way, since the worker may outlive many notebooks.
MOST_FILES = 1000
#: Lines that came with code, by file.
_placed: dict[str, list[str]] = {}
#: Where `CodeType` takes the file name.
_FILE_NAME = 10


def dumps_by_value(value: Any, lines: bool = True) -> bytes:
    """Pickle a value by cloudpickle, with the file names of its code; send the source along if `lines`.

    What is stored goes without: the lines would tie it to this module.
    """
    file = io.BytesIO()
    pickler_class()(file, lines=lines).dump(value)
    return file.getvalue()


def _travels(module: ModuleType) -> bool:
    """Whether a module is pickled by value, because it or a package around it is registered."""
    import cloudpickle

    registered = cloudpickle.list_registry_pickle_by_value()
    parts = module.__name__.split(".")
    return any(".".join(parts[: n + 1]) in registered for n in range(len(parts)))


def _module_reduced(module: ModuleType) -> tuple[Any, ...]:
    """Return what a module is made from: empty first, since modules that import one another hold themselves."""
    content = {name: value for name, value in vars(module).items() if name != "__builtins__"}
    return _new_module, (module.__name__,), content, None, None, _fill_module


def _new_module(name: str) -> ModuleType:
    return ModuleType(name)


def _fill_module(module: ModuleType, content: dict[str, Any]) -> None:
    vars(module).update(content, __builtins__=builtins.__dict__)


@cache
def pickler_class() -> Any:
    """Return the pickler; cloudpickle is imported by who pickles by value, not with the package."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Gives code objects their file name back, and with it their lines."""

        def __init__(
            self, file: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None, lines: bool = True
        ) -> None:
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self._left = LARGEST_SOURCE if lines else 0
            self._outer: dict[int, str] = {}

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is CodeType:
                return self._code(obj)
            if type(obj) is ModuleType and _travels(obj):
                return _module_reduced(obj)
            return super().reducer_override(obj)

        def _code(self, code: CodeType) -> Any:
            make, arguments = self.dispatch_table[CodeType](code)
            name = self._outer.get(id(code))
            if name is None:
                name = self._file_name(code)
            for inner in _nested(code):  # their lines are among those of the outer function
                self._outer[id(inner)] = name
            return make, (*arguments[:_FILE_NAME], name, *arguments[_FILE_NAME + 1 :])

        def _file_name(self, code: CodeType) -> str:
            text = source_of(code) if self._left > 0 else ""
            if not 0 < len(text) <= self._left:
                return code.co_filename
            self._left -= len(text)
            return _FileName(code.co_filename, code.co_firstlineno, text)

    return Pickler


class _FileName(str):
    """A file name that places lines of the file where it is loaded, and is a plain string from then on."""

    __slots__ = ("first", "text")
    first: int
    text: str

    def __new__(cls, name: str, first: int, text: str) -> _FileName:
        new = super().__new__(cls, name)
        new.first, new.text = first, text
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return place_lines, (str(self), self.first, self.text)


def source_of(code: CodeType) -> str:
    """Return the lines of a function as text, from its first decorator to its last statement; empty if unknown."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return ""
    text = "".join(lines[code.co_firstlineno - 1 : _last_line(code)])
    return text if text.endswith("\n") or not text else text + "\n"


def _last_line(code: CodeType) -> int:
    ends = [end or start or 0 for start, end, _, _ in code.co_positions()]
    return max(*ends, code.co_firstlineno, *map(_last_line, _nested(code)))


def _nested(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if type(constant) is CodeType)


def place_lines(name: str, first: int, text: str) -> str:
    """Let `linecache` show these whole lines of a file, from line `first` on, and return its name.

    Nothing is placed where the file is there and has the same lines, nor where a module was imported from it: lines
    that were placed would stay, also once a notebook has edited the file and reloaded the module.
    """
    linecache.checkcache(name)
    here = linecache.getlines(name)
    lines = io.StringIO(text).readlines()
    where = slice(first - 1, first - 1 + len(lines))
    if here[where] != lines and not (here and name not in _placed and _is_imported(name)):
        # In place, and without a lock, since loading runs in any thread: no step undoes what another thread placed.
        known = _placed.setdefault(name, [])
        known.extend(["\n"] * (where.stop - len(known)))
        known[where] = lines
        linecache.cache[name] = (sum(map(len, known)), None, known, name)  # without a time, checkcache() keeps it
        _forget_oldest()
    return sys.intern(name)


def name_cells(text: str) -> str:
    """Return a traceback with the numbers of cells in place of the files that IPython gives them in this process."""
    shell = sys.modules["IPython"].get_ipython() if "ipykernel" in text and "IPython" in sys.modules else None
    if shell is None:
        return text

    def named(match: re.Match[str]) -> str:
        cell = shell.compile.format_code_name(match[1])  # ("Cell", "In[3]"), None for a file
        return match[0] if cell is None else f'File "{" ".join(cell)}"'

    return re.sub('File "([^"]+)"', named, text)


def _is_imported(name: str) -> bool:
    modules = [module for module in list(sys.modules.values()) if type(module) is ModuleType]
    return any(module.__dict__.get("__file__") == name for module in modules)


def _forget_oldest() -> None:
    while len(_placed) > MOST_FILES:
        name = next(iter(_placed))
        linecache.cache.pop(name, None)
        _placed.pop(name, None)
