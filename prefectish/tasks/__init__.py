"""Tasks: functions with options, and the tasks created by expressions and collections."""

from prefectish.caching.keys import task_input_hash
from prefectish.tasks.collections import Constant, Dict, List, Set, Tuple
from prefectish.tasks.tagging import tags
from prefectish.tasks.task import FunctionTask, Task, task

__all__ = ["Constant", "Dict", "FunctionTask", "List", "Set", "Task", "Tuple", "tags", "task", "task_input_hash"]
