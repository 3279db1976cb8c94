"""The page "Running unattended", word for word: its file, and its commands with what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from consoles import console, matches

PAGE = (Path(__file__).parent.parent / "docs" / "unattended.md").read_text()


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
