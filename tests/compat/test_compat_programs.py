"""Programs such as the tutorials of Prefect 1 have run as they are; `tests/test_moving.py` runs them after the move."""

from __future__ import annotations

import pytest
from idioms import PROGRAMS, run_idiom

from prefectish.executors import LocalDaskExecutor, LocalExecutor


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", [LocalExecutor, LocalDaskExecutor])
def test_program_runs_as_it_is(path, kind, tmp_path):
    run_idiom(path, path.read_text(), tmp_path, kind())


def test_there_are_programs():
    assert len(PROGRAMS) >= 20
