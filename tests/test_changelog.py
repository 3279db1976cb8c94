"""Fragments of the changelog: each has a kind that the changelog knows, and says something."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
FRAGMENTS = ROOT / CONFIG["directory"]


def test_fragments_are_of_a_known_kind_and_not_empty():
    kinds = "|".join(kind["directory"] for kind in CONFIG["type"])
    files = [path for path in FRAGMENTS.iterdir() if path.name not in CONFIG["ignore"]]
    assert [path.name for path in files if not re.fullmatch(rf"\+[a-z0-9-]+\.({kinds})\.md", path.name)] == []
    assert [path.name for path in files if not path.read_text().strip()] == []


def test_changelog_has_the_place_where_a_release_goes():
    assert (ROOT / CONFIG["filename"]).read_text().count(CONFIG["start_string"]) == 1


def test_release_moves_fragments_into_the_changelog(tmp_path):
    pytest.importorskip("towncrier")
    for name in ("pyproject.toml", CONFIG["filename"]):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / FRAGMENTS.name).mkdir()
    (tmp_path / FRAGMENTS.name / "+speed.changed.md").write_text("Maps are faster.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version=9.9", "--date=2030-01-01"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / CONFIG["filename"]).read_text()
    assert "<!-- releases -->\n\n## [9.9] - 2030-01-01\n\n### Changed\n\n- Maps are faster.\n" in text
    assert text.index("## [9.9]") < text.index("## [0.1.0]")
