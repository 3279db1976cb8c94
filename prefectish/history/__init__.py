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

from prefectish.history.children import ChildRow, FailureGroup
from prefectish.history.compare import Comparison, compare, to_dataframe
from prefectish.history.lines import LogLine
from prefectish.history.queries import RunRow, run, runs

__all__ = ["ChildRow", "Comparison", "FailureGroup", "LogLine", "RunRow", "compare", "run", "runs", "to_dataframe"]
