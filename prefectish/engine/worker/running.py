"""What runs in this process, noted where it can be read when the process has died, however it died.

A file in memory has a slot for each body that runs; it is written before and after each. The kernel keeps it when the
process is killed. A process on the same machine that asks why it died reads which bodies it had begun and not ended.
"""

from __future__ import annotations

import atexit
import mmap
import os
import time
from collections import deque
from contextlib import suppress
from stat import S_ISDIR
from struct import Struct
from threading import Lock
from typing import NamedTuple
from zlib import crc32

#: A slot: whether a body runs, the number of its task's slug, its row and its submission.
_SLOT = Struct("<iIqq")
#: Bodies that a process can note at once.
_MOST_BODIES = 256
#: A file of a process that has gone is removed after so many seconds; until then it may be asked for.
_KEPT = 3600.0
#: The number of a slug that is not known yet: the chain is being opened.
UNKNOWN = 0

_note: mmap.mmap | None = None
_path = ""
#: Where slots begin that no body has; threads take and return them.
_free: deque[int] = deque()
_opening = Lock()


class Body(NamedTuple):
    """A body: the number of its task's slug, its row, and its submission."""

    slug: int
    row: int
    submission: int


def number_of(slug: str) -> int:
    """Return the number that stands for a slug."""
    return crc32(slug.encode()) or 1


def begin(slug: int, index: int, submission: int, slot: int | None = None) -> int | None:
    """Note that a body begins, which may run inside another one; return its slot.

    Parameters
    ----------
    slot
        Its slot, if it was noted before under another slug.
    """
    if _note is None:
        return None
    if slot is None:
        try:
            slot = _free.pop()
        except IndexError:
            _remove(_path)  # the wrong ones would be blamed by a note of some of them
            return None
    _SLOT.pack_into(_note, slot, 1, slug, index, submission)
    return slot


def end(slot: int | None) -> None:
    """Note that the body in a slot has ended."""
    if slot is not None and _note is not None:
        _note[slot] = 0
        _free.append(slot)


def open_note(address: str) -> None:
    """Begin to note what runs in this process, a worker with an address; what cannot be written is not noted."""
    with _opening, suppress(OSError):
        if _note is None:
            os.makedirs(folder(), mode=0o700, exist_ok=True)
            if _is_own(folder()):
                _open(path_of(os.getpid(), address))
                _remove_old(folder())


def _open(path: str) -> None:
    global _note, _path
    size = _MOST_BODIES * _SLOT.size
    with open(path, "w+b") as file:
        file.write(bytes(size))  # on a full disk, noting in a page that has no room there would end the process
        file.flush()
        _free.clear()
        _free.extend(range(0, size, _SLOT.size))
        _note, _path = mmap.mmap(file.fileno(), 0), path
    atexit.register(_remove, path)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_to_parent)


def _leave_to_parent() -> None:
    """Have a process that a body forked note nothing, and leave the note of its parent there when it ends."""
    global _note
    _note = None
    atexit.unregister(_remove)


def _is_own(folder: str) -> bool:
    """Whether no other user can write into a folder: its name can be foreseen."""
    found = os.lstat(folder)
    return S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == os.getuid() and not found.st_mode & 0o022))


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
        if not _is_own(folder()):
            return None
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
    whole = len(note) // _SLOT.size * _SLOT.size  # another version may have written it
    return {Body(*about) for runs, *about in _SLOT.iter_unpack(note[:whole]) if runs}


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)


def _remove_old(folder: str) -> None:
    """Remove the notes of processes that were not asked for after their death."""
    import psutil  # late: few processes are workers

    for entry in os.scandir(folder):
        pid = entry.name.partition("-")[0]
        with suppress(OSError):  # another process may have removed it
            if time.time() - entry.stat().st_mtime > _KEPT and not (pid.isdigit() and psutil.pid_exists(int(pid))):
                _remove(entry.path)
