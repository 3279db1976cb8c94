"""The page of ``flow.run(..., page=True)``: a process of its own beside the one that drives, and ended with it.

The run is not held up: the socket is there at once, and who opens the link while the process still begins waits a
moment. Runs of one process that share a history share a page. Its token is its own: a link that was saved with a
notebook is worth nothing once the process has ended.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from prefectish import config
from prefectish.optional_deps import load
from prefectish.ui.access import default_hosts
from prefectish.ui.sockets import HOST, listen

#: Seconds between two looks whether the process that was begun for is still there.
LOOK = 0.5
#: Address of the page, with fields for its port and for variables of the environment; the setting `page_link`.
LINK, HUB_LINK = f"http://{HOST}:{{port}}/", "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/"
#: What the process of a page does. It imports from where its parent does: never from the folder that it is begun in,
#: as with ``python -m``, which may be another user's, or have files that are called as modules are.
_START = """
import json, sys
facts = json.load(sys.stdin)
sys.path[:] = facts.pop("path")
from prefectish.ui.beside import serve
serve(**facts)
"""
LIBRARIES = ("starlette", "uvicorn", "jinja2", "python_multipart", "pydantic", "sqlalchemy")


class Page(NamedTuple):
    """A page in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def link(self, run_id: str) -> str:
        """Return the link to a run."""
        return f"{address(self.port, os.environ)}?token={self.token}&next={quote(f'runs/{run_id}')}"


_pages: dict[tuple[int, str], Page] = {}
_lock = threading.Lock()


def opener() -> Callable[[str, str], str]:
    """Return what opens the page of a history and returns the link to a run.

    Raises
    ------
    ImportError
        A library is missing.
    BadHost
        The setting `allowed_hosts` contains something that is not a host.
    """
    for library in LIBRARIES:
        load(library, "ui", "page=True")
    default_hosts(os.environ)  # a wrong setting is reported here, not by a process that exits
    return link_of


def link_of(store: str, run_id: str) -> str:
    """Return the link to a run of a history, given by its address; its page is begun if there is none."""
    store = store if "://" in store else os.path.abspath(store)
    key = os.getpid(), store
    with _lock:
        page = _pages.get(key)
        if page is None or page.process.poll() is not None:
            page = _pages[key] = _begin(store)
    return page.link(run_id)


def _begin(store: str) -> Page:
    token = secrets.token_urlsafe(32)
    with listen(HOST, 0) as opened:
        facts = {
            "store": store,
            "token": token,
            "number": opened.fileno(),
            "parent": os.getpid(),
            "path": [folder for folder in sys.path if isinstance(folder, str)],
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[opened.fileno()],
            start_new_session=True,  # Ctrl-C in the terminal ends the run, which is then still to be looked at
        )
        port: int = opened.getsockname()[1]
    assert process.stdin is not None
    process.stdin.write(json.dumps(facts).encode())  # not as an argument, which others could read
    process.stdin.close()
    atexit.register(process.terminate)
    return Page(process, port, token)


def address(port: int, environment: Mapping[str, str]) -> str:
    """Return the address of a page by its port: that of this machine, that of a hub's proxy, or as the setting says.

    Examples
    --------
    >>> address(7411, {})
    'http://127.0.0.1:7411/'
    >>> address(7411, {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"})
    '/user/ada/proxy/7411/'
    """
    default = HUB_LINK if "JUPYTERHUB_SERVICE_PREFIX" in environment else LINK
    template = str(config.setting("page_link") or default)
    try:
        return template.format_map({**environment, "port": port})
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            f"page_link must be an address with {{port}} and variables of the environment in braces, got {template!r}: "
            f"{error!r}"
        ) from None


def serve(store: str, token: str, number: int, parent: int) -> None:
    """Serve a page on the socket with a number, until the process that asked for it has ended."""
    import socket

    from prefectish.ui.serving import server_of

    opened = socket.socket(fileno=number)
    server = server_of(store, token, allowed_hosts=default_hosts(os.environ))

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    server.run(sockets=[opened])
