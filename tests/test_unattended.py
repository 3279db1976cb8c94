"""The page "Running unattended", word for word: its file, and its commands with what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "unattended.md").read_text()


def console(text: str) -> list[tuple[str, str]]:
    """Return the commands of a page, each with what it prints."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether a program printed what is shown, where dots stand for anything."""
    wanted, got = (re.sub(r" +(\n)?", lambda m: m[1] or " ", text).strip() for text in (shown, printed))
    return re.fullmatch(".*?".join(map(re.escape, wanted.split("..."))), got, flags=re.DOTALL) is not None


def test_page_does_what_it_says(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```\{code-block\} python\n(from datetime.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "reports.py").write_text(program)
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PREFECTISH_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    environment["PATH"] = f"{scripts}{os.pathsep}{environment['PATH']}"
    commands = console(PAGE)
    assert len(commands) == 7
    for command, shown in commands:
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        assert matches(shown, done.stdout), f"{command}\nshown:\n{shown}\nprinted:\n{done.stdout}"
    scripted = subprocess.run([sys.executable, "reports.py"], cwd=tmp_path, env=environment, check=False)
    assert scripted.returncode == 0
