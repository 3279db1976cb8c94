"""Tasks: functions with options, and the tasks created by expressions and collections."""

from typing import TYPE_CHECKING

from prefectish.caching.keys import task_input_hash
from prefectish.missing_names import lead_out
from prefectish.tasks.collections import Constant, Dict, List, Set, Tuple
from prefectish.tasks.runners import DaskTaskRunner, ThreadPoolTaskRunner
from prefectish.tasks.spellings import exponential_backoff
from prefectish.tasks.tagging import tags
from prefectish.tasks.task import FunctionTask, Task, task

__all__ = [
    "Constant",
    "DaskTaskRunner",
    "Dict",
    "FunctionTask",
    "List",
    "Set",
    "Task",
    "ThreadPoolTaskRunner",
    "Tuple",
    "exponential_backoff",
    "tags",
    "task",
    "task_input_hash",
]

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
