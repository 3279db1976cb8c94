"""What runs in this process, noted where it can be read when the process has died, however it died.

A file in memory has a slot for each thread; it is written before and after each body. The kernel keeps it when the
process is killed. Whoever asks on the same machine why it died reads which bodies it had begun and not ended.
"""

from __future__ import annotations

import atexit
import mmap
import os
import time
from contextlib import suppress
from struct import Struct
from threading import get_ident
from typing import NamedTuple
from zlib import crc32

#: A slot: whether a body runs, the number of its task's slug, its row and its submission.
_SLOT = Struct("<iIqq")
#: Threads that a process can note.
_MOST_THREADS = 256
#: A file of a process that has gone is removed after so many seconds; until then somebody may ask for it.
_KEPT = 3600.0
#: The number of a slug that is not known yet: the chain is being opened.
UNKNOWN = 0

_note: mmap.mmap | None = None
_offsets: dict[int, int] = {}


class Body(NamedTuple):
    """A body: the number of its task's slug, its row, and its submission."""

    slug: int
    row: int
    submission: int


def number_of(slug: str) -> int:
    """Return the number that stands for a slug."""
    return crc32(slug.encode()) or 1


def begin(slug: int, index: int, submission: int) -> None:
    """Note that a body begins in this thread."""
    if _note is None:
        return
    offset = _offsets.get(thread := get_ident())
    if offset is None:
        offset = _offsets.setdefault(thread, len(_offsets) * _SLOT.size)
    if offset < _MOST_THREADS * _SLOT.size:
        _SLOT.pack_into(_note, offset, 1, slug, index, submission)


def end() -> None:
    """Note that the body in this thread has ended."""
    if _note is not None and (offset := _offsets.get(get_ident(), len(_note))) < len(_note):
        _note[offset] = 0


def open_note(address: str) -> None:
    """Begin to note what runs in this process, a worker with an address; what cannot be written is not noted."""
    global _note
    if _note is not None:
        return
    with suppress(OSError):
        os.makedirs(folder(), mode=0o700, exist_ok=True)
        _remove_old(folder())
        path = path_of(os.getpid(), address)
        with open(path, "w+b") as file:
            file.truncate(_MOST_THREADS * _SLOT.size)
            _note = mmap.mmap(file.fileno(), 0)
        atexit.register(_remove, path)


def folder() -> str:
    """Return the folder of the notes of this user's processes on this machine."""
    import tempfile  # late, too

    return os.path.join(tempfile.gettempdir(), f"prefectish-running-{getattr(os, 'getuid', int)()}")


def path_of(pid: int, address: str) -> str:
    """Return the path of the note of a process: another machine may have one with the same number."""
    return os.path.join(folder(), f"{pid}-{crc32(address.encode()):08x}")


def read(pid: int, address: str) -> bytes | None:
    """Return the note of a worker that has died, and remove it; None if there is none on this machine."""
    path = path_of(pid, address)
    try:
        with open(path, "rb") as file:
            found = file.read()
    except OSError:
        return None
    _remove(path)
    return found


def bodies_in(note: bytes) -> set[Body]:
    """Return the bodies that a process had begun and not ended.

    Examples
    --------
    >>> bodies_in(_SLOT.pack(1, 7, 17, 0) + _SLOT.pack(0, 7, 18, 0))
    {Body(slug=7, row=17, submission=0)}
    """
    return {Body(*about) for runs, *about in _SLOT.iter_unpack(note) if runs}


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)


def _remove_old(folder: str) -> None:
    """Remove the notes of processes that nobody asked for after their death."""
    import psutil  # late: few processes are workers

    for entry in os.scandir(folder):
        pid = entry.name.partition("-")[0]
        if time.time() - entry.stat().st_mtime > _KEPT and not (pid.isdigit() and psutil.pid_exists(int(pid))):
            _remove(entry.path)
