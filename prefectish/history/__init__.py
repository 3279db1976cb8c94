"""The history: every run, task, child and attempt, in a database that needs no server.

Examples
--------
>>> from prefectish import history
>>> history.runs(limit=3)  # doctest: +SKIP
[<run 6b02f871-bac3f51a: thumbnails, Success, 2.1 s>]
>>> history.run("6b02f871-bac3f51a").failures()  # doctest: +SKIP
[<12 x ValueError: not an image: load-1[3], load-1[9], ...>]
"""

from __future__ import annotations

from prefectish.optional_deps import load

load("sqlalchemy", "history", "the history of runs")  # first: the modules of this package import it

from prefectish.history.children import ChildRow, FailureGroup  # noqa: E402
from prefectish.history.compare import Comparison, compare, to_dataframe  # noqa: E402
from prefectish.history.lines import LogLine  # noqa: E402
from prefectish.history.queries import RunRow, run, runs  # noqa: E402

__all__ = ["ChildRow", "Comparison", "FailureGroup", "LogLine", "RunRow", "compare", "run", "runs", "to_dataframe"]
