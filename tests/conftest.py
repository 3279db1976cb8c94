"""What every test stands on: a home of its own, and bodies that reach other processes.

Fixtures that start a Dask cluster belong here too, one for all modules that need it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cloudpickle
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Time limits on examples measure the machine, and its neighbours.
settings.register_profile("prefectish", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("prefectish")


@pytest.fixture(scope="session", autouse=True)
def prefectish_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Keep the settings and files of whoever runs the tests out of them, and theirs out of the tests'."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECTISH_")]:
            patch.delenv(name)
        patch.setenv("PREFECTISH_HOME", home)
        yield home


def pytest_collection_finish(session: pytest.Session) -> None:
    """Send functions of test modules to workers by value: no worker can import a test module by its name."""
    modules = {item.module for item in session.items if isinstance(item, pytest.Function)}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
