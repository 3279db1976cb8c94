"""What a user gets: a wheel built from the checkout, the same by way of the sdist, and what importing it costs."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Build products and caches: a build beside an old build/ ships modules that are no longer there.
IGNORED = shutil.ignore_patterns(
    "build", "dist", "*.egg-info", ".*cache*", "__pycache__", ".git", ".venv*", ".hypothesis"
)
LATE_MODULES = (
    "asyncio", "cloudpickle", "concurrent.futures", "dask", "difflib", "distributed", "importlib.metadata", "inspect",
    "json", "prefectish.prefect_names", "uuid",
)  # fmt: skip


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Return the output of a command that must succeed; fail with all that it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, hook: str) -> Path:
    """Return what one hook of the build backend makes of `source`, without a network."""
    code = f"from setuptools import build_meta; print('built', build_meta.{hook}('dist'))"
    name = run(sys.executable, "-c", code, cwd=source).rpartition("built ")[2].strip()
    return source / "dist" / name


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout: building leaves files behind."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "prefectish", ignore=IGNORED))


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return build(checkout, "build_wheel")


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    return build(checkout, "build_sdist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    run(*pip, "--target", str(target), str(wheel), cwd=target)
    return target


def run_installed(installed: Path, *arguments: str) -> str:
    """Run this interpreter with the installed copy in front of the checkout's."""
    return run(sys.executable, *arguments, cwd=installed, PYTHONPATH=str(installed))


def shipped_files(root: Path) -> set[str]:
    """Return the files of the packages in a checkout, under their installed names."""
    folders = {root / "prefectish": "prefectish", root / "executors": "prefectish/executors"}
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in folders.items()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path, checkout: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped_files(checkout)
    assert "prefectish/py.typed" in names
    assert "prefectish/examples/broken_files/null_bytes.py.txt" in names


def test_wheel_names_its_licence_and_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        assert any(name.endswith("/LICENSE") for name in archive.namelist())
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "Requires-Dist: distributed" in metadata


def test_sdist_holds_the_tests_and_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert (source / "tests" / "conftest.py").is_file()
    assert (source / ".ci" / "run").is_file()
    again = build(source, "build_wheel")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_installed_copy_is_found_under_its_names(installed: Path) -> None:
    code = "import json, prefectish, prefectish.executors as e; print(json.dumps([prefectish.__file__, e.__file__]))"
    package, executors = json.loads(run_installed(installed, "-c", code))
    assert Path(package) == installed / "prefectish" / "__init__.py"
    assert Path(executors) == installed / "prefectish" / "executors" / "__init__.py"


def test_installed_copy_runs_a_flow(installed: Path) -> None:
    code = (
        "from prefectish import Flow, task\n"
        "double = task(lambda x: 2 * x, name='double')\n"
        "with Flow('f') as flow:\n"
        "    doubled = double.map([1, 2, 3])\n"
        "print(flow.run().result[doubled].result)"
    )
    assert run_installed(installed, "-c", code).splitlines()[-1] == "[2, 4, 6]"


def test_importing_the_package_needs_only_quick_parts_of_the_standard_library(installed: Path) -> None:
    code = f"import sys, prefectish; print(sorted(set({LATE_MODULES!r}) & sys.modules.keys()))"
    # Without site-packages: nothing there is needed, and a .pth file could import what it likes before we do.
    assert run_installed(installed, "-S", "-c", code).strip() == "[]"


def test_oldest_releases_are_the_lower_bounds() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    bounds = dict(line.split(" >= ") for line in setup["options"]["install_requires"].split("\n") if line)
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == bounds


def test_readme_says_what_each_extra_is_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    readme = (ROOT / "README.md").read_text()
    for extra in setup["options.extras_require"]:
        assert f"`[{extra}]`" in readme, f"README.md does not say what the extra {extra} is for"
