"""What the README and the docstrings show, run as it stands there."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [content for label, content in fenced if label == language]


def modules() -> Iterator[str]:
    for folder, package in ((ROOT / "prefectish", "prefectish"), (ROOT / "executors", "prefectish.executors")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")])


def test_readme_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    script = tmp_path / "thumbnails.py"
    script.write_text(blocks("python")[0])
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == blocks("")[0]


@pytest.mark.parametrize("name", sorted(modules()))
def test_docstring_examples_hold(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
