"""Known calls, whose arguments have another form here: what becomes of each, decided before the file is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import libcst as cst
from libcst import matchers as m
from libcst.metadata import PositionProvider, ScopeProvider

from prefectish.moving import dates
from prefectish.moving.uses import Use, dotted
from prefectish.prefect_names import OF_FLOWS, Place, way_out

#: Options and attributes of flows that are deleted.
_OF_FLOWS = ("storage", "run_config", "environment", "result_handler", "edge_check")
#: Arguments that are not taken here, of what is called: by its place, or, of methods, by the last part of its name.
_NOT_TAKEN: Mapping[str, tuple[str, ...]] = {
    "register": ("version_group_id", "no_url", "idempotency_key", "add_default_labels"),
    "LocalResult": ("validate_dir",),
    "IntervalClock": ("labels",),
    "CronClock": ("labels",),
    "DatesClock": ("labels",),
    "RRuleClock": ("labels",),
    "ShellTask": ("log_stderr",),
    "FilterTask": ("log_func",),
    "slack_notifier": ("backend_info", "proxies"),
}
_REASONS = {
    "labels": "the labels of an agent are those of a deployment: flow.deploy(project, labels=[...])",
    "log_stderr": "what a command that fails wrote there is in the message of the task",
    "log_func": "log what is dropped in the function that filters",
    "backend_info": "there is no server to tell of",
    "proxies": "proxies are those of the environment: HTTPS_PROXY",
    "validate_dir": "the folder is made where it is missing",
}
_LOCAL = Place("prefectish.executors", "LocalExecutor")


class Change:
    """What becomes of a file apart from its imports and names."""

    def __init__(self) -> None:
        self.replaced: dict[cst.CSTNode, cst.CSTNode] = {}
        #: Arguments and statements that are taken away, with the reason.
        self.deleted: dict[cst.CSTNode, str] = {}
        #: Names that change their place with their call.
        self.places: dict[cst.CSTNode, Place] = {}
        #: What stays, though it does not run here.
        self.left: dict[cst.CSTNode, str] = {}
        self.needs_utc = False


class CallFinder(cst.CSTVisitor):
    """Collects the changes of calls, and of statements about flows."""

    METADATA_DEPENDENCIES = (PositionProvider, ScopeProvider)

    def __init__(self, uses: Iterable[Use]) -> None:
        super().__init__()
        self.uses = {use.node: use for use in uses}
        self.change = Change()
        self._dates = dates.Dates()
        self._flows: set[str] = set()
        #: Statements that give a name to what may be deleted with all that uses it.
        self._made: dict[str, list[cst.SimpleStatementLine]] = {}
        self._names: list[cst.Name] = []

    def visit_Name(self, node: cst.Name) -> None:
        """Note each name, to see later whether something uses it."""
        self._names.append(node)

    def visit_WithItem(self, node: cst.WithItem) -> None:
        """Note the name of a flow."""
        if node.asname is not None and isinstance(node.asname.name, cst.Name) and self._is_flow(node.item):
            self._flows.add(node.asname.name.value)

    def visit_Assign(self, node: cst.Assign) -> None:
        """Note what names are given."""
        self._dates.values |= {target.target: node.value for target in node.targets}

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        """Note what a name is given."""
        if node.value is not None:
            self._dates.values[node.target] = node.value

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        """Note flows, what is made for them only, and what they are given."""
        if len(node.body) != 1 or not isinstance(statement := node.body[0], cst.Assign) or len(statement.targets) != 1:
            return
        target = statement.targets[0].target
        if isinstance(target, cst.Name):
            if self._is_flow(statement.value):
                self._flows.add(target.value)
            elif isinstance(statement.value, cst.Call) and self._is_deleted(statement.value.func):
                self._made.setdefault(target.value, []).append(node)
        elif isinstance(target, cst.Attribute) and self._is_given(target, statement.value):
            self.change.deleted[node] = OF_FLOWS[target.attr.value]

    def visit_Call(self, node: cst.Call) -> None:
        """Look whether the call is a known one."""
        use = self.uses.get(node.func)
        called = use.place.name if use is not None and use.place is not None else ""
        method = node.func.attr.value if use is None and isinstance(node.func, cst.Attribute) else ""
        if method in OF_FLOWS and dotted(node.func).rpartition(".")[0] in self._flows:
            self.change.left[node.func] = OF_FLOWS[method]
        for name in _NOT_TAKEN.get(called or method, ()):
            self._delete(node, name, _REASONS.get(name, "leave it out"))
        if called in dates.POSITIONS or dates.asks_for_events(method, node):
            self._dates.given(called or method, node.args, self.get_metadata(ScopeProvider, node, None))
        if (change := _CALLS.get(called or method)) is not None:
            change(self, node)

    def leave_Module(self, original_node: cst.Module) -> None:
        """Judge dates, and delete what was made for deleted arguments only."""
        self._dates.judge()
        self.change.replaced |= self._dates.replaced
        self.change.needs_utc = bool(self._dates.replaced)
        self.change.left |= dict.fromkeys(self._dates.unknown, dates.UNKNOWN)
        self.change.left |= dict.fromkeys(self._dates.unpacked, dates.UNPACKED)
        while found := [name for name, lines in self._made.items() if self._only_deleted(name, lines)]:
            for name in found:
                self.change.deleted |= {line: "nothing uses it now" for line in self._made.pop(name)}

    def of_flow(self, node: cst.Call) -> None:
        """Take what a flow ignores, and name the schedule."""
        for name in _OF_FLOWS:
            self._delete(node, name, OF_FLOWS[name])
        positional = [arg for arg in node.args if arg.keyword is None and not arg.star]
        if len(positional) == 2:
            self.change.replaced[positional[1]] = positional[1].with_changes(keyword=cst.Name("schedule"), equal=_EQUAL)

    def of_pool(self, node: cst.Call) -> None:
        """Name the executor of one thread."""
        scheduler = argument(node, "scheduler")
        text = scheduler.value.evaluated_value if scheduler and isinstance(scheduler.value, cst.SimpleString) else None
        if text in ("sync", "synchronous", "single-threaded"):
            self.change.places[node.func] = _LOCAL
            for arg in node.args:
                self.change.deleted[arg] = ""

    def of_cluster(self, node: cst.Call) -> None:
        """Say in Dask's words whether workers are processes."""
        processes = argument(node, "local_processes")
        if processes is not None and argument(node, "cluster_kwargs") is None:
            value = cst.Dict([cst.DictElement(cst.SimpleString('"processes"'), processes.value)])
            self.change.replaced[processes] = processes.with_changes(keyword=cst.Name("cluster_kwargs"), value=value)

    def of_run_flow(self, node: cst.Call) -> None:
        """Name a deployment in one, and say that its run is not waited for."""
        flow, project = argument(node, "flow_name"), argument(node, "project_name")
        others = {arg.keyword.value for arg in node.args if arg.keyword} - {"flow_name", "project_name", "wait", "name"}
        if flow is None or project is None or others or any(arg.keyword is None for arg in node.args):
            self.change.left[node.func] = (
                "RunFlow takes 'project/name' and wait=; parameters= are given to its call, with the flow of the task"
            )
            return
        both = _joined(project.value, flow.value)
        kept = [arg for arg in node.args if arg not in (flow, project)]
        if argument(node, "wait") is None:
            kept.append(cst.Arg(cst.Name("False"), keyword=cst.Name("wait"), equal=_EQUAL))
        self.change.replaced[node] = node.with_changes(args=[cst.Arg(both), *kept])

    def of_picture(self, node: cst.Call) -> None:
        """Give the state of a flow by position."""
        state = argument(node, "flow_state")
        if state is not None and len(node.args) == 1:
            self.change.replaced[state] = cst.Arg(state.value)

    def of_logger(self, node: cst.Call) -> None:
        """Name our loggers."""
        for arg in node.args[:1]:
            if isinstance(arg.value, cst.SimpleString) and arg.value.raw_value.split(".")[0] == "prefect":
                text = arg.value.value.replace("prefect", "prefectish", 1)
                self.change.replaced[arg.value] = arg.value.with_changes(value=text)

    def _is_flow(self, node: cst.BaseExpression) -> bool:
        use = self.uses.get(node.func) if isinstance(node, cst.Call) else None
        return use is not None and use.place == Place("prefectish", "Flow")

    def _is_deleted(self, node: cst.BaseExpression) -> bool:
        use = self.uses.get(node)
        row = way_out(use.name) if use is not None and use.place is None else None
        return row is not None and row.deleted

    def _is_given(self, target: cst.Attribute, value: cst.BaseExpression) -> bool:
        """Whether a flow is given a storage or a run config, of which flow or value is known to be one."""
        if target.attr.value not in _OF_FLOWS or dotted(target.value) in self._flows:
            return target.attr.value in _OF_FLOWS
        made = isinstance(value, cst.Name) and value.value in self._made
        return made or (isinstance(value, cst.Call) and self._is_deleted(value.func))

    def _delete(self, node: cst.Call, name: str, reason: str) -> None:
        if (arg := argument(node, name)) is not None:
            self.change.deleted[arg] = reason

    def _only_deleted(self, name: str, lines: list[cst.SimpleStatementLine]) -> bool:
        inside = {id(each) for node in (*self.change.deleted, *lines) for each in names_in(node)}
        return all(id(each) in inside for each in self._names if each.value == name)


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
_CALLS: Mapping[str, Callable[[CallFinder, cst.Call], None]] = {
    "Flow": CallFinder.of_flow,
    "LocalDaskExecutor": CallFinder.of_pool,
    "DaskExecutor": CallFinder.of_cluster,
    "RunFlow": CallFinder.of_run_flow,
    "visualize": CallFinder.of_picture,
    "getLogger": CallFinder.of_logger,
}


def argument(call: cst.Call, name: str) -> cst.Arg | None:
    """Return the argument of a call that is given by a keyword."""
    return next((arg for arg in call.args if arg.keyword is not None and arg.keyword.value == name), None)


def names_in(node: cst.CSTNode) -> list[cst.Name]:
    """Return the names in a node."""
    return [found for found in m.findall(node, m.Name()) if isinstance(found, cst.Name)]


def _joined(project: cst.BaseExpression, flow: cst.BaseExpression) -> cst.BaseExpression:
    """Return ``project/name`` of two expressions."""
    texts = [part.raw_value if isinstance(part, cst.SimpleString) else None for part in (project, flow)]
    if None not in texts:
        return cst.SimpleString(f'"{texts[0]}/{texts[1]}"')
    parts: list[cst.BaseFormattedStringContent] = [
        cst.FormattedStringExpression(part) if text is None else cst.FormattedStringText(text)
        for part, text in zip((project, flow), texts, strict=True)
    ]
    return cst.FormattedString([parts[0], cst.FormattedStringText("/"), parts[1]])
