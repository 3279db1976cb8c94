"""Help for tests of flows: time that passes when told to, faults on purpose, and states compared in one line."""

from prefectish.testing.killer import WorkerKiller

__all__ = ["WorkerKiller"]
