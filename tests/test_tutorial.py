"""The tutorial, word for word, in a real kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
CELL = re.compile(r"```\{code-block\} python\n:class: cell\n(.*?)```", re.DOTALL)
PRINTED = re.compile(rf"{CELL.pattern}(?:\n\n```\{{code-block\}} text\n(.*?)```)?", re.DOTALL)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    page = nbformat.v4.new_notebook()
    home = f"import os\nos.environ['PREFECTISH_HOME'] = {str(folder)!r}\nos.chdir({str(folder)!r})"
    page.cells = [nbformat.v4.new_code_cell(text) for text in (home, *CELL.findall(PAGE.read_text()))]
    NotebookClient(page, timeout=120, kernel_name="python3").execute()
    return page.cells[1:]


def shown(cell):
    parts = [out.get("text") or "".join(out.get("data", {}).values()) for out in cell.outputs]
    return "".join(parts)


def test_cells_print_what_the_page_says(executed):
    told = ["".join(out["text"] for out in cell.outputs if out.get("name") == "stdout") for cell in executed]
    assert told == [text for _, text in PRINTED.findall(PAGE.read_text())]
    assert any(told)
    assert [out["text"] for cell in executed for out in cell.outputs if out.get("name") == "stderr"] == []


def test_cells_show_pictures_and_causes(executed):
    assert "<svg" in shown(executed[0])
    run = shown(executed[1])
    assert "1,979 of 2,000 items succeeded, 11 failed" in run
    for words in ("OSError: slow disk", "ValueError: no root of 500", "Cell In["):
        assert words in run
    assert [out for out in executed[1].outputs if out.output_type == "stream"] == []  # no wall of tracebacks


def test_pictures_of_the_page_are_there():
    for name in re.findall(r"pictures/([\w.]+)", PAGE.read_text()):
        assert (PAGE.parent / "pictures" / name).stat().st_size > 1000
