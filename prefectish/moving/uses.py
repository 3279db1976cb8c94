"""Where a file uses names of Prefect, and what each is here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

import libcst as cst
from libcst.metadata import PositionProvider, QualifiedNameProvider, QualifiedNameSource

from prefectish.compat.names import MODULES
from prefectish.prefect_names import Place, places, way_out

#: Packages of Prefect.
ROOTS = ("prefect", "prefect_dask")


#: Libraries that came with Prefect 1, and do not come with this package.
BROUGHT = frozenset({"croniter", "docker", "marshmallow", "marshmallow_oneofschema", "pendulum", "slugify"})


class Use(NamedTuple):
    """A use of a name of Prefect, as in ``prefect.engine.signals.FAIL``."""

    node: cst.CSTNode
    #: The dotted name in Prefect: that of its place, or as much of it as the file says.
    name: str
    #: Where it is here; None if it is not.
    place: Place | None
    line: int


def of_prefect(name: str) -> bool:
    """Whether a dotted name begins with a package of Prefect."""
    return name.partition(".")[0] in ROOTS


def place_of(name: str) -> Place | None:
    """Return where a dotted name of Prefect is here."""
    module, _, last = name.rpartition(".")
    return places().get(module, {}).get(last)


def home_of(module: str) -> str | None:
    """Return the module that stands for a module of Prefect here: the one that has all its names; None if none does."""
    found = {place.module for place in places().get(module, {}).values()}
    return found.pop() if len(found) == 1 else None


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of Prefect, or a package of them."""
    return any(f"{module}.".startswith(f"{name}.") for module in places())


def reason(name: str) -> str:
    """Return why a name of Prefect is left, and what to do about it."""
    row = way_out(name)
    if row is None and is_module(name):
        return "its names are in several modules here: import them one by one"
    return "prefectish has nothing of this name" if row is None else row.instead


class UseFinder(cst.CSTVisitor):
    """Collects the uses of names that were imported from Prefect."""

    METADATA_DEPENDENCIES = (PositionProvider, QualifiedNameProvider)

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[Use] = []
        #: Modules of which all names were imported.
        self.stars: list[str] = []
        #: Libraries that came with Prefect, with the lines on which they are imported.
        self.brought: list[tuple[int, str]] = []

    def qualified(self, node: cst.CSTNode) -> str | None:
        """Return the dotted name of what a node uses, if it was imported from Prefect, and from nowhere else."""
        names = self.get_metadata(QualifiedNameProvider, node, set())
        if not names and isinstance(node, cst.Name):
            return next((f"{star}.{node.value}" for star in self.stars if node.value in MODULES.get(star, ())), None)
        if len(names) != 1:
            return None
        (found,) = names
        return found.name if found.source is QualifiedNameSource.IMPORT and of_prefect(found.name) else None

    def visit_Import(self, node: cst.Import) -> bool:
        """Leave imports out: they are rewritten by themselves."""
        for alias in node.names:
            self._note_library(node, dotted(alias.name))
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """Leave imports out, too; remember those of all names."""
        if isinstance(node.names, cst.ImportStar) and of_prefect(dotted(node.module)) and not node.relative:
            self.stars.append(dotted(node.module))
        if not node.relative:
            self._note_library(node, dotted(node.module))
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        """Note the longest part that has a place; else the whole."""
        parts = list(_parts(node))
        if not isinstance(parts[-1], cst.Name) or self.qualified(parts[-1]) is None:
            node.value.visit(self)
            return False
        for part in parts:
            name = self.qualified(part)
            if name is not None and (place := place_of(name)) is not None:
                self._note(part, name, place)
                return False
        self._note(node, self.qualified(node) or "", None)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        """Note a name that was imported by itself."""
        if (name := self.qualified(node)) is not None:
            self._note(node, name, place_of(name))

    def visit_Arg(self, node: cst.Arg) -> bool:
        """Look into the value only."""
        node.value.visit(self)
        return False

    def _note_library(self, node: cst.CSTNode, module: str) -> None:
        library = module.partition(".")[0]
        if library in BROUGHT and find_spec(library) is None:
            self.brought.append((self.get_metadata(PositionProvider, node).start.line, library))

    def _note(self, node: cst.CSTNode, name: str, place: Place | None) -> None:
        line = self.get_metadata(PositionProvider, node).start.line
        self.uses.append(Use(node, name, place, line))


def _parts(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """Yield a dotted name and its beginnings, the longest first."""
    while isinstance(node, cst.Attribute):
        yield node
        node = node.value
    yield node


def root_of(node: cst.CSTNode) -> cst.CSTNode:
    """Return where a dotted name begins."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def dotted(node: cst.BaseExpression | None) -> str:
    """Return a dotted name as text, empty for any other expression."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute) and (first := dotted(node.value)):
        return f"{first}.{node.attr.value}"
    return ""


def expression(name: str) -> cst.Name | cst.Attribute:
    """Return a dotted name as an expression."""
    first, *rest = name.split(".")
    made: cst.Name | cst.Attribute = cst.Name(first)
    for part in rest:
        made = cst.Attribute(made, cst.Name(part))
    return made
