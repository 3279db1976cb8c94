"""Files for Prefect 1, written as its documentation does, on every executor: nothing in them is changed."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefectish.engine.state import State

OLD = sorted((Path(__file__).parent / "old").glob("*.py"))


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_files_run_as_they_are(run: Callable[..., State], path: Path) -> None:
    names = runpy.run_path(str(path))
    state = run(names["flow"], context=names.get("CONTEXT"))
    assert state.is_successful(), state
    found: dict[str, Any] = {}
    for task, ended in state.result.items():
        if task.name in names["EXPECTED"]:
            found.setdefault(task.name, ended.result)
    assert found == names["EXPECTED"]
