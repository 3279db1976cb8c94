"""The part of the fault suite that ``.ci/run`` runs is there, and is a third of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
MARKED = re.compile(r"mark\.(?:fault|chaos)\b")


def test_listed_tests_are_a_third_of_the_fault_suite():
    """The tests in fault_ci.txt exist, carry the marker of the suite, and make up about a third of it."""
    # Tests are collected by their markers, in files that name one: to import all of them takes five times as long.
    files = [str(path) for path in TESTS.glob("test_*.py") if MARKED.search(path.read_text())]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-m", "fault or chaos"]
    command += ["-p", "no:cacheprovider", *files]
    out = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=250).stdout
    suite = [line.rpartition("/")[2] for line in out.splitlines() if "::test_" in line]
    listed = {line for line in (TESTS / "fault_ci.txt").read_text().splitlines() if not line.startswith("#")}
    chosen = [item for item in suite if item.partition("[")[0] in listed]
    assert {item.partition("[")[0] for item in chosen} == listed, "not in the suite any more"
    assert 0.28 <= len(chosen) / len(suite) <= 0.4
