"""A PostgreSQL server of the tests' own: in a folder of its own, on a socket of its own, gone with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefectish.history import store


def binaries() -> str | None:
    """Return the folder of the server's programs, None if it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]), reverse=True)
    found = str(versions[0]) if versions else shutil.which("initdb")
    return os.path.dirname(os.path.realpath(found)) if found else None


def owner() -> str | None:
    """Return the user the server runs as, None for this one: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


class Server:
    """A server that can be stopped and started again.

    Attributes
    ----------
    url : of its database, for SQLAlchemy.
    """

    def __init__(self, programs: str, folder: str) -> None:
        self._programs = programs
        self._folder = folder
        self._as: dict[str, Any] = {} if owner() is None else {"user": owner()}
        self.url = f"postgresql+psycopg://tester:s3cret@/postgres?host={folder}"
        password = Path(folder, "password")
        password.write_text("s3cret\n")
        password.chmod(0o644)
        self._call(
            "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=tester",
            f"--pwfile={password}", f"--pgdata={folder}/data",
        )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off -c max_connections=30"
        self._call("pg_ctl", f"--pgdata={self._folder}/data", f"--log={self._folder}/log", "--wait", "--timeout=120",
                   f"--options={options}", "start")  # fmt: skip

    def stop(self) -> None:
        """Stop it at once; open connections break."""
        self._call("pg_ctl", f"--pgdata={self._folder}/data", "--mode=immediate", "--wait", "--timeout=120", "stop")

    def _call(self, program: str, *words: str) -> None:
        with open(os.path.join(self._folder, "calls"), "a") as file:  # the server keeps a pipe open
            done = subprocess.run([os.path.join(self._programs, program), *words], cwd=self._folder, stdout=file,
                                  stderr=file, **self._as)  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {Path(self._folder, 'calls').read_text()[-2000:]}")


@contextmanager
def server(programs: str) -> Iterator[Server]:
    """Run a server for the time of the block."""
    folder = tempfile.mkdtemp(prefix="pg-")  # in a short path: that of a socket has some hundred characters at most
    try:
        if owner() is not None:
            shutil.chown(folder, owner())
        made = Server(programs, folder)
        made.start()
        try:
            yield made
        finally:
            forget_histories(folder)
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_histories(place: str = "") -> None:
    """Close the histories that this process has open, those of one place alone if it is given, as in a new process."""
    for key in [key for key in store._stores if place in key[1]]:
        store._stores.pop(key).engine.dispose()
