"""Flows as functions: calls run, `submit` and `map` return futures. The engine is that of ``with Flow()``."""

from prefectish.eager.decorator import FlowFunction, flow
from prefectish.eager.futures import MapFuture, TaskFuture
from prefectish.eager.waiting import DoneAndNotDone, as_completed, wait

__all__ = ["DoneAndNotDone", "FlowFunction", "MapFuture", "TaskFuture", "as_completed", "flow", "wait"]
