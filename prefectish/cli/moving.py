"""The subcommand that rewrites files which were written for Prefect."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefectish.cli.app import _exit_with as exit_with
from prefectish.cli.app import app
from prefectish.optional_deps import load
from prefectish.safe_repr import printable

if TYPE_CHECKING:
    from prefectish.moving import Left, Moved


@app.command(epilog="Example: prefectish move flows/*.py --write")
def move(
    files: Annotated[list[Path], typer.Argument(help="Files that were written for Prefect 1, 2 or 3.")],
    write: Annotated[
        bool, typer.Option("--write", help="Change the files; without it, show what would change.")
    ] = False,
) -> None:
    """Rewrite imports and known calls of Prefect; what is left is listed with its line and a reason.

    The code is 0 if nothing is left, 1 if something is, 2 if a file cannot be read.
    """
    try:
        load("libcst", "move", "prefectish move")
    except ImportError as error:
        raise exit_with(error, 2) from None
    found = [(file, *_moved(file)) for file in files]
    for file, before, moved in found:
        if write and moved.source != before:
            _write(file, moved.source)
            print(f"{printable(file)}: rewritten")
        elif not write:
            name = str(file)
            sys.stdout.writelines(unified_diff(before.splitlines(True), moved.source.splitlines(True), name, name))
        _show(file, "deleted", moved.deleted)
        _show(file, "left", moved.left)
    if any(moved.left for _, _, moved in found):
        raise typer.Exit(1)


def _moved(file: Path) -> tuple[str, Moved]:
    from libcst import ParserSyntaxError

    from prefectish.moving import move as move_source

    try:
        with open(file, encoding="utf-8", newline="") as opened:
            before = opened.read()
        return before, move_source(before)
    except ParserSyntaxError as error:
        raise exit_with(f"{file}:{error.raw_line}: not valid Python: {error.message}", 2) from None
    except (OSError, UnicodeDecodeError) as error:
        raise exit_with(f"{file}: {error}", 2) from None


def _write(file: Path, source: str) -> None:
    with open(file, "w", encoding="utf-8", newline="") as opened:
        opened.write(source)


def _show(file: Path, what: str, lines: Iterable[Left]) -> None:
    for line in lines:
        print(printable(f"{file}:{line.line}: {what}: {line.what}: {line.reason}"), file=sys.stderr)
