"""What pyright says of flows as users write them (`tests/typing`), where it is installed; mypy is one of the checks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "tests" / "typing"
NO_CODE = shutil.ignore_patterns("__pycache__")


def pyright(folder: Path, include: Path) -> list[tuple[str, int, str]]:
    """Return what it finds: file, line and rule. The test is skipped where it is not, or could not download itself."""
    command = shutil.which("pyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")
    if command is None or subprocess.run([command, "--version"], capture_output=True, timeout=120).returncode:
        pytest.skip("pyright is not installed here")
    # As it is installed: with executors/ in its place, which an editable install does not show to a type checker.
    package = shutil.copytree(ROOT / "prefectish", folder / "site" / "prefectish", ignore=NO_CODE)
    shutil.copytree(ROOT / "executors", package / "executors", ignore=NO_CODE)
    shutil.copytree(include, folder / "include")
    with open(ROOT / "pyproject.toml", "rb") as file:
        options = tomllib.load(file)["tool"]["pyright"]
    options |= {"include": ["include"], "extraPaths": ["site"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    done = subprocess.run(
        [command, "--project", str(folder), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] >= len(list(include.glob("*.py"))), done.stdout
    return [
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each.get("rule", each["message"]))
        for each in told["generalDiagnostics"]
        if each["severity"] != "information"
    ]


def test_pyright_takes_what_users_write_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    # What must be refused is there with an ignore, and an ignore that nothing needs is told of.
    assert pyright(tmp_path, SAMPLES) == []


def test_pyright_sees_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "flow.py").write_text(
        "from prefectish import task\n\n@task\ndef load(name: str) -> int:\n    return len(name)\n\nload.map([1, 2])\n"
    )
    found = pyright(tmp_path, wrong)
    assert [(file, line) for file, line, _ in found] == [("flow.py", 7)]
