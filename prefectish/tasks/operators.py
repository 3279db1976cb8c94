"""Operators on tasks: each adds a task to the active flow that applies the operator to the results.

`==` compares identity, since tasks are used as keys; :meth:`Operand.is_equal` compares results. `|` is not an
operation on results: `a | b` makes `b` run after `a`.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefectish.tasks.not_a_value import NotAValue

if TYPE_CHECKING:
    from prefectish.tasks.task import Task

#: Maximum length of an index in the name of the task that reads it.
MAX_INDEX_LENGTH = 40


def both(x: Any, y: Any) -> Any:
    """Return `x and y`."""
    return x and y


def either(x: Any, y: Any) -> Any:
    """Return `x or y`."""
    return x or y


class Operand(NotAValue):
    """Mixin that makes tasks usable in expressions; Task implements `_operate`."""

    name: str

    @abstractmethod
    def _operate(self, name: str, function: Callable[..., Any], /, *operands: Any) -> Task: ...

    def is_equal(self, other: Any) -> Task:
        """Add a task that compares results by `==`."""
        return self._operate("Equal", operator.eq, self, other)

    def is_not_equal(self, other: Any) -> Task:
        """Add a task that compares results by `!=`."""
        return self._operate("NotEqual", operator.ne, self, other)

    def and_(self, other: Any) -> Task:
        """Add a task that returns `x and y`."""
        return self._operate("And", both, self, other)

    def or_(self, other: Any) -> Task:
        """Add a task that returns `x or y`."""
        return self._operate("Or", either, self, other)

    def not_(self) -> Task:
        """Add a task that returns `not x`."""
        return self._operate("Not", operator.not_, self)

    def __getitem__(self, key: Any) -> Task:
        index = _index_text(key)
        if len(index) > MAX_INDEX_LENGTH:
            index = index[: MAX_INDEX_LENGTH - 1] + "…"
        return self._operate(f"{self.name}[{index}]", operator.getitem, self, key)

    def __and__(self, other: Any) -> Task:
        return self.and_(other)

    def __rand__(self, other: Any) -> Task:
        return self._operate("And", both, other, self)

    def __add__(self, other: Any) -> Task:
        return self._operate("Add", operator.add, self, other)

    def __radd__(self, other: Any) -> Task:
        return self._operate("Add", operator.add, other, self)

    def __sub__(self, other: Any) -> Task:
        return self._operate("Sub", operator.sub, self, other)

    def __rsub__(self, other: Any) -> Task:
        return self._operate("Sub", operator.sub, other, self)

    def __mul__(self, other: Any) -> Task:
        return self._operate("Mul", operator.mul, self, other)

    def __rmul__(self, other: Any) -> Task:
        return self._operate("Mul", operator.mul, other, self)

    def __truediv__(self, other: Any) -> Task:
        return self._operate("Div", operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Task:
        return self._operate("Div", operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Task:
        return self._operate("FloorDiv", operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Task:
        return self._operate("FloorDiv", operator.floordiv, other, self)

    def __mod__(self, other: Any) -> Task:
        return self._operate("Mod", operator.mod, self, other)

    def __rmod__(self, other: Any) -> Task:
        return self._operate("Mod", operator.mod, other, self)

    def __pow__(self, other: Any) -> Task:
        return self._operate("Pow", operator.pow, self, other)

    def __rpow__(self, other: Any) -> Task:
        return self._operate("Pow", operator.pow, other, self)

    def __matmul__(self, other: Any) -> Task:
        return self._operate("MatMul", operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Task:
        return self._operate("MatMul", operator.matmul, other, self)

    def __neg__(self) -> Task:
        return self._operate("Neg", operator.neg, self)

    def __pos__(self) -> Task:
        return self._operate("Pos", operator.pos, self)

    def __abs__(self) -> Task:
        return self._operate("Abs", operator.abs, self)

    # Python reflects these four: `1 < task` calls `task > 1`.

    def __lt__(self, other: Any) -> Task:
        return self._operate("LessThan", operator.lt, self, other)

    def __le__(self, other: Any) -> Task:
        return self._operate("LessThanOrEqual", operator.le, self, other)

    def __gt__(self, other: Any) -> Task:
        return self._operate("GreaterThan", operator.gt, self, other)

    def __ge__(self, other: Any) -> Task:
        return self._operate("GreaterThanOrEqual", operator.ge, self, other)


def _index_text(key: Any) -> str:
    """Return an index as one writes it, tasks in it by their names."""
    if isinstance(key, Operand):
        return str(key.name)
    if isinstance(key, slice):
        start, stop = ("" if end is None else _index_text(end) for end in (key.start, key.stop))
        return f"{start}:{stop}" if key.step is None else f"{start}:{stop}:{_index_text(key.step)}"
    return repr(key)
