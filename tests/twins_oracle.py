"""What a program must give, by calling its bodies in Python: no engine, no executor, one call after the other.

It follows docs/ and not the engine. Where that says nothing, what a node gives is `ANY`, and so is what reads it.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import twins_source
from twins_programs import Argument, Node, Program, features, owner, settled

from prefectish.engine import signals

#: A value that nobody foretells.
ANY = object()


class End(NamedTuple):
    """How a call ends: the name of the state, and its value."""

    kind: str
    value: Any = None


UNKNOWN = End("?", ANY)
#: A map: the ends of its children; and one of which not even their number is known.
Ends = list[End]
#: In the names of a program whose twins mean different things.
APART = "apart"
GOOD = ("Success", "Skipped", "?")
#: The kind of a child that a map that is stopped does not start; its value is how it would have ended.
NEVER = "Never"


class Refused(NamedTuple):
    """The program is refused while it is built."""


class Foretold(NamedTuple):
    """What a program must give.

    Attributes
    ----------
    ends
        How each node ends.
    calls
        How often bodies begin, by task, seed and attempt; of tasks of which that is known.
    made
        Task and seed of calls that gave a result, by which a second run may be spared them.
    names
        Features that only inputs show.
    """

    ends: list[End | Ends]
    calls: Counter[tuple[str, int, int]]
    made: set[tuple[str, int]]
    names: set[str]


class Oracle:
    """Evaluates one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.calls: Counter[tuple[str, int, int]] = Counter()
        self.made: set[tuple[str, int]] = set()
        self.seeds: dict[str, list[int]] = {}
        self.names: set[str] = set()
        self.taken: set[tuple[str, str]] = set()  # names of results, which one child has
        self.ends: list[End | Ends] = []
        self.delivered: dict[int, Any] = {}  # what generators yielded that failed then
        self.attempt = 1
        self.code: dict[str, Any] = {}
        text = twins_source.prelude(program) + twins_source.tasks(program, decorate=False)
        exec(compile(text, "<oracle>", "exec"), self.code)
        self.code["attempt"] = lambda: self.attempt
        self.code["note"] = self.note
        self.seen: tuple[str, int] = ("", 0)

    def note(self, word: str, name: str, seed: int) -> None:
        """Count a call."""
        if word == "begin":
            self.calls[name, seed, self.attempt] += 1
            self.seen = (name, seed)

    def foretell(self) -> Foretold | Refused:
        """Evaluate the program."""
        for number in range(len(self.program)):
            if settled(self.program, number).mapped and self.refused(number):
                return Refused()
            self.ends.append(self.node(number))
        self.find_names()
        return Foretold(self.ends, self.calls, self.made, self.names)

    # -- nodes

    def node(self, number: int) -> End | Ends:
        """Return how a node ends."""
        node = settled(self.program, number)
        if node.kind:
            return self.over_map(number, node)
        if node.crossed:
            return self.crossed(number, node)
        if not node.mapped:
            return self.run(number, node, [(a, self.end_of(a)) for a in (*node.arguments, *node.waits)])
        parent = self.parent(node)
        if not isinstance(parent, int):
            return self.unknown(number) if parent == UNKNOWN else parent
        children: Ends = []
        failures = 0
        taken: set[str] = set()
        for index in range(parent):
            inputs = [(a, self.item_of(a, index)) for a in (*node.arguments, *node.waits)]
            if node.stop and failures > (0 if node.stop == "stop" else 2):
                children.append(End(NEVER, self.run(number, node, inputs)))
                continue
            if "${a}" in node.template:
                name = str(inputs[0][1].value)
                if name in taken:
                    children.append(End("Failed", ANY))  # the lower index keeps its file
                    continue
                taken.add(name)
            children.append(self.run(number, node, inputs))
            failures += children[-1].kind not in GOOD
        return children

    def over_map(self, number: int, node: Node) -> End:
        """Return how a reduction ends, or the groups of a map."""
        children = self.end_of(node.arguments[0])
        if not isinstance(children, list) or any(
            each.value is ANY and each.kind in ("?", "Success") for each in children
        ):
            return self.unknown(number)
        if node.kind == "group":
            return self.grouped(number, node, children)
        if not children:
            return End("Failed", ANY)
        level = children
        while len(level) > 1 or level is children:
            groups = [level[n : n + node.fan_in] for n in range(0, len(level), node.fan_in)]
            lone = 0 if level is children else 1  # what came of a group goes up as it is, if it is left over
            level = [g[0] if len(g) == lone else self.combined(number, node, g) for g in groups]
            if any(end.kind == "?" for end in level):
                return self.unknown(number)
        return level[0]

    def combined(self, number: int, node: Node, ends: Ends) -> End:
        """Return how a group is combined."""
        if node.skips and any(skipped(end) for end in ends):  # a tolerant trigger leaves out what was skipped
            return End("Skipped") if node.trigger == "all_successful" else self.unknown(number)
        said = trigger(node.trigger, ends, True, False)
        values = [end.value for end in ends if end.kind == "Success"]
        if said is not None or not values:
            return said or End("Failed", ANY)
        return self.unknown(number) if any(value is ANY for value in values) else self.call(number, node, [values])

    def grouped(self, number: int, node: Node, children: Ends) -> End:
        """Return the groups of what the children of a map gave."""
        item = node.arguments[0]._replace(mode="item")
        keys = [self.run(number, node._replace(arguments=(item,)), [(item, end)]) for end in children]
        both = [*keys, *children]
        if any(end.kind == "?" for end in both):
            return self.unknown(number)
        if any(skipped(end) for end in both):
            return End("Skipped")
        if any(end.kind != "Success" for end in both):
            return End("TriggerFailed", signals.TRIGGERFAIL(""))
        if any(end.value.__hash__ is None for end in keys):
            return End("Failed", ANY)
        groups: dict[Any, list[Any]] = {}
        for key, end in zip(keys, children, strict=True):
            groups.setdefault(key.value, []).append(end.value)
        return End("Success", list(groups.items()))

    def crossed(self, number: int, node: Node) -> End | Ends:
        """Return the ends of a map over a product."""
        lists = [self.items(a) for a in node.arguments]
        plain = all(
            isinstance(each, list) and all(isinstance(e, End) and e.kind == "Success" for e in each) for each in lists
        )
        if not plain or node.waits:
            return self.unknown(number)
        return [self.run(number, node, [*zip(node.arguments, row, strict=True)]) for row in itertools.product(*lists)]

    def constant(self, argument: Argument) -> Any:
        """Return the value of a constant."""
        return eval(argument.constant, self.code)

    def end_of(self, argument: Argument) -> End | Ends:
        """Return what an argument stands for."""
        if argument.source is None:
            return End("Success", self.constant(argument))
        end = self.ends[argument.source]
        if argument.part is not None:
            assert isinstance(end, End)
            return End("Success", end.value[argument.part])
        if argument.child is not None:
            if not isinstance(end, list) or argument.child >= len(end) or any(each.kind != "Success" for each in end):
                self.names.add(APART)  # a graph reads all children to take one
                return UNKNOWN
            return end[argument.child]
        return end

    def items(self, argument: Argument) -> list[End] | End:
        """Return the ends of what a map goes over, or one end that is no list."""
        end = self.end_of(argument)
        levels = {"flat": 1, "twice": 2}.get(argument.mode, 0)
        if argument.mode == "row":
            return self.row(end)
        if isinstance(end, End) and argument.source in self.delivered:
            return [End("Success", self.delivered[argument.source]), end] if self.feeds(argument, end) else UNKNOWN
        if isinstance(end, End):
            if end.kind != "Success" or end.value is ANY:
                return end
            listed = by_position(end.value)
            if listed is None:
                return End("unmappable")
            end = [End("Success", item) for item in listed]
        if levels and any(each.value is ANY for each in end if each.kind in ("?", "Success")):
            return UNKNOWN
        for _ in range(levels):
            end = [part for each in end for part in self.parts(each)]
        return end

    def feeds(self, argument: Argument, end: End) -> bool:
        """Whether it is known what becomes of a map over a generator that failed: one more child shows it."""
        readers = [node for node in self.program if argument in node.arguments]
        once = all(sum(a.source == argument.source for a in (*n.arguments, *n.waits)) == 1 for n in readers)
        alone = once and all(sum(self.by_item(a) for a in (*node.arguments, *node.waits)) == 1 for node in readers)
        return alone and argument.mode == "item" and end.kind == "Failed" and end.value is not ANY

    def row(self, end: End | Ends) -> list[Any]:
        """Return the items of a list of which the first is what a node gives."""
        states = end if isinstance(end, list) else [end]
        if any(each.kind != "Success" for each in states):
            self.names.add("row_of_failed")
        first = UNKNOWN if any(each.value is ANY for each in states) else end
        return [first, End("Success", 7)]

    def parts(self, end: End) -> Iterator[End]:
        if end.kind == "Success" and is_table(end.value):
            yield UNKNOWN  # it fails, whatever the trigger says
        elif end.kind != "Success" or (listed := elements(end.value)) is None:
            yield end
        else:
            yield from (End("Success", item) for item in listed)

    def by_item(self, argument: Argument) -> bool:
        return argument.mode in ("item", "flat", "twice", "allow item", "row")

    def item_of(self, argument: Argument, index: int) -> End | Ends:
        if not self.by_item(argument):
            return self.end_of(argument)
        items = self.items(argument)
        return items if isinstance(items, End) else items[index]

    def refused(self, number: int) -> bool:
        """Whether a map is refused while it is built: it goes over a constant that is no list."""
        arguments = settled(self.program, number).arguments
        return any(isinstance(self.items(a), End) for a in arguments if a.source is None and self.by_item(a))

    def parent(self, node: Node) -> int | End | Ends:
        """Return the number of children, or how the map ends as a whole."""
        inputs = [(a, self.items(a) if self.by_item(a) else self.end_of(a)) for a in (*node.arguments, *node.waits)]
        if node.skips and any(skips_whole(self.by_item(a), end) for a, end in inputs):
            return End("Skipped")
        over = [end for a, end in inputs if self.by_item(a)]
        if any(isinstance(end, End) and end.value is ANY and end.kind in ("?", "Success") for end in over):
            return UNKNOWN
        if all(isinstance(end, End) and end.kind == "Skipped" for end in over):
            return End("Skipped")
        if any(isinstance(end, End) and end.kind in ("unmappable",) for end in over):
            return End("Failed", ANY)
        lengths = {len(end) for end in over if not isinstance(end, End)}
        if not lengths:
            return End("Failed", ANY)
        return End("Failed", ANY) if len(lengths) > 1 and node.strict else min(lengths)

    # -- one call

    def run(self, number: int, node: Node, inputs: list[tuple[Argument, Any]]) -> End:
        """Return how one call ends."""
        ends = [end for _, end in inputs]
        if any(each.kind == "?" for end in ends for each in (end if isinstance(end, list) else [end])):
            return self.unknown(number)
        if node.skips and any(skipped(end) for end in ends):
            return End("Skipped")
        judged: Ends = []
        empty = False
        upstream = 0
        for a, end in inputs:
            if (a.source is None and not self.by_item(a)) or a.part is not None:
                continue  # a constant is no upstream, save one that is mapped over
            states = end if isinstance(end, list) else [end]
            if self.by_item(a) and isinstance(end, list):  # one item, one state
                states = [next((s for s in end if s.kind not in GOOD), End("Success"))]
            kept = [s for s in states if not ("allow" in a.mode or node.allows) or s.kind in GOOD]
            upstream += bool(kept) or not states
            empty = empty or not states
            judged += kept
        said = trigger(node.trigger, judged, bool(upstream), empty)
        if said is not None:
            return said
        values = [self.value(a, end) for a, end in inputs if a in node.arguments][: len(node.arguments)]
        return self.unknown(number) if ANY in [v for v in values if v is ANY] else self.call(number, node, values)

    def unknown(self, number: int) -> End:
        """Note that nobody knows whether a body begins."""
        self.names.add(f"unknown n{owner(self.program, number)}")
        return UNKNOWN

    def value(self, argument: Argument, end: Any) -> Any:
        if isinstance(end, list):
            value: Any = [each.value for each in end]
            if any(each is ANY for each in value):
                return ANY
        else:
            value = end.value
        if value is ANY:
            return ANY
        if argument.mode in ("flatten", "unmapped flat"):
            listed = by_position(value)
            if is_table(value) or any(is_table(item) for item in listed or ()):
                return ANY
            if listed is not None:
                value = flat(value, listed)
        return {"collect": [value, 7], "dict": {"x": [value]}}.get(argument.mode, value)

    def call(self, number: int, node: Node, values: list[Any]) -> End:
        name = f"n{owner(self.program, number)}"
        body = self.code[name]
        self.attempt = 1
        if self.is_taken(node, values):
            return End("Failed", ANY)
        if node.trouble == "overrun":
            self.code["begin"](name, *[*values, None, None][:2])
            return End("TimedOut", ANY)
        while True:
            try:
                value = body(*values)
                value = asyncio.run(value) if inspect.iscoroutine(value) else value
                value = list(value) if inspect.isgenerator(value) else value
            except signals.Signal as signal:
                end = End(type(signal.state).__name__, signal.state.result)
            except Exception as error:
                end = End("Failed", error)
            else:
                end = returned(value)
            if self.attempt == 1:
                self.seeds.setdefault(name, []).append(self.seen[1])
            again = end.kind == "Retrying" and (not node.retries or self.attempt <= node.retries)
            if not again and (end.kind != "Failed" or self.attempt > node.retries):
                break
            self.attempt += 1
        return self.noted(number, node, end)

    def noted(self, number: int, node: Node, end: End) -> End:
        """Note what the end of a call means for others, and return it."""
        if node.mutates and self.seen[1] % node.rarity == 0:
            return End("Failed", ANY)  # it is found to have changed its argument
        if node.late and node.style == "generator" and not node.mapped and end.kind != "Success":
            self.delivered[number] = self.seen[1]
        if end.kind == "Success":
            self.made.add((f"n{owner(self.program, number)}", self.seen[1]))
        return End("Failed", ANY) if end.kind == "Retrying" else end

    def is_taken(self, node: Node, values: list[Any]) -> bool:
        """Whether an earlier child has the name of the result of this one, which takes it if not."""
        name = (node.template, str(values[0])) if node.place and "${a}" in node.template else None
        if name is None or name in self.taken:
            return name is not None
        self.taken.add(name)
        return False

    def find_names(self) -> None:
        """Find the features that inputs show."""
        for number, node in enumerate(self.program):
            seeds = self.seeds.get(f"n{number}", [])
            if node.cache == "for" and len(set(seeds)) > 1:
                self.names.add("cache_for_siblings")
            if node.cache and len(set(seeds)) < len(seeds):
                self.names.add("cache_in_flight")
            if node.place and "${a}" in node.template:
                rows = [str(item) for item in self.constant(node.arguments[0])]
                if len(set(rows)) < len(rows):
                    self.names.add("equal_targets")


def returned(value: Any) -> End:
    """Return how a call ends whose body returned this: a state says it itself."""
    from prefectish.engine.state import State

    return End(type(value).__name__, value.result) if isinstance(value, State) else End("Success", value)


def skipped(end: Any) -> bool:
    """Whether something skips what reads it as a whole."""
    return any(e.kind == "Skipped" for e in end) if isinstance(end, list) else end.kind == "Skipped"


def skips_whole(by_item: bool, end: Any) -> bool:
    """Whether an input skips a map as a whole; children that were skipped skip but their own."""
    return skipped(end) if not by_item or isinstance(end, End) else False


def by_position(value: Any) -> list[Any] | None:
    """Return the items of a value that can be mapped over, by their positions; None of another."""
    kind = type(value).__name__
    if kind in ("Series", "Index"):
        return [value.iloc[i] for i in range(len(value))] if kind == "Series" else list(value)
    if kind in ("dict", "set", "frozenset", "str", "bytes", "DataFrame") or not hasattr(value, "__getitem__"):
        return None
    return [value[i] for i in range(len(value))] if hasattr(value, "__len__") else None


def is_table(value: Any) -> bool:
    """Whether `flatten` refuses a value: it has rows, but not by position."""
    return type(value).__name__ == "DataFrame"


def elements(value: Any) -> list[Any] | None:
    """Return what `flatten` finds in an item; None if it is one element. Text is one."""
    return None if isinstance(value, str | bytes) else by_position(value)


def flat(value: Any, listed: list[Any]) -> Any:
    """Return a value without a level, if it has a second one."""
    found: list[Any] = []
    for item in listed:
        inner = elements(item)
        found += [item] if inner is None else inner
    return found


def trigger(name: str, states: Ends, upstream: bool, empty: bool) -> End | None:
    """Return how a call ends that its trigger keeps from running, None of one that runs."""
    if not upstream:
        return None
    good = [state.kind in GOOD for state in states]
    bad = [state.kind not in GOOD for state in states]
    if name == "not_all_skipped" and states and not empty and all(s.kind == "Skipped" for s in states):
        return End("Skipped")
    passes = {
        "all_successful": all(good),
        "all_finished": True,
        "any_successful": any(good),
        "any_failed": any(bad),
        "all_failed": all(bad),
        "not_all_skipped": all(good),
        "some_successful": sum(good) >= round(0.5 * len(good), 9),
    }
    return None if passes[name] else End("TriggerFailed", signals.TRIGGERFAIL(""))


def foretell(program: Program) -> Foretold | Refused:
    """Return what a program must give."""
    return Oracle(program).foretell()


def tried(program: Program) -> set[str]:
    """Return the names of all that a program tries."""
    foretold = foretell(program)
    return features(program) | (foretold.names if isinstance(foretold, Foretold) else set())
