"""Expressions of branches and resources, as plain data: built as tasks of one item, or evaluated by Python itself.

What Python makes of an expression is what a flow has to make of it. A branch that is not taken is never evaluated, and
neither is what fails in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from prefectish import Task, case, ifelse, merge, resource_manager, switch, task

#: Numbers are counted modulo this, so that equal ones are common.
MODULUS = 3


class Item(NamedTuple):
    """The item itself."""


class Constant(NamedTuple):
    """A number that a task without inputs returns."""

    number: int


class Earlier(NamedTuple):
    """The value of an earlier expression of the program, counted back; the item where there is none."""

    back: int


class Sum(NamedTuple):
    """The sum of two expressions and a number; fails if it is `bad`."""

    one: Any
    other: Any
    number: int
    bad: int | None


class Branch(NamedTuple):
    """One expression if another equals a value, else a third; by `case`, `switch` or `ifelse`."""

    how: str
    condition: Any
    value: int
    yes: Any
    no: Any


class Use(NamedTuple):
    """The sum of a resource, made of one expression, and of another one, evaluated while it is there."""

    size: Any
    body: Any


Expression = Item | Constant | Earlier | Sum | Branch | Use

leaves = st.one_of(
    st.just(Item()),
    st.builds(Constant, st.integers(0, MODULUS - 1)),
    st.builds(Earlier, st.integers(1, 3)),
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    numbers = st.integers(0, MODULUS - 1)
    branches = st.builds(Branch, st.sampled_from(["case", "switch", "ifelse"]), inner, numbers, inner, inner)
    sums = st.builds(Sum, inner, inner, numbers, st.none() | numbers)
    return st.one_of(branches, sums, st.builds(Use, inner, inner))


expressions = st.recursive(leaves, larger, max_leaves=8)
programs = st.lists(expressions, min_size=1, max_size=3).map(tuple)


# ---------------------------------------------------------------------- as tasks


class Add(Task):
    """Adds its inputs up."""

    def __init__(self, number: int = 0, bad: int | None = None) -> None:
        self.number = number
        self.bad = bad
        super().__init__()

    def run(self, one: int, other: int = 0) -> int:
        return add(one, other, self.number, self.bad)


def add(one: int, other: int, number: int = 0, bad: int | None = None) -> int:
    total = (one + other + number) % MODULUS
    if total == bad:
        raise ValueError(f"the sum is {bad}")
    return total


@task
def give(number: int) -> int:
    return number


class Scale:
    """A resource that cannot be had for every size."""

    def __init__(self, size: int) -> None:
        if size == MODULUS - 1:
            raise ValueError(f"{size} is too large")
        self.size = size

    def setup(self) -> int:
        if self.size == 0:
            raise ValueError("nothing to set up")
        return self.size + 1

    def cleanup(self, scale: int) -> None:
        assert scale == self.size + 1


Managed = resource_manager(Scale)


def build(program: tuple[Expression, ...], item: Any) -> list[Any]:
    """Record a program in the active flow; return the task of each expression."""
    made: list[Any] = []
    for expression in program:
        made.append(Add()(task_of(expression, item, made)))
    return made


def task_of(expression: Any, item: Any, made: list[Any]) -> Any:
    match expression:
        case Item():
            return item
        case Constant(number):
            return give(number)
        case Earlier(back):
            return made[-back] if back <= len(made) else item
        case Sum(one, other, number, bad):
            return Add(number, bad)(task_of(one, item, made), task_of(other, item, made))
        case Use(size, body):
            with Managed(task_of(size, item, made)) as scale:
                return Add()(scale, task_of(body, item, made))
        case Branch():
            return task_of_branch(expression, item, made)
    raise AssertionError(expression)


def task_of_branch(branch: Branch, item: Any, made: list[Any]) -> Any:
    asked = Add()(task_of(branch.condition, item, made))
    equal = asked.is_equal(branch.value)
    if branch.how == "case":
        with case(equal, True):
            yes = Add()(task_of(branch.yes, item, made))
        with case(equal, False):
            no = Add()(task_of(branch.no, item, made))
    else:
        yes, no = Add()(task_of(branch.yes, item, made)), Add()(task_of(branch.no, item, made))
        if branch.how == "switch":
            switch(equal, {True: yes, False: no})
        else:
            ifelse(equal, yes, no)
    return merge(yes, no)


# ---------------------------------------------------------------------- as Python


def evaluate(program: tuple[Expression, ...], item: int) -> list[int | None]:
    """Return the value of each expression, None for one that fails."""
    values: list[int | None] = []
    for expression in program:
        try:
            values.append(value_of(expression, item, values) % MODULUS)
        except ValueError:
            values.append(None)
    return values


def value_of(expression: Any, item: int, values: list[int | None]) -> int:
    match expression:
        case Item():
            return item
        case Constant(number):
            return number
        case Earlier(back):
            return known(values[-back]) if back <= len(values) else item
        case Sum(one, other, number, bad):
            return add(value_of(one, item, values), value_of(other, item, values), number, bad)
        case Use(size, body):
            scale = Scale(value_of(size, item, values)).setup()
            return add(scale, value_of(body, item, values))
        case Branch(_, condition, value, yes, no):
            taken = value_of(condition, item, values) % MODULUS == value
            return value_of(yes if taken else no, item, values) % MODULUS
    raise AssertionError(expression)


def known(value: int | None) -> int:
    if value is None:
        raise ValueError("an earlier expression failed")
    return value
