"""The command `prefectish`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; the entry point of the script `prefectish`."""
    try:
        from prefectish.cli import deploying, moving, ui  # noqa: F401  # add their commands
        from prefectish.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "sqlalchemy"):
            raise
        sys.exit(f"prefectish: the command needs {error.name}; pip install 'prefectish[cli]'")
    app()
