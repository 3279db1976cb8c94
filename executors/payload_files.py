"""Values that are written to a file once instead of sent with every call; each process reads a file once."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

#: Files that a process keeps in memory.
_MAX_OPEN_PAYLOADS = 16


class PayloadFile:
    """A value in a file: pickles as the path, unpickles as the value."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_payload, (self.path,)


_open: OrderedDict[str, Any] = OrderedDict()


def _open_payload(path: str) -> Any:
    """Return the value in a file; a process reads it once."""
    if path not in _open:
        with open(path, "rb") as file:
            _open[path] = pickle.load(file)
        while len(_open) > _MAX_OPEN_PAYLOADS:
            _open.popitem(last=False)
    return _open[path]


class PayloadFiles:
    """The files of a run, in a folder of this user alone: code in these files runs when they are read."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0
        self._lock = threading.Lock()

    def add(self, value: Any) -> PayloadFile:
        """Write a value."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="prefectish-values-"))
            self._count += 1
            path = self._folder / f"{self._count}.pickle"
        with open(path, "wb") as file:
            pickle.dump(value, file, protocol=5)
        return PayloadFile(str(path))

    def close(self) -> None:
        """Delete the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
