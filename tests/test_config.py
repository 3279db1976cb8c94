"""The settings of a user, and the executor they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prefectish.config import KNOWN, default_executor, home, settings, whole_number

ROOT = Path(__file__).parent.parent


class Recorder:
    """Stands for an executor."""

    def __init__(self, size: int = 1) -> None:
        self.size = size


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a config.toml; executors named `stand_in.<name>` are classes of this module."""
    import sys
    import types

    module = types.ModuleType("stand_in")
    module.Recorder = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stand_in", module)
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    return (tmp_path / "config.toml").write_text


def test_home_is_hidden_in_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECTISH_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert home() == "/somewhere/.prefectish"


def test_home_of_a_user_without_one_is_no_folder_of_the_name_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECTISH_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert home() == "/.prefectish"


def test_misspelt_setting_is_named(config: Any) -> None:
    config('executr = "stand_in.Recorder"\n')
    with pytest.warns(UserWarning, match=r"there is no setting 'executr'; there are .*executor"):
        assert default_executor() is None


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5"])
def test_number_must_be_one(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PREFECTISH_MAX_RESULT_BYTES", value)
    with pytest.raises(ValueError, match="PREFECTISH_MAX_RESULT_BYTES must be a positive whole number"):
        whole_number("max_result_bytes", 1)


def test_home_comes_from_the_environment(config: Any, tmp_path: Path) -> None:
    assert home() == str(tmp_path)


def test_without_a_file_there_are_no_settings(config: Any) -> None:
    assert settings() == {}
    assert default_executor() is None


def test_file_names_the_executor_and_its_arguments(config: Any) -> None:
    config('executor = "stand_in.Recorder"\n[executor_kwargs]\nsize = 3\n')
    made = default_executor()
    assert isinstance(made, Recorder)
    assert made.size == 3


def test_environment_beats_the_file_and_its_arguments(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config('executor = "elsewhere.Other"\n[executor_kwargs]\nsize = 3\n')
    monkeypatch.setenv("PREFECTISH_EXECUTOR", "stand_in.Recorder")
    assert default_executor().size == 1


def test_arguments_hold_for_the_class_beside_them_wherever_it_is_named(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config('executor = "stand_in.Recorder"\nexecutor_kwargs = {size = 3}\n')
    monkeypatch.setenv("PREFECTISH_EXECUTOR", "stand_in.Recorder")
    assert default_executor().size == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('executor = "stand_in.Missing"', "'stand_in.Missing' cannot be used .AttributeError"),
        ('executor = "no_such_module.X"', "'no_such_module.X' cannot be used .ModuleNotFoundError"),
        ('executor = "Recorder"', "'Recorder' cannot be used .*must be a dotted class name"),
        ("executor = 3", "3 cannot be used .*must be a dotted class name"),
        ('executor = "stand_in.Recorder"\nexecutor_kwargs = {colour = 1}', "TypeError.*the flow runs in this process"),
        ('executor = "stand_in.Recorder"\nexecutor_kwargs = 5', "TypeError"),
    ],
)
def test_executor_that_cannot_be_made_warns_and_leaves_the_run_here(config: Any, text: str, words: str) -> None:
    config(text)
    with pytest.warns(UserWarning, match=words):
        assert default_executor() is None


def test_file_that_cannot_be_read_warns_with_its_path(config: Any, tmp_path: Path) -> None:
    config("executor = ")
    with pytest.warns(UserWarning, match=f"{tmp_path}/config.toml is ignored: "):
        assert settings() == {}


def test_every_setting_that_is_read_is_known() -> None:
    """A name of a setting that stands nowhere else would be refused as misspelt."""
    sources = [path.read_text() for folder in ("prefectish", "executors") for path in (ROOT / folder).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'(?:setting|switch|whole_number)\("(\w+)"', text)}
    assert read <= KNOWN


#: Runs a flow as root, so that all is imported, and again as a user without a home.
NOBODY = """
import os, sys
from prefectish import Flow, config, task

with Flow("nobody") as flow:
    task(lambda: 1, name="one")()
assert flow.run().is_successful()
os.environ.pop("HOME", None)
os.environ.pop("PREFECTISH_HOME", None)
os.setgid(54321)
os.setuid(54321)
assert config.home() == "/.prefectish", config.home()
assert flow.run().is_successful()
"""


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become a user without an entry")
def test_run_of_a_user_without_home_and_entry_leaves_no_folder_and_says_that_it_is_not_recorded() -> None:
    """As in `docker run --user 12345`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        done = subprocess.run([sys.executable, "-c", NOBODY], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert os.listdir(folder) == []
    assert "this run is not recorded: " in done.stderr
