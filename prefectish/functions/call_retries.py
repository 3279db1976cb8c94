"""Calls that failed run again, on request of the handle: those whose failure was not read yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefectish.engine.clock import Now
from prefectish.engine.scheduling.items import as_success_if_ambiguous
from prefectish.engine.scheduling.retry_failed import CannotRetry, FailedRetrier, is_here
from prefectish.engine.state import State
from prefectish.functions.settled import Settled

if TYPE_CHECKING:
    from prefectish.functions.call_requests import CallSignature, TaskCall
    from prefectish.functions.claims import ResultClaims

#: Calls of a signature that failed and whose arguments are kept, the newest ones.
MOST_KEPT = 1_000


class FailedCalls:
    """The calls of a signature that failed, as far as they may run again."""

    __slots__ = ("_calls", "_open", "again")

    def __init__(self) -> None:
        self._open: dict[int, TaskCall] = {}
        self._calls: dict[int, TaskCall] = {}
        self.again: dict[int, Settled] = {}  # outcomes of those that run again

    def began(self, call: TaskCall) -> None:
        """Note a call."""
        self._open[call.row] = call

    def ended(self, row: int, state: State) -> None:
        """Keep a call that failed, and forget others."""
        call = self._open.pop(row, None)
        if call is not None and state.is_failed():
            self._calls[row] = call
            while len(self._calls) > MOST_KEPT:
                del self._calls[next(iter(self._calls))]

    def take(self, row: int) -> TaskCall:
        """Return a call that may run again.

        Raises
        ------
        CannotRetry
            Its failure has been read, or what it read is gone.
        """
        call = self._calls.get(row)
        if call is None:
            raise CannotRetry(f"the arguments of its failed calls are kept for the last {MOST_KEPT:,} only")
        label = call.outcome.label
        if call.outcome.followed:
            raise CannotRetry(f"what reads {label} has its failure")
        if call.outcome.read:
            raise CannotRetry(f"the failure of {label} was given to the flow function")
        for source in call.outcome.sources:
            if source.state is None or not is_here(source.state):
                raise CannotRetry(f"the result of {source.label} was released after its last reader")
        return call

    def begin_again(self, call: TaskCall) -> None:
        """Note that a call runs again."""
        del self._calls[call.row]
        self._open[call.row] = call
        self.again[call.row] = call.outcome


def retry_calls(
    signature: CallSignature,
    chosen: Callable[[int, State], bool],
    retrier: FailedRetrier,
    claims: ResultClaims,
    now: Now,
) -> int:
    """Run failed calls of a signature again that are chosen by row and state; return their number.

    Raises
    ------
    CannotRetry
        None of those that are chosen can.
    """
    children = signature.step_state.children or ()
    rows = [row for row, state in enumerate(children) if state is not None and state.is_failed() and chosen(row, state)]
    count, refused = 0, []
    for row in rows:
        try:
            call = signature.failed_calls.take(row)
        except CannotRetry as error:
            refused.append(error)
            continue
        chain = signature.chain
        assert chain is not None
        chain.inputs[row] = tuple([a if type(a) is Settled else as_success_if_ambiguous(a) for a in call.arguments])
        if call.key is not None:
            chain.keys[row] = call.key
        claims.claim(call.outcome.sources)
        signature.failed_calls.begin_again(call)
        signature.failed.remove(call.outcome)
        retrier.retry_call(signature.step_state, row, now)
        count += 1
    if refused and not count:
        raise refused[0]
    return count
