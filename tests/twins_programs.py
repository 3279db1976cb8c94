"""Random programs for the twins: plain data, drawn from a seed, and what of the engine each of them tries.

A program is a tuple of nodes; node n makes a call or a map of a task, reads nodes before it, and waits for some.
`twins_source` writes it down in both spellings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

#: Constants to map over, as source; those with a name try the feature of that name.
LISTS = ("[1, 2, 3]", "[4, 5, 6]", "(7, 8, 9)", "range(3)", "np.array([1, 2, 3])", "[[1, 2], [3], []]", "[]", "[1, 2]")
#: Those of three items that are no lists.
THREE = ("[1, 2, 3]", "[4, 5, 6]", "(7, 8, 9)", "range(3)", "np.array([1, 2, 3])")
NESTED = ("[[1, 2], [3], []]", "[(1,), [2, 3], 4]", "[[1], [2, [3]]]")
NAMED_LISTS = {
    "series_constant": ("pd.Series([3, 1, 2]).sort_values()", "pd.Series([1, 2, 3], index=['x', 'y', 'z'])"),
    "map_text": ("'abc'", "b'abc'"),
    "refused_constant": ("{'x': 1}", "{1, 2}", "pd.DataFrame({'x': [1, 2]})", "5"),
}
VALUES = ("7", "'ab'", "[1, 2]", "None", "{'x': [1]}", "np.array([1, 2])", "pd.Series([1, 2])")
#: What a body gives, as source, of its seed.
SHAPES = {
    "number": "seed",
    "list": "[seed, seed + 1]",
    "nested": "[[seed], [seed, seed + 1], []]",
    "mixed": "[[seed, 1], seed]",
    "tuple": "(seed, seed + 1, seed + 2)",
    "range": "range(seed % 4)",
    "array": "np.arange(seed % 3 + 1) + seed",
    "none": "None",
    "empty": "[]",
    "dict": "{'x': seed}",
    "set": "{seed, seed + 1}",
    "series": "pd.Series([seed + 2, seed, seed + 1]).sort_values()",
    "frame": "pd.DataFrame({0: [seed, 1], 1: [2, 3]})",
    "text": "str(seed)",
}
#: Shapes that a map can go over, as far as nothing is known to be broken.
LONG = ("list", "list", "nested", "mixed", "tuple", "range", "array", "empty")
TRIGGERS = {
    "all_successful": "triggers.all_successful",
    "all_finished": "triggers.all_finished",
    "any_successful": "triggers.any_successful",
    "any_failed": "triggers.any_failed",
    "all_failed": "triggers.all_failed",
    "not_all_skipped": "triggers.not_all_skipped",
    "some_successful": "triggers.some_successful(at_least=0.5)",
}
TROUBLES = ("fail", "fail", "fail", "skip", "unsteady", "unsteady", "retry", "signal", "early")


class Argument(NamedTuple):
    """Where an argument comes from: a node, or (`source` is None) a constant, and how it is read.

    Modes of a call: "whole", "flatten", "allow" (failures), "collect" (in a list), "dict" (deeper). Of a map: "item",
    "flat", "twice" (flattened twice), "allow item", "row" (one item of a list), "unmapped", "unmapped flat", "unmapped
    allow". In `waits`: "whole", "allow", "item", or "children" (each by itself).
    """

    source: int | None
    constant: str = ""
    mode: str = "whole"
    #: Of a result that is unpacked.
    part: int | None = None
    #: Of a map: one child.
    child: int | None = None


class Node(NamedTuple):
    """One call or map. The fields from `shape` on say what its task is; `of` names a node whose task it calls."""

    mapped: bool
    arguments: tuple[Argument, ...] = ()
    waits: tuple[Argument, ...] = ()
    of: int | None = None
    keywords: bool = False
    #: In a flow function: called, and not submitted.
    direct: bool = False
    #: A map that is written as a call of `mapped(...)`.
    called: bool = False
    #: With ``allow_failure=True``.
    allows: bool = False
    #: A map that is written as `apply_map`, or over the `product` of its two arguments.
    applied: bool = False
    crossed: bool = False
    #: "", "reduce" (a map, in groups of so many) or "group" (a map, by a key).
    kind: str = ""
    fan_in: int = 2
    shape: str = "number"
    trouble: str = ""
    rarity: int = 1
    #: "", "wraps" (a decorated body), "self" (a first argument of that name, by position only), "generator", "async".
    style: str = ""
    #: A generator that has its trouble once it has yielded an item.
    late: bool = False
    #: An async body whose children share a slot.
    shares: bool = False
    #: Changes some of its arguments.
    mutates: bool = False
    trigger: str = "all_successful"
    skips: bool = True
    retries: int = 0
    strict: bool = True
    batch: str = ""
    #: Children at the same time; a body that tells when it ends and takes some milliseconds.
    limit: int | None = None
    tagged: bool = False
    busy: bool = False
    #: "", "target" or "location", and its template.
    place: str = ""
    template: str = ""
    item_key: str = ""
    #: "", "key" (of the inputs), "for" (a time) or "for inputs" (with a validator).
    cache: str = ""
    #: "", "stop" or "failures".
    stop: str = ""
    nout: bool = False


Program = tuple[Node, ...]

#: Fields that belong to the task, and not to the call.
TASK_FIELDS = Node._fields[Node._fields.index("shape") :]


def settled(program: Program, number: int) -> Node:
    """Return a node with the body and the options of the task that it calls."""
    node = program[number]
    if node.of is None:
        return node
    return node._replace(**{name: getattr(program[node.of], name) for name in TASK_FIELDS})


def owner(program: Program, number: int) -> int:
    """Return the node whose task node `number` calls."""
    of = program[number].of
    return number if of is None else of


def readers(program: Program) -> set[int]:
    """Return the nodes that others read or wait for."""
    return {a.source for node in program for a in (*node.arguments, *node.waits) if a.source is not None}


def reads_through_tasks(node: Node) -> bool:
    """Whether a graph puts a task in between, for an index or a list, which a flow function has no need of."""
    read = (a.part is not None or a.child is not None or a.mode in ("collect", "dict") for a in node.arguments)
    return node.crossed or any(read)


def _allows_row(node: Node) -> bool:
    """Whether a graph collects what may fail in a list, so that triggers see no failure."""
    return node.allows and any(a.mode == "row" for a in node.arguments)


def _reads_map(program: Program, node: Node) -> bool:
    source = node.arguments[0].source if node.arguments else None
    return source is not None and program[source].mapped


def _reads_late_twice(program: Program, node: Node) -> bool:
    """Whether a map goes over a generator that may fail after some items, and reads or waits for it besides."""
    sources = [a.source for a in (*node.arguments, *node.waits) if a.source is not None]
    twice = {source for source in sources if sources.count(source) > 1 and not program[source].mapped}
    return node.mapped and any(settled(program, source).late for source in twice)


def comparable(program: Program) -> bool:
    """Whether the twins should end alike: calls have what they need, and no trigger sees more of one."""
    through = [settled(program, n) for n, node in enumerate(program) if reads_through_tasks(node) or _allows_row(node)]
    parts = [
        program[a.source] for node in program for a in node.arguments if a.source is not None and a.part is not None
    ]
    unpacked = all(node.nout and node.shape == "tuple" for node in parts)
    of_maps = all(_reads_map(program, node) for node in program if node.kind)
    crossed = all(len(node.arguments) == 2 and node.mapped for node in program if node.crossed)
    own = not any(node.mutates for node in program) or not any(n.place == "target" or n.cache for n in program)
    # A graph waits for the end of a generator that is read as a whole, too; a flow function sees the items before.
    read_whole = any(_reads_late_twice(program, node) for node in program)
    if not (of_maps and crossed and own) or read_whole:
        return False
    called = all(node.arguments or settled(program, n).style != "wraps" for n, node in enumerate(program))
    return called and unpacked and all(node.trigger == "all_successful" and node.skips for node in through)


# ---------------------------------------------------------------------- what a program tries


def features(program: Program) -> set[str]:
    """Return the names of what a program tries of the engine, as far as the text shows it."""
    return {name for name, tries in FEATURES.items() if any(tries(program, n) for n in range(len(program)))}


def _option(field: str, *values: Any) -> Callable[[Program, int], bool]:
    return lambda program, n: getattr(settled(program, n), field) in values


def _argument(wanted: Callable[[Program, Node, Argument], bool]) -> Callable[[Program, int], bool]:
    return lambda program, n: any(wanted(program, program[n], a) for a in program[n].arguments)


def _maps_over(*shapes: str) -> Callable[[Program, int], bool]:
    """Whether something maps, or flattens, a result of these shapes."""

    def tries(program: Program, node: Node, a: Argument) -> bool:
        if a.source is None or settled(program, a.source).shape not in shapes or a.part is not None:
            return False
        by_item = a.mode in ("item", "allow item") and (not program[a.source].mapped or a.child is not None)
        return by_item or "flat" in a.mode or a.mode == "twice"

    return _argument(tries)


def _constant(name: str) -> Callable[[Program, int], bool]:
    return _argument(lambda p, node, a: a.constant in NAMED_LISTS[name] and a.mode in ("item", "flat", "twice"))


def _waits_for_several(program: Program, n: int) -> bool:
    waits = program[n].waits
    whole = [owner(program, a.source) for a in waits if a.mode != "item" and a.source is not None]
    apart = any(a.mode == "children" for a in waits)
    return program[n].mapped and (apart or len(whole) > len(set(whole)))


def _limited(*fields: str, batch: bool) -> Callable[[Program, int], bool]:
    def tries(program: Program, n: int) -> bool:
        node = settled(program, n)
        return any(getattr(node, field) for field in fields) and bool(node.batch) == batch

    return tries


def _is_fed(program: Program, a: Argument) -> bool:
    """Whether an argument is what one generator yields."""
    return a.source is not None and not program[a.source].mapped and settled(program, a.source).style == "generator"


def _shares_names(program: Program, number: int) -> bool:
    """Whether results of a node have names of which another node makes some, too."""
    name = settled(program, number).template
    return "${a}" in name and any(settled(program, n).template == name for n in range(number))


#: What can be drawn, by name. `equal_targets`, `cache_for_siblings` and `cache_in_flight` are seen by the oracle, which
#: knows the names and the inputs.
FEATURES: dict[str, Callable[[Program, int], bool]] = {
    "map": lambda p, n: p[n].mapped,
    "map_of_map": _argument(lambda p, node, a: node.mapped and a.source is not None and p[a.source].mapped),
    "reduce": _argument(lambda p, node, a: not node.mapped and a.source is not None and p[a.source].mapped),
    "flatten": _argument(lambda p, node, a: "flat" in a.mode),
    "flatten_twice": _argument(lambda p, node, a: a.mode == "twice"),
    "unmapped": _argument(lambda p, node, a: "unmapped" in a.mode),
    "allow_failure": _argument(lambda p, node, a: "allow" in a.mode),
    "collect": _argument(lambda p, node, a: a.mode in ("collect", "dict", "row")),
    "allow_call": lambda p, n: p[n].allows,
    "allow_collect": lambda p, n: p[n].allows and any(a.mode in ("collect", "dict", "row") for a in p[n].arguments),
    "mapped_call": lambda p, n: p[n].called,
    "wait_for_allowed": lambda p, n: any(a.mode == "allow" for a in p[n].waits),
    "wait_for_allowed_call": lambda p, n: not p[n].mapped and any(a.mode == "allow" for a in p[n].waits),
    "array": _argument(lambda p, node, a: a.constant.startswith("np.")),
    "empty_map": _argument(lambda p, node, a: a.constant == "[]" and a.mode == "item"),
    "unequal_lengths": lambda p, n: not settled(p, n).strict,
    "series_constant": _constant("series_constant"),
    "map_text": lambda p, n: _constant("map_text")(p, n) or _maps_over("text")(p, n),
    "refused_constant": _constant("refused_constant"),
    "series_result": _maps_over("series"),
    "frame_result": _maps_over("frame"),
    "unmappable_result": _maps_over("dict", "set", "none", "number"),
    "failures": _option("trouble", "fail", "signal"),
    "skips": _option("trouble", "skip"),
    "retries": _option("trouble", "unsteady", "retry"),
    "timeout": _option("trouble", "overrun"),
    "returned_state": _option("trouble", "return failed", "return skipped", "return success"),
    "triggers": lambda p, n: settled(p, n).trigger != "all_successful",
    "wait_for": lambda p, n: bool(p[n].waits),
    "wait_for_several": _waits_for_several,
    "wraps": _option("style", "wraps"),
    "positional_self": _option("style", "self"),
    "generator_body": _option("style", "generator"),
    "batch": lambda p, n: bool(settled(p, n).batch),
    "limit": _limited("limit", "tagged", batch=False),
    "limit_batch": _limited("limit", "tagged", batch=True),
    "target": _option("place", "target"),
    "location": _option("place", "location"),
    "item_key": lambda p, n: bool(settled(p, n).item_key),
    "cache_key": _option("cache", "key"),
    "cache_for": _option("cache", "for"),
    "cache_for_inputs": _option("cache", "for inputs"),
    "stop": _option("stop", "stop", "failures"),
    "child_future": _argument(lambda p, node, a: a.child is not None and a.mode not in ("item", "flat", "twice")),
    "map_child_future": _argument(lambda p, node, a: a.child is not None and a.mode in ("item", "flat", "twice")),
    "nout": lambda p, n: p[n].nout,
    "reduction": _option("kind", "reduce"),
    "group_by": _option("kind", "group"),
    "generator_fed": _argument(lambda p, node, a: node.mapped and a.mode == "item" and _is_fed(p, a)),
    "late_generator": lambda p, n: settled(p, n).late,
    "async_body": _option("style", "async"),
    "async_concurrency": lambda p, n: settled(p, n).shares,
    "product": lambda p, n: p[n].crossed,
    "apply_map": lambda p, n: p[n].applied,
    "check_inputs": lambda p, n: p[n].mutates,
    "direct": lambda p, n: p[n].direct,
    "same_task": lambda p, n: p[n].of is not None,
    "equal_names": lambda p, n: _shares_names(p, n),
}


# ---------------------------------------------------------------------- drawing


class Drawn:
    """Draws one program; `off` names what is left out."""

    def __init__(self, random: Random, off: frozenset[str], wanted: str | None) -> None:
        self.random = random
        self.off = off
        self.wanted = wanted
        self.nodes: list[Node] = []

    def on(self, name: str, chance: float) -> bool:
        """Whether to try a feature, which is left out, wanted, or has a chance."""
        if name in self.off:
            return False
        return self.random.random() < (max(chance, 0.5) if name == self.wanted else chance)

    def program(self, largest: int) -> Program:
        """Draw up to `largest` nodes."""
        for _ in range(self.random.randint(2, largest)):
            node = self.node()
            self.nodes.append(node)
            if any(_constant("refused_constant")((*self.nodes,), n) for n in (len(self.nodes) - 1,)):
                break  # nothing of it runs
        return tuple(self.finished(n, node) for n, node in enumerate(self.nodes))

    def finished(self, number: int, node: Node) -> Node:
        """Return a node with what only those may have that nobody reads."""
        if number in readers(tuple(self.nodes)):
            return node
        if not node.mapped and not node.nout and self.on("direct", 0.2):
            return node._replace(direct=True)
        plain = node.mapped and node.of is None and not node.waits and not node.cache + node.place + node.style
        called = {other.of for other in self.nodes}
        if plain and not node.limit and not node.tagged and number not in called and self.on("stop", 0.05):
            stop = self.random.choice(["stop", "failures"])
            rows = (Argument(None, "range(24)", "item"),)
            return Node(True, rows, stop=stop, trouble="fail", rarity=3, busy=True, shape="number")
        return node

    def node(self) -> Node:
        """Draw the next node."""
        number = len(self.nodes)
        if number and self.on("nout", 0.04):
            return Node(False, (Argument(None, self.random.choice(VALUES)),), nout=True, shape="tuple")
        if number and self.on("same_task", 0.5 if self.wanted in ("wait_for_several", "cache_in_flight") else 0.12):
            return self.call_again()
        maps = [n for n, node in enumerate(self.nodes) if node.mapped]
        if maps and self.on("reduction", 0.09):
            return self.over_map("reduce", self.random.choice(maps))
        if maps and self.on("group_by", 0.06):
            return self.over_map("group", self.random.choice(maps))
        if self.on("check_inputs", 0.02):
            rows = (Argument(None, "[[1, 2], [3], []]", "item"),)
            return Node(True, rows, mutates=True, rarity=2, shape=self.random.choice(LONG))
        alike = [n for n in range(number) if settled((*self.nodes,), n).template.startswith("alike")]
        if self.wanted == "equal_names" and len(alike) < 2 and self.random.random() < 0.7:
            return self.named_alike()
        if self.on("target", 0.05) or self.on("location", 0.05) or self.wanted == "equal_targets":
            return self.placed(number)
        if self.on("limit", 0.05) or self.on("limit_batch", 0.03):
            return self.limited()
        return self.worker(Node(self.on("map", 0.6 if number else 0.5)))

    def call_again(self) -> Node:
        """Draw another call of a task."""
        fit = [n for n, node in enumerate(self.nodes) if node.of is None and not node.nout + bool(node.place)]
        fit = [n for n in fit if not self.nodes[n].limit and not self.nodes[n].tagged]
        fit = [n for n in fit if not self.nodes[n].kind and not self.nodes[n].mutates]
        if not fit:
            return self.worker(Node(False))
        of = self.random.choice(fit)
        like = self.nodes[of]
        node = Node(like.mapped if self.wanted != "wait_for_several" else False, of=of)
        return self.with_inputs(node, max(1, len(like.arguments)))

    def over_map(self, kind: str, source: int) -> Node:
        """Draw a node that combines, or groups, what the children of a map give."""
        shape = "list" if kind == "group" else self.random.choice((*LONG, "number", "number"))
        node = Node(False, (Argument(source),), kind=kind, fan_in=self.random.choice((2, 2, 3)), shape=shape)
        if kind == "reduce" and self.on("triggers", 0.4):
            node = node._replace(trigger=self.random.choice(sorted(TRIGGERS)), skips=self.random.random() < 0.6)
        style = "async" if self.on("async_body", 0.1) else ""
        return node._replace(style=style, **self.trouble())

    def placed(self, number: int) -> Node:
        """Draw a node that stores its results under names of its own."""
        place = self.random.choice([name for name in ("target", "location") if name not in self.off])
        mapped = self.random.random() < 0.8 or self.wanted == "equal_targets"
        if not mapped:
            node = Node(False, (Argument(None, "3"),), place=place, template=f"n{number}.pkl")
            return node._replace(shape=self.random.choice(("number", "list", "array")))
        equal = self.on("equal_targets", 0.15)
        rows = "[1, 2, 1, '1']" if equal else self.random.choice(["[1, 2, 3]", "['x', 'y']", "range(4)"])
        field = "a" if equal else self.random.choice(["a", "map_index", "item_key"])
        key = "a" if field == "item_key" and self.on("item_key", 0.5) else ""
        extra = (Argument(None, "5", "unmapped"),) if self.random.random() < 0.3 else ()
        return Node(
            True,
            (Argument(None, rows, "item"), *extra),
            place=place,
            template=f"n{number}/${{{field}}}.pkl",
            item_key=key,
            shape=self.random.choice(("number", "list", "array")),
            trouble=self.random.choice(("", "", "fail" if not equal else "")),
            rarity=3,
        )

    def named_alike(self) -> Node:
        """Draw a map that names its results as a map before does: one of another task, or another call of it."""
        before = [n for n, node in enumerate(self.nodes) if node.mapped and node.template.startswith("alike")]
        rows = (Argument(None, self.random.choice(["[1, 2, 3]", "[3, 'x', '3']", "range(4)"]), "item"),)
        if not before:
            place = self.random.choice([name for name in ("target", "location") if name not in self.off])
            shape = self.random.choice(("number", "list", "array"))
            rows = (Argument(None, self.random.choice(["[1, 2, 3]", "range(4)"]), "item"),)
            return Node(True, rows, place=place, template="alike/${a}.pkl", shape=shape)
        first = self.nodes[before[0]]  # which ends before, and keeps its names
        node = Node(True, rows, waits=(Argument(before[0], mode="whole"),))
        if self.random.random() < 0.5:
            return node._replace(of=before[0])
        batch = self.random.choice(("", "2"))
        return node._replace(place=first.place, template=first.template, shape=first.shape, batch=batch)

    def limited(self) -> Node:
        """Draw a map under a limit."""
        batch = self.random.choice(("2", "4")) if self.on("limit_batch", 0.4) else ""
        if "limit" in self.off and not batch:
            batch = "2"
        tagged = self.random.random() < 0.4
        rows = (self.item() if self.random.random() < 0.3 else Argument(None, "range(8)", "item"),)
        trouble = self.random.choice(("", "", "fail", "unsteady"))
        return Node(
            True,
            rows,
            batch=batch,
            tagged=tagged,
            limit=None if tagged else self.random.choice((1, 2)),
            busy=True,
            trouble=trouble,
            rarity=3,
            retries=1 if trouble == "unsteady" else 0,
        )

    def worker(self, node: Node) -> Node:
        """Draw what the task of a node does."""
        random = self.random
        node = node._replace(
            shape=self.shape(),
            trigger="all_successful" if not self.on("triggers", 0.25) else random.choice(sorted(TRIGGERS)),
            skips=random.random() < 0.8,
            keywords=random.random() < 0.3,
            strict=not self.on("unequal_lengths", 0.15),
            batch=random.choice(("2", "'auto'")) if node.mapped and self.on("batch", 0.12) else "",
            style=self.style(node.mapped),
            **self.trouble(),
        )
        if node.style in ("wraps", "self"):
            node = node._replace(keywords=False)
        if node.style == "generator":
            node = node._replace(shape="list")
        if node.style == "generator" and node.trouble not in ("", "overrun") and self.on("late_generator", 0.6):
            node = node._replace(late=True)
        if node.style == "async" and node.mapped and not node.batch and self.on("async_concurrency", 0.4):
            node = node._replace(shares=True)
        if node.trouble in ("", "fail", "unsteady") and not node.style:
            node = node._replace(cache=self.cache())
        return self.with_inputs(node, random.choice((1, 1, 2)) if node.mapped else random.choice((0, 1, 1, 2)))

    def shape(self) -> str:
        shapes = [*LONG, "number", "number", "number", "none"]
        named = {"series_result": "series", "frame_result": "frame", "unmappable_result": "dict", "map_text": "text"}
        for name, shape in named.items():
            if self.on(name, 0.06):
                shapes = ["dict", "set", "none", "number"] if shape == "dict" else [shape]
        return self.random.choice(shapes)

    def style(self, mapped: bool) -> str:
        styles = {"wraps": "wraps", "positional_self": "self", "generator_body": "generator", "async_body": "async"}
        if not mapped and self.on("generator_fed", 0.1):
            return "generator"
        return next((style for name, style in styles.items() if self.on(name, 0.06)), "")

    def trouble(self) -> dict[str, Any]:
        random = self.random
        if self.on("timeout", 0.01):
            return {"trouble": "overrun"}
        if self.on("returned_state", 0.08):
            return {"trouble": random.choice(("return failed", "return skipped", "return success")), "rarity": 2}
        if self.wanted == "wait_for_several":
            return {"trouble": "fail", "rarity": 2}
        if random.random() < 0.55:
            return {}
        kind = random.choice(TROUBLES)
        return {"trouble": kind, "rarity": random.randint(1, 3), "retries": random.choice((0, 0, 1, 2))}

    def cache(self) -> str:
        kinds = {"cache_key": "key", "cache_for": "for", "cache_for_siblings": "for", "cache_for_inputs": "for inputs"}
        return next((kind for name, kind in kinds.items() if self.on(name, 0.07)), "")

    # -- inputs

    def with_inputs(self, node: Node, count: int) -> Node:
        """Draw what a node reads and waits for."""
        first = [self.item() if node.mapped else self.whole()] if count else []
        more = [self.beside(node) for _ in range(count - 1)]
        node = node._replace(arguments=(*first, *more))
        if not any(a.part is not None or a.child is not None for a in node.arguments) and self.on("allow_call", 0.06):
            node = node._replace(allows=True)
        if node.mapped and self.on("mapped_call", 0.06):
            node = node._replace(called=True)
        elif node.mapped and not node.allows and not node.keywords and self.on("apply_map", 0.06):
            return node._replace(applied=True)
        elif node.mapped and not node.allows and not node.keywords and node.of is None and self.on("product", 0.06):
            node = node._replace(arguments=(self.item(), self.item()), crossed=True)
        if reads_through_tasks(node) and node.of is None:
            node = node._replace(trigger="all_successful", skips=True)
        if node.crossed:
            return node
        if self.nodes and self.on("wait_for", 0.15 if self.wanted != "wait_for_several" else 0.8):
            node = node._replace(waits=tuple(self.waits(node)))
        return node

    def waits(self, node: Node) -> Iterator[Argument]:
        fit = [n for n, other in enumerate(self.nodes) if not other.nout]
        chosen = self.random.sample(fit, min(len(fit), self.random.choice((1, 2, 3))))
        seen: set[int] = set()
        for source in chosen:
            nodes = tuple(self.nodes)
            if self.on("wait_for_allowed" if node.mapped else "wait_for_allowed_call", 0.2):
                yield Argument(source, mode="allow")
            elif node.mapped and self.nodes[source].mapped and self.random.random() < 0.4:
                yield Argument(source, mode="item")
            elif node.mapped and self.has_children(source) and self.on("wait_for_several", 0.3):
                yield Argument(source, mode="children")
            elif not node.mapped or owner(nodes, source) not in seen or "wait_for_several" not in self.off:
                seen.add(owner(nodes, source))
                yield Argument(source)

    def has_children(self, number: int) -> bool:
        """Whether a node is a map of which it is known that it has children."""
        node = self.nodes[number]
        rows = node.arguments[0] if node.mapped else None
        alone = len(node.arguments) == 1 and not node.waits and not node.of
        return alone and rows is not None and rows.mode == "item" and rows.constant in THREE

    def child(self, mode: str) -> Argument | None:
        """Draw one child of a map."""
        maps = [n for n in range(len(self.nodes)) if self.has_children(n)]
        if mode == "item":
            maps = [n for n in maps if self.nodes[n].shape in LONG]
        return Argument(self.random.choice(maps), mode=mode, child=self.random.randint(0, 2)) if maps else None

    def source(self, long: bool = False) -> int | None:
        """Draw a node before this one: as a rule a late one, and to map over, one that gives a list."""
        fit = [n for n, node in enumerate(self.nodes) if not node.nout]
        if long:
            over = {"series": "series_result", "frame": "frame_result", "text": "map_text"}
            shapes = [*LONG, *(shape for shape, name in over.items() if name not in self.off)]
            odd = () if not self.on("unmappable_result", 0.05) else ("number", "dict", "set", "none")
            nodes = tuple(self.nodes)
            fit = [n for n in fit if self.nodes[n].mapped or settled(nodes, n).shape in (*shapes, *odd)]
        if not fit:
            return None
        return max(self.random.choice(fit), self.random.choice(fit))

    def item(self) -> Argument:
        """Draw what a map goes over."""
        random = self.random
        if self.on("map_child_future", 0.1) and (child := self.child("item")) is not None:
            return child
        if self.on("collect", 0.06) and (source := self.source()) is not None:
            return Argument(source, mode="row")
        fed = [n for n, node in enumerate(self.nodes) if node.style == "generator" and not node.mapped]
        if fed and self.on("generator_fed", 0.5):
            return Argument(random.choice(fed), mode="item")
        source = self.source(long=True)
        if source is None or random.random() < 0.35:
            return self.rows()
        mode = "flat" if self.on("flatten", 0.3) else "allow item" if self.on("allow_failure", 0.12) else "item"
        shape = settled((*self.nodes,), source).shape
        if mode == "flat" and shape in ("series", "frame", "text") and not self.shapes_on(shape):
            mode = "item"
        if self.on("flatten_twice", 0.1):
            mode = "twice"
        return Argument(source, mode=mode)

    def shapes_on(self, shape: str) -> bool:
        """Whether a result of that shape may be flattened."""
        names = {"series": "series_result", "frame": "frame_result", "text": "map_text"}
        return shape not in names or names[shape] not in self.off

    def rows(self) -> Argument:
        """Draw a constant to map over."""
        for name in NAMED_LISTS:
            if self.on(name, 0.02):
                return Argument(None, self.random.choice(NAMED_LISTS[name]), "item")
        if self.on("flatten_twice", 0.05):
            return Argument(None, "[[[1], [2, 3]], [[4]]]", "twice")
        if self.on("flatten", 0.1):
            return Argument(None, self.random.choice(NESTED), "flat")
        return Argument(None, self.random.choice(LISTS), "item")

    def whole(self) -> Argument:
        """Draw an argument of a call."""
        parts = [n for n, node in enumerate(self.nodes) if node.nout]
        if parts and self.random.random() < 0.5:
            return Argument(self.random.choice(parts), part=self.random.randint(0, 1))
        if self.on("child_future", 0.2) and (child := self.child("whole")) is not None:
            return child
        source = self.source()
        if source is None or self.random.random() < 0.15:
            return Argument(None, self.random.choice(VALUES))
        if self.on("allow_failure", 0.15):
            return Argument(source, mode="allow")
        if self.on("collect", 0.1):
            return Argument(source, mode=self.random.choice(("collect", "dict")))
        flat = self.on("flatten", 0.15) and self.shapes_on(settled((*self.nodes,), source).shape)
        return Argument(source, mode="flatten" if flat else "whole")

    def beside(self, node: Node) -> Argument:
        """Draw a further argument."""
        if not node.mapped:
            return self.whole()
        if self.random.random() < 0.5:
            return self.item()
        read = self.whole()
        mode = {"flatten": "unmapped flat", "allow": "unmapped allow"}.get(read.mode, "unmapped")
        return read._replace(mode=mode)


def draw(seed: int, off: frozenset[str] = frozenset(), wanted: str | None = None, largest: int = 5) -> Program:
    """Draw the program of a seed, without what `off` names; `wanted` is made likely."""
    return Drawn(Random(seed), off, wanted).program(largest)


# ---------------------------------------------------------------------- smaller programs


def smaller(program: Program) -> Iterator[Program]:
    """Yield programs that are a step simpler, the boldest first."""
    for number in reversed(range(len(program) if len(program) > 1 else 0)):
        yield without(program, number)
    for number, node in enumerate(program):
        for change in _simpler(node):
            yield (*program[:number], change, *program[number + 1 :])


def without(program: Program, number: int) -> Program:
    """Return a program without a node: who read it reads a constant, who called its task has one of its own."""

    def moved(argument: Argument) -> Argument | None:
        if argument.source is None or argument.source < number:
            return argument
        if argument.source > number:
            return argument._replace(source=argument.source - 1)
        by_item = argument.mode in ("item", "flat", "allow item", "twice", "row")
        mode = {"allow item": "item", "twice": "item", "row": "item"}.get(argument.mode, argument.mode)
        if not by_item:
            mode = "unmapped" if "unmapped" in argument.mode else "whole"
        if argument.mode == "children":
            return None
        return Argument(None, "[1, 2]" if by_item else "1", mode)

    heir: dict[int | None, int] = {}
    kept = []
    for n, node in enumerate(program):
        if n == number:
            continue
        if node.of == number:
            node = settled(program, n) if number not in heir else node
            new_of = heir.get(number)
            heir.setdefault(number, n - 1)
            node = node._replace(of=new_of)
        elif node.of is not None and node.of > number:
            node = node._replace(of=node.of - 1)
        arguments = tuple(a for a in map(moved, node.arguments) if a is not None)
        waits = tuple(a for a in node.waits if a.source != number)
        kept.append(node._replace(arguments=arguments, waits=tuple(a for a in map(moved, waits) if a is not None)))
    return tuple(kept)


#: What is simpler than a mode.
PLAINER = {
    **dict.fromkeys(("flat", "allow item", "twice"), "item"),
    **dict.fromkeys(("flatten", "allow", "collect", "dict"), "whole"),
    **dict.fromkeys(("unmapped flat", "unmapped allow"), "unmapped"),
}


def _simpler(node: Node) -> Iterator[Node]:
    plain = Node(node.mapped)
    for field in Node._fields[3:]:
        if getattr(node, field) != getattr(plain, field) and field not in ("template", "of", "busy"):
            yield node._replace(**{field: getattr(plain, field)})
    if node.waits:
        yield from (node._replace(waits=node.waits[:n] + node.waits[n + 1 :]) for n in range(len(node.waits)))
    first = 1 if node.mapped else 0
    for n in range(first, len(node.arguments)):
        yield node._replace(arguments=node.arguments[:n] + node.arguments[n + 1 :])
    for n, argument in enumerate(node.arguments):
        whole = argument.mode in ("whole", "unmapped", "allow", "collect", "dict", "unmapped allow")
        for constant in ("1",) if whole else ("[1]", "[1, 2]", "[1, 2, 3]"):
            if argument.source is None and len(constant) < len(argument.constant):
                yield _with(node, n, argument._replace(constant=constant))
        if argument.mode in PLAINER:
            yield _with(node, n, argument._replace(mode=PLAINER[argument.mode]))


def _with(node: Node, number: int, argument: Argument) -> Node:
    arguments: Sequence[Argument] = node.arguments
    return node._replace(arguments=(*arguments[:number], argument, *arguments[number + 1 :]))
