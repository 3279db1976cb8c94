"""The rooms of the project and who may import whom, read from the sources without running them."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
MODULE_PATH = re.compile(r"prefectish(\.\w+)+")

# A file imports only from floors above its own line; files that share a line and a folder (or a folder inside it) may
# import one another.
FLOORS = [
    [
        "prefectish.errors",
        "prefectish.callable_pickling",
        "prefectish.exception_classes",
        "prefectish.exception_pickling",
        "prefectish.config",
        "prefectish.deployable",
        "prefectish.optional_deps",
        "prefectish.process_tree",
        "prefectish.prefect_names",
        "prefectish.fingerprint",
        "prefectish.flow_source",
        "prefectish.graphs",
        "prefectish.interrupting",
        "prefectish.kinds",
        "prefectish.members",
        "prefectish.missing_names",
        "prefectish.safe_repr",
        "prefectish.slugs",
        "prefectish.source_lines",
        "prefectish.user_frames",
        "prefectish.engine",
        "prefectish.secrets",
        "prefectish.secrets.decoding",
        "prefectish.secrets.masking",
        "prefectish.secrets.output_masking",
    ],
    ["prefectish.validation", "prefectish.hashing", "prefectish.hashing.*", "prefectish.next_command"],
    [
        "prefectish.engine.capture",
        "prefectish.engine.clock",
        "prefectish.engine.context",
        "prefectish.engine.deferred",
        "prefectish.engine.side_thread",
        "prefectish.engine.state_column",
        "prefectish.engine.task_counts",
        "prefectish.engine.state_names",
        "prefectish.engine.task_states",
    ],
    ["prefectish.engine.state", "prefectish.engine.transitions"],
    ["prefectish.engine.signals"],
    [
        "prefectish.triggers",
        "prefectish.edges",
        "prefectish.secrets.store",
        "prefectish.engine.handlers",
        "prefectish.engine.pause",
    ],
    ["prefectish.results", "prefectish.results.*"],
    ["prefectish.caching", "prefectish.caching.*"],
    ["prefectish.cache_policies", "prefectish.engine.cache_validators"],
    ["prefectish.tasks", "prefectish.tasks.*"],
    ["prefectish.parameters"],
    ["prefectish.control_flow", "prefectish.control_flow.*", "prefectish.flow_version"],
    # The rooms of the engine, by the place where their code runs: what a run computes, what crosses to an executor and
    # back, what runs where the body runs, messages between processes, what runs when, and the loop that drives it.
    ["prefectish.engine.plan", "prefectish.engine.plan.*"],
    ["prefectish.engine.jobs.struct", "prefectish.engine.jobs.log_lines", "prefectish.engine.jobs.preparation"],
    [
        "prefectish.engine.jobs.envelope",
        "prefectish.engine.jobs.failures",
        "prefectish.engine.jobs.references",
        "prefectish.engine.jobs.slots",
    ],
    ["prefectish.secrets.lazy"],
    [
        "prefectish.engine.jobs",
        "prefectish.engine.jobs.bundle",
        "prefectish.engine.jobs.job",
        "prefectish.engine.jobs.protocol",
    ],
    ["prefectish.engine.worker", "prefectish.engine.worker.*"],
    ["prefectish.engine.wire", "prefectish.engine.wire.*"],
    ["prefectish.engine.scheduling", "prefectish.engine.scheduling.*"],
    ["prefectish.engine.driver", "prefectish.engine.driver.*"],
    # Former names of modules, each a line or two, for what was stored or written with them.
    [
        "prefectish.engine.outcome",
        "prefectish.engine.envelope",
        "prefectish.engine.keeping",
        "prefectish.engine.handle",
    ],
    ["prefectish.schedules", "prefectish.schedules.*"],
    ["prefectish.task_graph", "prefectish.flow_graph", "prefectish.visualize"],
    ["prefectish.flows"],
    ["prefectish.functions", "prefectish.functions.*"],
    [
        "prefectish.history",
        "prefectish.history.*",
        "prefectish.testing",
        "prefectish.testing.*",
        "prefectish.utilities",
        "prefectish.utilities.*",
    ],
    ["prefectish.display", "prefectish.display.*"],
    ["prefectish.flow_loading"],
    ["prefectish.environments", "prefectish.environments.*"],
    ["prefectish.registry", "prefectish.registry.*"],
    ["prefectish.ui", "prefectish.ui.*"],
    ["prefectish"],
    ["prefectish.examples", "prefectish.examples.*"],
    ["prefectish.executors", "prefectish.executors.*"],
    ["prefectish.compat", "prefectish.compat.*"],
    ["prefectish.moving", "prefectish.moving.*"],
    ["prefectish.cli", "prefectish.cli.*"],
]


# Modules of a floor above that are imported late and by name, where a user asks for them: the display, the history and
# the executors, whose libraries are extras.
LATE = {
    "prefectish": {"prefectish.executors"},
    "prefectish.config": {"prefectish.executors"},
    "prefectish.deployable": {"prefectish.registry.deploying", "prefectish.registry.detach"},
    "prefectish.engine.driver.handle": {"prefectish.history.outline"},
    "prefectish.history.compare": {"prefectish.display.comparison"},
    "prefectish.engine.driver.progress_view": {"prefectish.display.live"},
    "prefectish.engine.driver.run": {
        "prefectish.display.notebook",
        "prefectish.history",
        "prefectish.history.resume",
        "prefectish.ui.beside",
    },
    "prefectish.engine.scheduling.events": {"prefectish.history.recorder"},
    "prefectish.engine.task_states": {"prefectish.display.report", "prefectish.history.outline"},
    "prefectish.examples.census": {"prefectish.executors"},
    "prefectish.examples.standup": {"prefectish.executors"},
    "prefectish.executors.prefect1_cluster": {"prefectish.compat.configuration"},
    "prefectish.functions.flow_attempts": {"prefectish.executors.LocalDaskExecutor"},
    "prefectish.functions.decorator": {"prefectish.history.outline"},
    "prefectish.functions.nested_runs": {"prefectish.history.nested_runs", "prefectish.history.resume"},
    "prefectish.history.queries": {"prefectish.display.report"},
    "prefectish.safe_repr": {"prefectish.display.reprs"},
    "prefectish.tasks.annotations": {"prefectish.executors.annotations"},
    "prefectish.tasks.flows": {"prefectish.registry.children"},
    "prefectish.tasks.runners": {"prefectish.executors"},
    "prefectish.visualize": {"prefectish.display.graph"},
}
# Classes of a floor above that only annotations name, where no Protocol can stand: what users see of an edge or a call
# has to have its own type, a state reads itself by its base class, and a job names what the worker makes of it.
ANNOTATED = {
    "prefectish.deployable": {"prefectish.environments", "prefectish.registry"},
    "prefectish.flows": {"prefectish.registry"},
    "prefectish.functions.decorator": {"prefectish.registry"},
    "prefectish.edges": {"prefectish.tasks.task"},
    "prefectish.engine.state_column": {"prefectish.engine.state"},
    "prefectish.engine.task_states": {"prefectish.engine.state"},
    "prefectish.engine.jobs.job": {
        "prefectish.engine.worker.cache",
        "prefectish.engine.worker.parts",
        "prefectish.engine.worker.storage",
    },
    "prefectish.tasks.task": {"prefectish.functions.futures"},
    "prefectish.tasks.typed": {"prefectish.functions.futures"},
}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "executors":
        parts.insert(0, "prefectish")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    files = [*ROOT.glob("prefectish/**/*.py"), *ROOT.glob("executors/**/*.py")]
    return {module_name(path): path for path in files}


SOURCES = sources()


def floor_of(module: str) -> int:
    """Return the line that names the module, else the one line with a pattern for it."""
    for number, names in enumerate(FLOORS):
        if module in names:
            return number
    floors = [number for number, names in enumerate(FLOORS) if any(fnmatchcase(module, name) for name in names)]
    assert len(floors) == 1, f"{module} stands on floors {floors}; give it one line of FLOORS"
    return floors[0]


def is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_nodes(node: ast.AST, *, types_too: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield imports anywhere below `node`, in function bodies too: a late import is still an arrow."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
        return
    children = node.orelse if is_type_checking(node) and not types_too else ast.iter_child_nodes(node)
    for child in children:
        yield from import_nodes(child, types_too=types_too)


def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Modules that the statement names; `from package import module` names the module where there is one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"line {node.lineno}: a relative import hides which room it reaches into"
    assert node.module is not None
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in SOURCES else node.module for name in inner]


def imports(module: str, *, types_too: bool = False) -> set[str]:
    tree = ast.parse(SOURCES[module].read_text())
    return {target for node in import_nodes(tree, types_too=types_too) for target in targets(node)}


def late_imports(source: str) -> set[str]:
    """Modules of ours that a file names in texts, if it imports any module by its name."""
    if "import_module" not in source:
        return set()
    nodes = ast.walk(ast.parse(source))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if MODULE_PATH.fullmatch(text) and existing(text) != "prefectish"}


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def existing(name: str) -> str:
    """Return the module in which a dotted name is found."""
    while name not in SOURCES:
        name = name.rpartition(".")[0]
    return name


def folder_of(module: str) -> str:
    return module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]


@pytest.mark.parametrize("module", SOURCES)
def test_module_imports_only_from_lower_floors(module: str) -> None:
    own = floor_of(module)
    neighbours = folder_of(module)
    for target in sorted(t for t in imports(module) if inside(t, "prefectish") and t != module):
        assert target in SOURCES, f"{module} imports {target}, which is not there"
        is_neighbour = floor_of(target) == own and (inside(target, neighbours) or inside(module, folder_of(target)))
        assert floor_of(target) < own or is_neighbour, f"{module} imports {target}"


def is_above(target: str, module: str) -> bool:
    own, neighbours = floor_of(module), folder_of(module)
    if floor_of(target) == own:
        return not (inside(target, neighbours) or inside(module, folder_of(target)))
    return floor_of(target) > own


@pytest.mark.parametrize("module", SOURCES)
def test_module_names_only_lower_floors_in_annotations(module: str) -> None:
    targets = imports(module, types_too=True) & SOURCES.keys() - {module}
    above = {target for target in targets if is_above(target, module)}
    assert above == ANNOTATED.get(module, set())


@pytest.mark.parametrize("module", SOURCES)
def test_module_imports_late_only_what_is_listed(module: str) -> None:
    above = {name for name in late_imports(SOURCES[module].read_text()) if is_above(existing(name), module)}
    assert above == LATE.get(module, set())


def test_imports_make_no_cycle() -> None:
    graph = {module: imports(module) & SOURCES.keys() - {module} for module in SOURCES}
    assert set(TopologicalSorter(graph).static_order()) == set(SOURCES)


@pytest.mark.parametrize("module", [name for name in SOURCES if not inside(name, "prefectish.executors")])
def test_package_never_imports_dask(module: str) -> None:
    forbidden = ("dask", "distributed", "executors", "prefectish.executors")
    found = [t for t in imports(module, types_too=True) for package in forbidden if inside(t, package)]
    assert found == []


#: The one file that may touch private names of Dask and distributed.
DASK_API = "prefectish.executors.dask_api"
#: Private names of the standard library that are used, for which there is no public one.
PRIVATE_ELSEWHERE = {"_resource_tracker", "_pid", "_stop", "_exit", "_make", "_asdict", "_replace"}


def private_imports(tree: ast.AST) -> list[str]:
    """Names below a private module of Dask or distributed, or private themselves, that are imported."""
    nodes = import_nodes(tree, types_too=True)
    named = [f"{n.module}.{a.name}" if isinstance(n, ast.ImportFrom) else a.name for n in nodes for a in n.names]
    return [n for n in named if n.startswith(("dask.", "distributed.")) and any(p[0] == "_" for p in n.split("."))]


def private_attributes(tree: ast.AST) -> set[str]:
    """Names with an underscore that are read or written on anything but ``self`` and ``cls``."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {
        node.attr
        for node in nodes
        if node.attr[0] == "_"
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def own_private_names() -> set[str]:
    """Names with an underscore that executors define, or the records and states that they read."""
    rooms = ("prefectish.executors", "prefectish.engine.jobs", "prefectish.engine.state")
    found: set[str] = set()
    for module in (name for name in SOURCES if any(inside(name, room) for room in rooms)):
        for node in ast.walk(ast.parse(SOURCES[module].read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[:1] == "_":
                found.add(node.value)  # slots
    return found


OWN_PRIVATE_NAMES = own_private_names()


@pytest.mark.parametrize(
    "module", [name for name in SOURCES if inside(name, "prefectish.executors") and name != DASK_API]
)
def test_private_names_of_dask_stand_in_one_file(module: str) -> None:
    tree = ast.parse(SOURCES[module].read_text())
    assert private_imports(tree) == []
    assert private_attributes(tree) - OWN_PRIVATE_NAMES - PRIVATE_ELSEWHERE == set()


def test_private_names_of_dask_are_seen() -> None:
    tree = ast.parse("from dask._expr import LLGExpr\nfrom distributed.client import _get\nself._own\nfuture._state")
    assert private_imports(tree) == ["dask._expr.LLGExpr", "distributed.client._get"]
    assert private_attributes(tree) == {"_state"}
    used = private_attributes(ast.parse(SOURCES[DASK_API].read_text())) - OWN_PRIVATE_NAMES
    assert {"_cleared", "_generation", "_graph_to_futures", "_refcount_lock", "_run_on_scheduler"} <= used
    assert {"_asynchronous", "_correct_state", "_scatter", "_send_to_scheduler", "_state"} <= used


def test_executors_folder_is_imported_under_its_installed_name_only() -> None:
    import prefectish.executors  # noqa: F401

    assert "executors" not in sys.modules


def test_setup_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    assert sorted(listed) == sorted(name for name, path in SOURCES.items() if path.name == "__init__.py")


def test_floors_sees_a_forbidden_import() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    import dask.typing\nelse:\n    import a\ndef f():\n    from dask import b")
    assert [t for node in import_nodes(tree, types_too=False) for t in targets(node)] == ["a", "dask"]
    assert [t for node in import_nodes(tree, types_too=True) for t in targets(node)] == ["dask.typing", "a", "dask"]


def test_floors_sees_a_module_that_a_text_names() -> None:
    source = "import_module('prefectish.history.resume')\nNAME = 'prefectish.executors.X'\nlog('prefectish.run')"
    assert late_imports(source) == {"prefectish.history.resume", "prefectish.executors.X"}
    assert late_imports("WHERE = 'prefectish.history.resume'") == set()


def test_package_shows_public_names_only() -> None:
    import prefectish
    import prefectish.executors

    assert dir(prefectish) == sorted(prefectish.__all__)
    assert dir(prefectish.executors) == sorted(prefectish.executors.__all__)
    assert all(getattr(prefectish, name) is not None for name in prefectish.__all__)


PAGE = ROOT / "docs" / "internals.md"
BLOCK = re.compile(r"(?<=<!-- floors -->\n).*(?=<!-- /floors -->)", re.DOTALL)


def table() -> str:
    """Return the floors as a table for docs/internals.md, the lowest first."""
    rows = [", ".join(f"`{name.removeprefix('prefectish.')}`" for name in names) for names in FLOORS]
    return (
        "\n| floor | modules |\n| --- | --- |\n" + "".join(f"| {n} | {row} |\n" for n, row in enumerate(rows, 1)) + "\n"
    )


def test_page_on_internals_has_the_floors() -> None:
    found = BLOCK.search(PAGE.read_text())
    assert found is not None
    assert found.group() == table(), "run `python tests/test_floors.py`"


if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda _: table(), PAGE.read_text()))
