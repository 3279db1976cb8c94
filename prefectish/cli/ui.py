"""The subcommand that serves the page."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prefectish.cli.app import History, app
from prefectish.cli.app import _report_errors as report_errors
from prefectish.optional_deps import load


@app.command(epilog="Example: prefectish ui --store postgresql://me@db/runs --port 7411")
def ui(
    store: History = None,
    host: Annotated[str, typer.Option(help="Where to listen; others than this machine reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: 7411, or another one if that is taken; 0: any.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Without buttons: nothing can be asked for.")] = False,
    allowed_host: Annotated[
        list[str], typer.Option("--allowed-host", help="A name by which a proxy reaches the page; several.")
    ] = [],  # noqa: B006  read by typer, never modified
) -> None:
    """Show the runs of a history in a browser, and act on them; Ctrl-C ends it."""
    with report_errors():
        for library in ("starlette", "uvicorn", "jinja2", "python_multipart", "pydantic"):
            load(library, "ui", "prefectish ui")
        from prefectish.ui import serving, sockets

        served = serving.prepare(
            store, sockets.listen(host, port), host=host, read_only=read_only, allowed_hosts=allowed_host
        )
        print(f"prefectish ui: {served.link}", flush=True)
        if served.is_open:
            print("the link and what it shows travel unencrypted: use a proxy with TLS, or ssh -L", file=sys.stderr)
        served.serve()
