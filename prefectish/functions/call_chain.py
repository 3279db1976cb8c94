"""The calls of one signature and their chain: rows that come one by one, each with inputs of its own."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from prefectish.engine.jobs.job import CALL, Upcoming
from prefectish.engine.plan.steps import Step
from prefectish.engine.scheduling.run_state import StepChain, StepState
from prefectish.engine.state import State
from prefectish.functions.settled import Settled


class CallStepState(StepState):
    """The calls of one signature, each of which may begin from a state that the caller of the flow gave."""

    __slots__ = ("given",)

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.given: dict[int, State] = {}  # by row

    def start_of(self, row: int) -> State | None:
        """Return the state from which a call begins if the caller gave one."""
        return self.given.get(row)


class CallChain(StepChain):
    """Rows that come one by one, each with inputs of its own."""

    __slots__ = ("follow", "inputs", "keys", "queue", "reads")

    def __init__(self, step_state: StepState) -> None:
        super().__init__([step_state], step_state.step.stage, step_state.map_state)
        self.precedence = CALL
        self.inputs: dict[int, tuple[Any, ...]] = {}  # of rows that have not started
        self.follow: set[int] = set()  # those of them that may begin while what they read is open
        self.keys: dict[int, str] = {}  # keys of rows that have not ended, by their arguments
        self.reads: dict[int, tuple[tuple[int, int | None], ...]] = {}  # what they read, in a run that is resumed
        self.queue: list[tuple[float, int, int]] = []  # rows that can start: rank, arrival, row

    def key_of(self, row: int) -> str | None:
        """Return the key of a call, by its arguments."""
        return self.keys.get(row)

    def reads_of(self, row: int) -> tuple[tuple[int, int | None], ...]:
        """Return the steps and rows that a call reads."""
        return self.reads.get(row, ())

    def put(self, row: int, inputs: tuple[Any, ...], rank: float, arrival: int) -> bool:
        """Let a row start; those with the larger rank go first, then those that came first. True if it is the next."""
        self.inputs[row] = inputs
        entry = -rank, arrival, row
        heappush(self.queue, entry)
        self.arrival = self.queue[0][1]
        return self.queue[0] is entry

    def withdraw(self, row: int) -> None:
        """Forget a row that has not started."""
        self.inputs.pop(row, None)
        self.follow.discard(row)
        self.queue = sorted(entry for entry in self.queue if entry[-1] != row)

    def items_of(self, row: int) -> tuple[Any, ...]:
        """Return the inputs of a row that starts; its `MapRow` keeps them from now on."""
        self.follow.discard(row)
        return tuple([_state_or_upcoming(i) if type(i) is Settled else i for i in self.inputs.pop(row)])

    def next_row(self) -> int | None:
        """Return the next row to start, None if none is ready; one that cannot follow yet starts once all is known."""
        while self.queue:
            row = heappop(self.queue)[-1]
            if self.queue:
                self.arrival = self.queue[0][1]
            if row not in self.follow or self._can_follow(row):
                return row
            self.follow.discard(row)
            del self.inputs[row]
        return None

    def _can_follow(self, row: int) -> bool:
        """Whether all that a row reads is known, or open at the executor."""
        inputs = (i for i in self.inputs[row] if type(i) is Settled)
        return not self.limited and all(i.state is not None or _open_job(i) is not None for i in inputs)


def _open_job(outcome: Settled) -> Upcoming | None:
    """Return what stands for the state of a call, or of a child, that is open at the executor; None if it is not."""
    step_state, row = outcome.step_state, outcome.row
    chain = None if step_state is None else step_state.chain
    map_row = None if chain is None or row is None else chain.open_rows.get(row)
    if map_row is None or step_state is None or chain is None:
        return None
    position = chain.position[step_state.step.number]
    for job in map_row.jobs:
        if job.awaiting >> position & 1 and not (job.solo or job.probe_only or job.batch is not None):
            return Upcoming(job, position)
    return None


def _state_or_upcoming(outcome: Settled) -> Any:
    return outcome.state or _open_job(outcome)
