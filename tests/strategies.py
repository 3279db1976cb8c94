"""Programs for hypothesis: flows of any shape, whose bodies do the same wherever and in whatever order they run.

A program is plain data, so that a failing example can be read. `build` makes a flow of it, `told` makes the outcome
comparable: exceptions count by type and text.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

from hypothesis import strategies as st

from prefectish import Flow, Task, context, flatten, mapped, pause_task, triggers, unmapped
from prefectish.engine import clock as clocks
from prefectish.engine import signals
from prefectish.engine.state import Cancelled, Mapped, State

TRIGGERS = {
    "all_successful": triggers.all_successful,
    "all_finished": triggers.all_finished,
    "any_successful": triggers.any_successful,
    "any_failed": triggers.any_failed,
    "all_failed": triggers.all_failed,
    "not_all_skipped": triggers.not_all_skipped,
    "some_successful": triggers.some_successful(at_least=0.5),
}

CONSTANTS = (7, "ab", [1, 2], [3, 4], [5, 6, 7], [], [[1, 2], [3]], [[1], 2])

#: How an input is read: as it is, item by item, element by element, or flattened as a whole.
MODES = ("mapped", "flatten mapped", "plain", "flatten", "mapped")


class Argument(NamedTuple):
    """Where an argument comes from: the node of that number or, below 0, a constant."""

    source: int
    mode: str


class Node(NamedTuple):
    """One task of a program."""

    shape: str
    length: int
    uneven: bool
    trouble: str
    rarity: int
    trigger: str
    skips: bool
    retries: int
    strict: bool
    batch: int | str | None
    limit: int | None
    arguments: tuple[Argument, ...]
    #: Upstreams that hand over no value.
    after: tuple[Argument, ...]
    #: Seconds that a call of the body takes, times 0 to 2; limits of a call and of all calls; delay of retries.
    nap: float = 0.0
    timeout: float | None = None
    total: float | None = None
    delay: float = 0.0


#: A body that pauses for a time, or fails in mid-loop, needs a clock that the test moves.
TIMED_TROUBLES = ("none", "unsteady", "retry", "loop", "stumble", "pause", "timed pause")
TROUBLES = ("none", "fail", "skip", "unsteady", "retry", "loop", "success", "cancel", "pause", "exit")


def arguments(number: int) -> st.SearchStrategy[Argument]:
    """Draw what node `number` reads: as a rule a node shortly before it, so that chains get long."""
    sources = st.integers(-len(CONSTANTS), -1)
    if number:
        sources = st.one_of(st.integers(max(0, number - 2), number - 1), st.integers(0, number - 1), sources)
    return st.builds(Argument, sources, st.sampled_from(MODES))


def nodes(number: int, timed: bool = False, limited: bool = False) -> st.SearchStrategy[Node]:
    """Draw node `number`: with `timed` it may wait for hours, with `limited` its body may take longer than it has."""
    # hypothesis would invent what has a default
    times: dict[str, Any] = {"nap": st.just(0.0), "timeout": st.none(), "total": st.none(), "delay": st.just(0.0)}
    if timed:
        times["delay"] = st.sampled_from([0.0, 30.0, 3600.0])
    if limited:
        times["nap"] = st.sampled_from([0.0, 4.0, 10.0])
        times["timeout"] = st.sampled_from([None, 5.0, 10.0])
        times["total"] = st.sampled_from([None, None, 15.0, 25.0])
    troubles = (*TROUBLES, *TIMED_TROUBLES) if timed else TROUBLES
    return st.builds(
        Node,
        **times,
        shape=st.sampled_from(["number", "list", "nested", "mixed"]),
        length=st.sampled_from([2, 2, 2, 3, 0]),
        uneven=st.booleans(),
        trouble=st.one_of(st.just("none"), st.sampled_from(troubles)),
        rarity=st.integers(1, 4),
        trigger=st.one_of(st.just("all_successful"), st.sampled_from(sorted(TRIGGERS))),
        skips=st.booleans(),
        retries=st.integers(0, 2),
        strict=st.booleans(),
        batch=st.sampled_from([None, None, None, 2, "auto"]),
        limit=st.sampled_from([None, None, None, 1, 2]),
        arguments=st.lists(arguments(number), max_size=2).map(tuple),
        after=st.lists(arguments(number), max_size=1).map(tuple),
    )


@st.composite
def programs(draw: st.DrawFn, largest: int = 7, timed: bool = False, limited: bool = False) -> tuple[Node, ...]:
    """Draw a program of up to `largest` tasks."""
    return tuple(draw(nodes(number, timed, limited)) for number in range(draw(st.integers(1, largest))))


def plain(value: Any) -> Any:
    """Make a value comparable: exceptions count by type and text."""
    if isinstance(value, BaseException):
        return (type(value).__name__, str(value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


class Work(Task):
    """The body of every node; what it does depends on its inputs and on nothing else."""

    def __init__(self, node: Node, **options: Any) -> None:
        self.node = node
        super().__init__(**options)

    def run(self, a: Any = None, b: Any = None) -> Any:
        seed = zlib.crc32(repr((self.name, plain(a), plain(b))).encode()) % 1000
        pauses = "pause" in self.node.trouble  # a body that goes on from a pause is called anew, and naps but once
        if not pauses:
            self.take_time(seed)
        if seed % self.node.rarity == 0:
            self.make_trouble(seed)
        if pauses:
            self.take_time(seed)
        length = self.node.length + (seed % 2 if self.node.uneven else 0)
        if self.node.shape == "number":
            return seed
        if self.node.shape == "list":
            return [seed + k for k in range(length)]
        if self.node.shape == "nested":
            return [[seed + k] * k for k in range(length)]
        return [seed if k % 2 else [seed, k] for k in range(length)]

    def take_time(self, seed: int) -> None:
        if self.node.nap:
            clocks.current.sleep(self.node.nap * (seed % 3))

    def make_trouble(self, seed: int) -> None:
        attempt = context.task_run_count
        turn = context.get("task_loop_count", 1)
        match self.node.trouble:
            case "fail":
                raise ValueError(f"seed {seed}")
            case "unsteady" if attempt <= 1:
                raise OSError(f"seed {seed}, attempt {attempt}")
            case "retry" if attempt <= 2:
                raise signals.RETRY(f"seed {seed}")
            case "loop" if turn <= 3:
                raise signals.LOOP(result=seed)
            case "skip":
                raise signals.SKIP(f"seed {seed}")
            case "success":
                raise signals.SUCCESS("early", result=[seed, seed])
            case "cancel":
                raise signals.ENDRUN(Cancelled(f"seed {seed}"))
            case "exit":
                raise SystemExit(seed)
            case "pause" | "timed pause" | "stumble":
                self.stop_for_a_while(seed, turn, attempt)

    def stop_for_a_while(self, seed: int, turn: int, attempt: int) -> None:
        """Pause, or loop to a fourth turn and fail once in the second."""
        if self.node.trouble != "stumble":
            pause_task(f"seed {seed}", duration=1 + self.node.delay if self.node.trouble == "timed pause" else None)
        elif turn == 2 and attempt <= 1:
            raise OSError(f"seed {seed}, turn {turn}")
        elif turn <= 3:
            raise signals.LOOP(result=seed)


def build(program: tuple[Node, ...], handlers: tuple[Any, ...] = ()) -> tuple[Flow, list[Task]]:
    """Make the flow of a program; task n is node n."""
    made: list[Task] = []

    def read(argument: Argument) -> Any:
        value: Any = made[argument.source] if argument.source >= 0 else CONSTANTS[argument.source]
        if argument.mode == "plain":
            return unmapped(value)
        if argument.mode == "flatten":
            return unmapped(flatten(value))
        if isinstance(value, int | str):
            return value  # a number, or text, is refused as a constant to map over while the flow is built
        return mapped(flatten(value)) if argument.mode == "flatten mapped" else mapped(value)

    with Flow("program") as flow:
        for number, node in enumerate(program):
            work = Work(
                node,
                name=f"n{number}",
                trigger=TRIGGERS[node.trigger],
                skip_on_upstream_skip=node.skips,
                strict_map=node.strict,
                batch_size=node.batch,
                max_concurrency=node.limit,
                retries=node.retries,
                retry_delay_seconds=node.delay if node.retries else None,
                timeout=node.timeout,
                total_timeout=node.total,
                state_handlers=list(handlers),
            )
            inputs = dict(zip("ab", map(read, node.arguments), strict=False))
            made.append(work.bind(**inputs, upstream_tasks=[read(each) for each in node.after]))
    return flow, made


def told(state: State) -> Any:
    """Describe a state so that it can be compared with that of another run."""
    if isinstance(state, Mapped):
        return ("Mapped", [told(child) if child is not None else None for child in state.map_states])
    return (type(state).__name__, str(state.message), plain(state.result))


def outcome(flow_state: State, made: list[Task]) -> list[Any]:
    """Describe what became of a program: the flow, then each node."""
    return [(type(flow_state).__name__, flow_state.message), *(told(flow_state.result[task]) for task in made)]
