"""The deployment of the blog post: built, registered, versioned, run by hand and on its schedule, and an alert."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_example_deploys_runs_and_alerts(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECTISH_HOME": str(tmp_path / "home")}
    call = [sys.executable, "-m", "prefectish.examples.marvin"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("<Deployment: marvin/post standup, version 1, active> next at ")
    assert lines[1:3] == [
        "<Deployment: marvin/post standup, version 1, archived>",
        "<Deployment: marvin/post standup, version 2, active>",
    ]
    assert lines[3] == "by hand: Success. All reference tasks succeeded. (version 1, manual)"
    assert lines[4] == "on schedule: Success. All reference tasks succeeded. (version 2, schedule)"
    assert lines[5] == "that fails: Failed. Some reference tasks failed. (version 2, manual)"
    messages = [line for line in lines if line.startswith("to ")]
    assert messages[0].startswith("to #standup: Ada: wrote")
    assert any(line.startswith("to #engineering: Ada: wrote") for line in messages)
    assert messages[-1] == "to owner: post standup failed: Some reference tasks failed."
