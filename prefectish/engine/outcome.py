"""The former name of :mod:`prefectish.engine.task_states`: results stored by earlier releases name it."""

from prefectish.engine.task_states import ChildStates, MapResult, TaskStates

__all__ = ["ChildStates", "MapResult", "TaskStates"]
