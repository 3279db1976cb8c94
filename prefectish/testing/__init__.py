"""Tools to test flows: a virtual clock, injected faults, and assertions on states.

In a program that imports them, bodies that change their arguments fail: ``check_inputs`` is True by default.
"""

from prefectish import config
from prefectish.testing.clock import VirtualClock
from prefectish.testing.faulty import FaultySession
from prefectish.testing.killer import WorkerKiller
from prefectish.testing.states import assert_states

__all__ = ["FaultySession", "VirtualClock", "WorkerKiller", "assert_states"]

config.program_defaults["check_inputs"] = True
