"""Help for tests of flows: time that passes when told to, faults on purpose, and states compared in one line."""

from prefectish.testing.clock import VirtualClock
from prefectish.testing.faulty import FaultySession
from prefectish.testing.killer import WorkerKiller
from prefectish.testing.states import assert_states

__all__ = ["FaultySession", "VirtualClock", "WorkerKiller", "assert_states"]
