"""The benchmarks run and print a table; how quick anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def benchmark(*arguments: str) -> str:
    # Run from the checkout, as its README says: benchmarks/ is in no wheel.
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_rows_stand_in_the_table_and_in_the_files(tmp_path: Path) -> None:
    printed = benchmark("imports", "local", "--quick", "--results", str(tmp_path))
    (data,) = tmp_path.glob("*.json")
    (page,) = tmp_path.glob("*.md")
    content = json.loads(data.read_text())
    assert [row["question"] for row in content["rows"]] == ["imports"] * 3 + ["local"] * 4
    assert {row["verdict"] for row in content["rows"]} <= {"pass", "miss"}
    assert content["machine"]["python"]
    for row in content["rows"]:
        assert row["what"] in printed
        assert row["what"] in page.read_text()


def test_rows_of_the_same_day_are_replaced_by_question(tmp_path: Path) -> None:
    for _ in range(2):
        benchmark("imports", "--quick", "--results", str(tmp_path))
    (data,) = tmp_path.glob("*.json")
    assert [row["what"] for row in json.loads(data.read_text())["rows"]].count("import prefectish, wall") == 1


def test_question_that_does_not_exist_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such question: speed" in done.stderr


@pytest.mark.parametrize(
    ("width", "seconds", "every", "delay", "threads", "ideal"),
    [
        pytest.param(4, 1.0, 4, 10.0, 1, 12.0, id="idle until the retry is due"),
        pytest.param(4, 1.0, 4, 2.0, 1, 5.0, id="retry fills the schedule"),
        pytest.param(4, 1.0, 1, 1.0, 4, 3.0, id="all come back"),
    ],
)
def test_ideal_schedule_of_retries(
    width: int, seconds: float, every: int, delay: float, threads: int, ideal: float
) -> None:
    call = f"ideal_seconds({width}, {seconds}, {every}, {delay}, {threads})"
    code = f"from benchmarks.retries import ideal_seconds; print({call})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) == ideal
