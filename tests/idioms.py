"""Files written as the documentation of Prefect 1 writes them: loaded, run, and looked at by themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle

from prefectish.flow_loading import load_flow, module_of

IDIOMS = sorted(Path(__file__).parent.joinpath("compat", "idioms").glob("*.py"))
PROGRAMS = sorted(Path(__file__).parent.joinpath("compat", "programs").glob("*.py"))


def run_idiom(path: Path, text: str, folder: Path, executor: Any) -> None:
    """Run a file with this text, under a name that no other one has, as often as it says, and check the states."""
    copy = folder / f"{path.stem}_of_{folder.name}.py"
    copy.write_text(text)
    with forgotten(copy.stem):
        before = dict(os.environ)
        load_flow(f"{copy}:flow")
        own = {name: value for name, value in os.environ.items() if before.get(name) != value}
        if own and getattr(executor, "client", None) is not None:  # workers that began before the file was read
            executor.client.run(exec, f"import os; os.environ.update({own!r})")
        module = module_of(f"{copy}:flow")
        cloudpickle.register_pickle_by_value(module)  # as a script is; workers of a test do not see its folder
        options = getattr(module, "OPTIONS", {})
        module.check(module.flow.run(executor=executor, **options))
        if hasattr(module, "check_again"):
            module.check_again(module.flow.run(executor=executor, **options))


@contextmanager
def forgotten(name: str) -> Iterator[None]:
    """Forget a module, where it was found, and what it put into the environment."""
    path, environment = list(sys.path), dict(os.environ)
    yield
    for variable in os.environ.keys() - environment.keys():
        del os.environ[variable]
    if (module := sys.modules.pop(name, None)) is not None:
        cloudpickle.unregister_pickle_by_value(module)
    sys.path[:] = path
