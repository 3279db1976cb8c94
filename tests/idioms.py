"""Files written as the documentation of Prefect 1 writes them: loaded, run, and looked at by themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle

from prefectish.flow_loading import load_flow, module_of

IDIOMS = sorted(Path(__file__).parent.joinpath("compat", "idioms").glob("*.py"))


def run_idiom(path: Path, text: str, folder: Path, executor: object) -> None:
    """Run a file with this text, under a name that no other one has, as often as it says, and check the states."""
    copy = folder / f"{path.stem}_of_{folder.name}.py"
    copy.write_text(text)
    with forgotten(copy.stem):
        load_flow(f"{copy}:flow")
        module = module_of(f"{copy}:flow")
        cloudpickle.register_pickle_by_value(module)  # as a script is; workers of a test do not see its folder
        options = getattr(module, "OPTIONS", {})
        module.check(module.flow.run(executor=executor, **options))
        if hasattr(module, "check_again"):
            module.check_again(module.flow.run(executor=executor, **options))


@contextmanager
def forgotten(name: str) -> Iterator[None]:
    """Forget a module, and where it was found."""
    path = list(sys.path)
    yield
    if (module := sys.modules.pop(name, None)) is not None:
        cloudpickle.unregister_pickle_by_value(module)
    sys.path[:] = path
