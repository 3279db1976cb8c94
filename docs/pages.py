"""Parts of pages that are made when the documentation is built: what the newest results of the benchmarks say."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent


def write(app: Sphinx) -> None:
    """Write the parts that pages include, where their content has changed."""
    sys.path.insert(0, str(ROOT))
    from benchmarks import readme, table

    newest = table.newest()
    parts = {"bars.md": readme.bars(newest), "rows.md": readme.rows(newest)}
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
