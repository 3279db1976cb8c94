"""Flows as functions: calls run, `submit` and `map` return futures. The engine is that of ``with Flow()``."""

from prefectish.functions.decorator import FlowFunction, flow
from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.functions.waiting import DoneAndNotDone, as_completed, wait

__all__ = ["DoneAndNotDone", "FlowFunction", "MapFuture", "TaskFuture", "as_completed", "flow", "wait"]
