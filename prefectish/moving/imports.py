"""What becomes of the imports of a file, and of the names that they brought."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import libcst as cst

from prefectish.moving.uses import ROOTS, Use, dotted, expression, home_of, is_module, of_prefect, place_of, root_of
from prefectish.prefect_names import Place, way_out


class Names:
    """What the names of a file become, by where they are used.

    Parameters
    ----------
    uses
        Uses that stay in the file.
    places
        Other places of some of them.
    taken
        All names of the file, so that none gets a second meaning.
    """

    def __init__(self, uses: Iterable[Use], places: dict[cst.CSTNode, Place], taken: set[str]) -> None:
        self.taken = taken
        self.new: dict[cst.CSTNode, cst.BaseExpression] = {}
        self._needs: defaultdict[str, set[str]] = defaultdict(set)
        #: Names that are imported as before, since something that uses them is left.
        self.kept: set[str] = set()
        self._more: defaultdict[str, set[Place]] = defaultdict(set)
        #: Names that are used after all.
        self.used: set[str] = set()
        found = list(uses)
        self.kept = {dotted_root(use) for use in found if use.place is None}
        for use in found:
            if use.place is not None:
                self._rename(use, use.place, places.get(use.node))

    def local(self, name: str, place: Place) -> str:
        """Return the name under which a file knows something that it imported by itself."""
        return name if place.name != name and place.name in self.taken else place.name

    def _rename(self, use: Use, place: Place, other: Place | None) -> None:
        root = dotted_root(use)
        if other is not None:
            self._more[root].add(other)
            self.new[use.node] = cst.Name(other.name)
            return
        self.used.add(root)
        if isinstance(use.node, cst.Name):
            if use.node.value == use.name.rpartition(".")[2]:
                self.new[use.node] = cst.Name(self.local(use.node.value, place))
            return
        assert isinstance(use.node, cst.Attribute)
        base = use.node.value
        module = use.name.rpartition(".")[0]
        if isinstance(base, cst.Name) and module not in ROOTS and self.is_module_kept(base.value, module):
            self.new[use.node] = use.node.with_changes(attr=cst.Name(place.name))
            return
        self._needs[root].add(place.module)
        self.new[use.node] = expression(f"{place.module}.{place.name}")

    def needs(self, local: str) -> list[str]:
        """Return the modules to import where a name was imported."""
        return sorted(self._needs.get(local, ()))

    def more(self, local: str) -> list[Place]:
        """Return the other names to import where a name was imported."""
        return sorted(self._more.get(local, ()))

    def is_module_kept(self, local: str, module: str) -> bool:
        """Whether a name stands for one module here, as it stood for one of Prefect."""
        return home_of(module) not in (None, "prefectish") and local not in self.kept


def dotted_root(use: Use) -> str:
    """Return the name with which a use begins."""
    return dotted(root_of(use.node))  # type: ignore[arg-type]  # it is an expression


class Imports:
    """Rewrites the import statements of a file."""

    def __init__(self, names: Names) -> None:
        self.names = names
        #: Names that are imported as before, though nothing uses them, so that they are named as left.
        self.unused: list[tuple[cst.CSTNode, str]] = []

    def rewritten(self, statement: cst.Import | cst.ImportFrom) -> list[cst.BaseSmallStatement] | None:
        """Return the statements in the place of one; None if it does not import from Prefect."""
        if isinstance(statement, cst.Import):
            if not any(of_prefect(dotted(alias.name)) for alias in statement.names):
                return None
            return [made for alias in statement.names for made in self._whole(alias)]
        if statement.relative or not of_prefect(dotted(statement.module)):
            return None
        if isinstance(statement.names, cst.ImportStar):
            home = "prefectish" if dotted(statement.module) == "prefect" else home_of(dotted(statement.module))
            if home is None:
                self.unused.append((statement, dotted(statement.module)))
            return [statement if home is None else statement.with_changes(module=expression(home))]
        made = self._parts(dotted(statement.module), statement.names)
        names = [*statement.names]
        if len(made) == 1 and isinstance(made[0], cst.ImportFrom) and _same(made[0].names, names):
            return [statement.with_changes(module=made[0].module)]  # on as many lines as before
        return made

    def _whole(self, alias: cst.ImportAlias) -> list[cst.BaseSmallStatement]:
        """Return what becomes of ``import prefect.engine.signals``."""
        module = dotted(alias.name)
        if not of_prefect(module):
            return [_import(alias)]
        local = _asname(alias) or module.partition(".")[0]
        made: list[cst.BaseSmallStatement] = [_import(alias)] if local in self.names.kept else []
        needs = set(self.names.needs(local))
        home = home_of(module)
        if local == module.partition(".")[0]:
            needs |= set() if (needs or made) and module in ROOTS else {home or "prefectish"}
        elif module not in ROOTS and self.names.is_module_kept(local, module):
            made.append(_import(cst.ImportAlias(expression(str(home)), _as(local))))
        elif not made and not needs:
            needs.add("prefectish")
        return [*made, *(_import(cst.ImportAlias(expression(need))) for need in sorted(needs)), *self._more(local)]

    def _parts(self, module: str, aliases: Iterable[cst.ImportAlias]) -> list[cst.BaseSmallStatement]:
        """Return what becomes of ``from prefect.engine import signals, state``."""
        found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        made: list[cst.BaseSmallStatement] = []
        for alias in aliases:
            name = f"{module}.{dotted(alias.name)}"
            local = _asname(alias) or dotted(alias.name)
            made += [_import(cst.ImportAlias(expression(need))) for need in self.names.needs(local)]
            for place in self.names.more(local):
                found[place.module].append((place.name, place.name))
            place_here = place_of(name)
            if place_here is not None and local not in self.names.kept:
                if local in self.names.used or not self.names.more(local):
                    known = _asname(alias) or self.names.local(local, place_here)
                    found[place_here.module].append((place_here.name, known))
            elif is_module(name) and self.names.is_module_kept(local, name):
                before, _, last = str(home_of(name)).rpartition(".")
                found[before].append((last, local))
            elif local in self.names.kept or not self._is_dropped(name, local, alias):
                found[module].append((dotted(alias.name), local))
        return [*made, *(_from(module, names) for module, names in found.items())]

    def _is_dropped(self, name: str, local: str, alias: cst.ImportAlias) -> bool:
        """Whether nothing uses a name any more, which is then not imported; else it is noted as left."""
        row = way_out(name)
        if self.names.needs(local) or (row is not None and row.deleted):
            return True
        self.unused.append((alias, name))
        return False

    def _more(self, local: str) -> list[cst.BaseSmallStatement]:
        return [_from(place.module, [(place.name, place.name)]) for place in self.names.more(local)]


def _asname(alias: cst.ImportAlias) -> str:
    return "" if alias.asname is None else dotted(alias.asname.name)


def _as(name: str) -> cst.AsName:
    return cst.AsName(cst.Name(name))


def _import(alias: cst.ImportAlias) -> cst.Import:
    return cst.Import([alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)])


def _from(module: str, names: Iterable[tuple[str, str]]) -> cst.ImportFrom:
    aliases = [cst.ImportAlias(cst.Name(name), None if name == local else _as(local)) for name, local in names]
    return cst.ImportFrom(expression(module), aliases)


def _same(made: Any, names: Iterable[cst.ImportAlias]) -> bool:
    return [(dotted(n.name), _asname(n)) for n in made] == [(dotted(n.name), _asname(n)) for n in names]
