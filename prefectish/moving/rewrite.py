"""Rewrite the text of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor
from libcst.metadata import MetadataWrapper, PositionProvider

from prefectish.moving.calls import CallFinder, Change, names_in
from prefectish.moving.imports import Imports, Names
from prefectish.moving.uses import UseFinder, dotted, reason

#: What is said of a library that came with Prefect.
NOT_INSTALLED = "it came with Prefect and is not installed: install it, or do without it"


class Left(NamedTuple):
    """What a file says at a line, and why it was left, or taken away."""

    line: int
    what: str
    reason: str


class Moved(NamedTuple):
    """A file as it is after the move."""

    source: str
    #: What must still be changed by hand.
    left: list[Left]
    #: What was taken away.
    deleted: list[Left]


def move(source: str) -> Moved:
    """Rewrite the source of a file that was written for Prefect.

    Examples
    --------
    >>> print(move("from prefect.utilities.edges import unmapped").source)
    from prefectish import unmapped

    Raises
    ------
    libcst.ParserSyntaxError
        It is not valid Python.
    """
    wrapper = MetadataWrapper(cst.parse_module(source))
    found = UseFinder()
    wrapper.visit(found)
    calls = CallFinder(found.uses)
    wrapper.visit(calls)
    change = calls.change
    gone = {id(name) for node in change.deleted for name in names_in(node)}
    uses = [use for use in found.uses if not any(id(name) in gone for name in names_in(use.node))]
    names = Names(uses, change.places, {name.value for name in names_in(wrapper.module)})
    rewriter = _Rewriter(change, Imports(names))
    text = _with_utc(wrapper.visit(rewriter), change.needs_utc).code
    lines = wrapper.resolve(PositionProvider)
    left = {*_left(uses, change, rewriter, lines), *(Left(*each, NOT_INSTALLED) for each in found.brought)}
    return Moved(text, sorted(left), sorted(set(_deleted(change, lines))))


def _with_utc(module: cst.Module, needs_utc: bool) -> cst.Module:
    if not needs_utc:
        return module
    context = CodemodContext()
    AddImportsVisitor.add_needed_import(context, "datetime", "UTC")
    return AddImportsVisitor(context).transform_module(module)


def _left(uses: Iterable[Any], change: Change, rewriter: _Rewriter, lines: Any) -> Iterable[Left]:
    for use in uses:
        if use.place is None:
            yield Left(use.line, use.name, reason(use.name))
    gone = {id(name) for node in change.deleted for name in names_in(node)}
    for node, why in change.left.items():
        if any(id(name) in gone for name in names_in(node)):
            continue
        yield Left(lines[node].start.line, cst.Module([]).code_for_node(node).splitlines()[0], why)
    for node, name in rewriter.imports.unused:
        yield Left(lines[node].start.line, name, reason(name))
    for node, text in rewriter.texts.items():
        yield Left(
            lines[node].start.line, text, "settings are PREFECTISH_... variables, or in ~/.prefectish/config.toml"
        )


def _deleted(change: Change, lines: Any) -> Iterable[Left]:
    for node, why in change.deleted.items():
        if why:
            code = cst.Module([]).code_for_node(node).strip().strip(",")
            yield Left(lines[node].start.line, code.splitlines()[0], why)


class _Rewriter(cst.CSTTransformer):
    """Makes the changes that were found."""

    def __init__(self, change: Change, imports: Imports) -> None:
        super().__init__()
        self.change = change
        self.imports = imports
        self.texts: dict[cst.CSTNode, str] = {}
        #: Lines with one import each.
        self.made: set[cst.CSTNode] = set()

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        """Delete or replace a node, or rewrite it as an import."""
        if original_node in self.change.deleted:
            return cst.RemoveFromParent()
        if (name := self.imports.names.new.get(original_node)) is not None:
            updated_node = _as_before(updated_node, name)
        elif (node := self.change.replaced.get(original_node)) is not None:
            updated_node = self._replaced(original_node, updated_node, node)
        return super().on_leave(original_node, updated_node)

    def _replaced(self, original: cst.CSTNode, updated: Any, node: Any) -> Any:
        """Return a replacement with what has changed inside of it: of a call, its function."""
        if isinstance(original, cst.Call) and isinstance(node, cst.Call) and node.func is original.func:
            return node.with_changes(func=updated.func)
        if isinstance(original, cst.Arg) and isinstance(node, cst.Arg) and node.value is original.value:
            return node.with_changes(value=updated.value, comma=updated.comma)
        return node

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        """Note variables of the environment that mean nothing here."""
        if node.raw_value.startswith("PREFECT__"):
            self.texts[node] = node.raw_value

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """Leave no comma after the last argument of a line whose others are gone."""
        gone = [arg for arg in original_node.args if arg in self.change.deleted]
        if gone and updated_node.args and gone[-1] is original_node.args[-1]:
            last = updated_node.args[-1].with_changes(comma=original_node.args[-1].comma)
            return updated_node.with_changes(args=[*updated_node.args[:-1], last])
        return updated_node

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        """Write each new import on a line of its own."""
        made: list[cst.BaseSmallStatement] = []
        changed = False
        for before, statement in zip(original_node.body, updated_node.body, strict=True):
            new = self.imports.rewritten(before) if isinstance(before, cst.Import | cst.ImportFrom) else None
            changed = changed or new is not None
            made += [statement] if new is None else new
        if not changed:
            return updated_node
        if not made:
            return cst.RemoveFromParent()
        first, *rest = (statement.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for statement in made)
        lines = [updated_node.with_changes(body=[first]), *(cst.SimpleStatementLine([each]) for each in rest)]
        self.made.update(lines)
        return cst.FlattenSentinel(lines)

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        """Join imports from one module that stand together."""
        body: list[Any] = []
        places: dict[str, int] = {}
        for line in updated_node.body:
            statement = line.body[0] if line in self.made and isinstance(line, cst.SimpleStatementLine) else None
            if not _is_import(line):
                places = {}
            elif isinstance(statement, cst.Import | cst.ImportFrom):
                name = _source_of(statement)
                if name in places:
                    body[places[name]] = _joined(body[places[name]], statement)
                    continue
                places[name] = len(body)
            body.append(line)
        return updated_node.with_changes(body=body)


def _as_before(updated: Any, name: cst.BaseExpression) -> cst.BaseExpression:
    """Return a new name with the parentheses of the old one."""
    return name.with_changes(lpar=updated.lpar, rpar=updated.rpar)


def _is_import(line: cst.CSTNode) -> bool:
    return isinstance(line, cst.SimpleStatementLine) and all(
        isinstance(statement, cst.Import | cst.ImportFrom) for statement in line.body
    )


def _source_of(statement: cst.Import | cst.ImportFrom) -> str:
    """Return what two statements have in common that can be one."""
    if isinstance(statement, cst.Import):
        return cst.Module([]).code_for_node(statement)
    return f"from {dotted(statement.module)}{'*' * isinstance(statement.names, cst.ImportStar)}"


def _joined(line: Any, statement: cst.Import | cst.ImportFrom) -> Any:
    """Return a line that imports what another statement imports, too."""
    (first,) = line.body
    known = {cst.Module([]).code_for_node(alias).strip(" ,") for alias in first.names}
    aliases = [] if isinstance(statement.names, cst.ImportStar) else statement.names
    new = [alias for alias in aliases if cst.Module([]).code_for_node(alias).strip(" ,") not in known]
    if not new:
        return line
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    names = [*first.names[:-1], first.names[-1].with_changes(comma=comma), *new]
    return line.with_changes(body=[first.with_changes(names=names)])
