"""Which files of the package the run of one plain child goes through, and how often a call leads into another file.

`python tests/crossings.py` lists both; tests/test_internals.py holds them against what docs/internals.md can explain.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import prefectish
from prefectish import Flow, task
from prefectish.executors import LocalExecutor

HOME = str(Path(prefectish.__file__).parent)


def calls_between_files(width: int) -> Counter[tuple[str, str]]:
    """Run a map of a plain task in this thread; return the calls from file to file of the package."""
    found: Counter[tuple[str, str]] = Counter()

    def see(frame: FrameType, event: str, arg: Any) -> None:
        called = frame.f_code.co_filename
        if event != "call" or not called.startswith(HOME):
            return
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(HOME):
            caller = caller.f_back
        if caller is not None:
            found[caller.f_code.co_filename[len(HOME) + 1 :], called[len(HOME) + 1 :]] += 1

    with Flow("plain") as flow:
        task(lambda x: x, name="plain").map(list(range(width)))
    sys.setprofile(see)
    try:
        flow.run(executor=LocalExecutor(), history=False, progress=False)
    finally:
        sys.setprofile(None)
    return found


def fewest_calls(width: int) -> Counter[tuple[str, str]]:
    """Return the fewest calls of some runs: turns of the loop end by the clock, so that a slow run has more."""
    runs = [calls_between_files(width) for _ in range(5)]
    return Counter({pair: min(run[pair] for run in runs) for pair in runs[0]})


def main() -> None:
    """Print the files, then the calls into another file that each child adds."""
    calls_between_files(1)  # what happens once in a process is no matter
    few, many = fewest_calls(10), fewest_calls(30)
    added = {pair: round((count - few[pair]) / 20) for pair, count in many.items()}
    for file in sorted({file for pair, count in added.items() if count for file in pair}):
        print(file)
    for (caller, called), count in sorted(added.items()):
        if count and caller != called:
            print(f"{count} {caller} -> {called}")


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECTISH_HOME"] = home
        main()
