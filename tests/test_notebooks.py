"""Every notebook runs from a fresh kernel to its last assert, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_a_fresh_kernel(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_ends_on_an_assert_and_has_no_saved_outputs(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "assert" in code[-1].source
    assert [cell.outputs for cell in code] == [[]] * len(code)


def test_there_is_a_notebook_for_each_step_of_the_way() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_flow",
        "02_mapping",
        "03_failures_retries_triggers",
        "04_dask_cluster",
        "05_resume_and_history",
        "06_flow_functions",
    ]
