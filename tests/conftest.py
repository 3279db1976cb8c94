"""What every test stands on: a home of its own, and bodies that reach other processes.

Fixtures that start a Dask cluster belong here too, one for all modules that need it.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from distributed import Client
    from spellings import Spelled

    from prefectish import Flow
    from prefectish.engine.jobs.protocol import Executor
    from prefectish.engine.state import State
    from prefectish.executors import DaskExecutor

# Every run of the tests holds its transitions and tables against what they may be; read when prefectish is imported.
VALIDATE = "PREFECTISH_VALIDATE"
os.environ.setdefault(VALIDATE, "1")

# Pytest's importlib mode leaves this folder off the path; strategies.py is imported from it.
sys.path.append(os.path.dirname(__file__))

# Time limits on examples measure the machine, and its neighbours.
settings.register_profile("prefectish", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("prefectish")


@pytest.fixture(scope="session", autouse=True)
def prefectish_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Keep the settings and files of whoever runs the tests out of them, and theirs out of the tests'."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECTISH_") and name != VALIDATE]:
            patch.delenv(name)
        patch.setenv("PREFECTISH_HOME", home)
        # What the default is depends on whether a test before has imported prefectish.testing.
        patch.setenv("PREFECTISH_CHECK_INPUTS", "0")
        yield home


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by marker
def pytest_configure() -> None:
    """Hear Ctrl-C: what a shell runs in the background is deaf to it from its start, and so would be all it starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the third of the fault suite that ``.ci/run`` runs; refuse names that no other process would give."""
    if unstable := [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]{6}", item.nodeid)]:
        raise pytest.UsageError(f"tests must be named alike in all processes, give ids to {unstable}")
    listed = (Path(__file__).parent / "fault_ci.txt").read_text().splitlines()
    for item in items:
        if f"{item.path.name}::{item.name.partition('[')[0]}" in listed:
            item.add_marker("fault_ci")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Send functions of test modules to workers by value: no worker can import a test module by its name."""
    modules = {item.module for item in session.items if isinstance(item, pytest.Function)}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """End a test that hangs, where its module or itself carries a ``time_limit``.

    Its fixtures have as long before it and after it. What reports on it has its time: the alarm that comes again and
    again must not end pytest itself.
    """
    marker = item.get_closest_marker("time_limit")
    if marker is None:
        return (yield)
    import real

    with real.time_limit(*marker.args):
        return (yield)


pytest_runtest_setup = pytest_runtest_teardown = pytest_runtest_call


@pytest.fixture(autouse=True)
def fresh_masking() -> Iterator[None]:
    """Begin without secrets, and forget those of the test, with what masks logs and prints.

    A process that knows a secret runs each body the long way, which is not what the next test is about.
    """
    import logging

    from prefectish.secrets import masking
    from prefectish.secrets.output_masking import MaskingStream

    before, make = (masking._known, masking.pattern), logging.getLogRecordFactory()
    masking._known, masking.pattern = frozenset(), None
    yield
    masking._known, masking.pattern = before
    for name in ("stdout", "stderr"):  # those of before are closed already after an interrupt
        if isinstance(stream := getattr(sys, name), MaskingStream):
            setattr(sys, name, stream._stream)
    logging.setLogRecordFactory(make)


@pytest.fixture(autouse=True)
def closed_histories() -> Iterator[None]:
    """Let go of the files of the histories that a test opened; one that is read again opens them again.

    Each holds three, for as long as the process lasts: a worker of the suite reads hundreds of histories.
    """
    store = sys.modules.get("prefectish.history.store")
    before = set(store._stores) if store else set()
    yield
    if store := sys.modules.get("prefectish.history.store"):
        for key in store._stores.keys() - before:
            store._stores[key].engine.dispose()


# ---------------------------------------------------------------------- executors, for the contract suite

#: Class and arguments of each executor of the contract suite.
EXECUTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "local": ("LocalExecutor", {}),
    "synchronous": ("LocalDaskExecutor", {"scheduler": "synchronous"}),
    "threads": ("LocalDaskExecutor", {"scheduler": "threads", "num_workers": 4}),
    "processes": ("LocalDaskExecutor", {"scheduler": "processes", "num_workers": 2}),
    "dask": ("DaskExecutor", {}),
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    """One executor after the other."""
    name, options = EXECUTORS[request.param]
    if name == "DaskExecutor":
        options = {"client": request.getfixturevalue("dask_client")}
    made: Executor = getattr(importlib.import_module("prefectish.executors"), name)(**options)
    return made


@pytest.fixture
def in_process(executor: Executor, request: pytest.FixtureRequest) -> bool:
    """Whether bodies run in this process, where a test sees what they do."""
    return request.node.callspec.params["executor"] in ("local", "synchronous", "threads")


@pytest.fixture
def run(executor: Executor) -> Callable[..., State]:
    """Run a flow on one executor after the other."""

    def run_flow(flow: Flow, **options: Any) -> State:
        return flow.run(executor=executor, **{"history": False, **options})

    return run_flow


@pytest.fixture(params=["graph", "function"])
def spelled(request: pytest.FixtureRequest, executor: Executor) -> Spelled:
    """Run programs on one executor after the other, as a graph and as a flow function."""
    from spellings import Spelled

    return Spelled(request.param, executor)


@pytest.fixture(params=["graph", "function"])
def spelled_here(request: pytest.FixtureRequest) -> Spelled:
    """Run programs on the executor that they name, as a graph and as a flow function."""
    from spellings import Spelled

    return Spelled(request.param, None)


@pytest.fixture
def no_recalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know of no job that was recalled, or has begun."""
    from prefectish.engine.worker import recall

    monkeypatch.setattr(recall, "recalled", {})
    recall.begun.clear()
    recall.latest.clear()


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Client]:
    """Two worker processes of two threads, shared by all tests that do not harm them."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def dask(dask_client: Client) -> DaskExecutor:
    """An executor on the shared cluster."""
    from prefectish.executors import DaskExecutor

    return DaskExecutor(client=dask_client)
