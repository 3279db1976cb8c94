"""A task: a body and the options under which it runs.

A task knows nothing of a run and holds no flow. Calling it *records*: a copy of the task, and what its arguments are,
go into the flow whose block is open (:meth:`prefectish.flows.Flow.set_dependencies`). What is pickled of a task is its
body and the options that were given, because a copy of it travels with every map.
"""

from __future__ import annotations

import functools
import logging
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, NamedTuple, NoReturn, Self, Unpack, overload

from prefectish.edges import allow_failure as allowing_failure
from prefectish.engine.call_options import CallOptions
from prefectish.engine.context import current, get_logger
from prefectish.errors import FlowDefinitionError
from prefectish.safe_repr import printable
from prefectish.tasks import options as task_options
from prefectish.tasks.operators import Operand
from prefectish.tasks.options import NamedTaskOptions, TaskOptions
from prefectish.tasks.returns import annotated_nout
from prefectish.tasks.signatures import callable_by_keyword, inputs_of
from prefectish.triggers import all_successful

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from typing_extensions import ParamSpec, TypeVar  # part of what type checkers bring

    from prefectish.engine.state import State
    from prefectish.flows import Flow
    from prefectish.functions.futures import TaskFuture
    from prefectish.tasks.typed import A, Argument, B, C, D, Decorator, Items, Q, S, Sent, Takes, Whole

    R = TypeVar("R", covariant=True, default=Any)
    P = ParamSpec("P", default=...)
    Body = TypeVar("Body", default=R)
else:
    from typing import ParamSpec, TypeVar

    R, P, Body = TypeVar("R"), ParamSpec("P"), TypeVar("Body")


class Home(NamedTuple):
    """Where the result of a call lives; the names outlive the flow."""

    flow: weakref.ref[Flow]
    slug: str
    flow_name: str


class Task(Operand, Generic[R]):
    """A unit of work; subclasses give it a body by defining `run`, :func:`task` makes one of a function.

    For type checkers, `Task[R]` returns an `R`; a subclass says so by its base: ``class Total(Task[float])``.

    Parameters
    ----------
    name
        Default: the name of the class, or of the function.
    **options
        Each has the name of an attribute and is documented there. Further: `retries` and `retry_delay_seconds` (other
        spellings of `max_retries` and `retry_delay`; the delay of `retries` is 0 s by default) and `on_failure` (a
        function of the task and the failed state, added to the state handlers).

    Raises
    ------
    TypeError, ValueError
        If an option is unknown or has an impossible value, or `run` takes ``*args`` or an argument of a reserved name.
    """

    name: str
    #: Given by the user; a flow makes one up otherwise.
    slug: str | None = None
    tags: frozenset[str] = frozenset()
    #: Attempts after the first.
    max_retries: int = 0
    #: Seconds, a timedelta, a list of them (one a retry, the last repeats), or a function of the attempt.
    retry_delay: Any = None
    #: Exception types that are retried; None: all.
    retry_on: tuple[type[BaseException], ...] | None = None
    #: Factor >= 1 by which the delay grows, "exponential" (2), or a function.
    retry_backoff: Any = None
    #: Fraction >= 0 by which a delay may be longer, at random.
    retry_jitter: float | None = None
    #: Seconds one call of the body may take: an attempt, or a turn of a loop.
    timeout: float | None = None
    #: Seconds all calls of the body may take together, in all attempts and turns, waits between them not counted.
    total_timeout: float | None = None
    #: Seconds from the start of the first child of a map until the open ones are given up.
    map_timeout: float | None = None
    #: "process": the body runs in a process of its own, which is killed at the limit, and whose death is its alone.
    #: "thread": a body that cannot be interrupted is left behind at its limit, and its result is dropped.
    isolation: str = "thread"
    #: Function of a dict from edges to states that says whether the task may run.
    trigger: Callable[..., Any]
    skip_on_upstream_skip: bool = True
    #: Called in order at each change of state with (task, old state, new state).
    state_handlers: list[Callable[..., Any]]
    #: Whether prints in the body go to the task's logger.
    log_stdout: bool = False
    #: What its runs are called: a template of its fields and inputs (``"load ${url}"``), or a function of them.
    task_run_name: str | Callable[..., Any] | None = None
    #: How many results the body returns, for unpacking.
    nout: int | None = None
    #: Whether lists of unequal length may not be mapped together.
    strict_map: bool = True
    #: Children in one job: a number >= 1 or "auto".
    batch_size: int | str | None = None
    #: Children that run at the same time, at most.
    max_concurrency: int | None = None
    #: Starts per second, at most (given as a number or as "10/s", "600/m", "90/h").
    rate: float | None = None
    #: "continue", "stop" (start no more children) or "cancel" (drop running ones too).
    on_child_failure: str = "continue"
    #: Failed children, a count or a ratio below 1, that stop the map.
    max_failures: float | None = None
    #: Abstract resources that a child occupies, by name.
    resources: dict[str, float] | None = None
    #: Addresses or names of the workers it may run on.
    workers: tuple[str, ...] | None = None
    #: Larger runs earlier; a number or a function of the item.
    priority: Any = None
    #: Runs after one that took its worker down.
    crash_retries: int = 0
    #: Whether an attempt that was lost with its worker, or its driver, runs again. False: it has Crashed; the task
    #: needs a store of results that the workers share, for its start marker.
    rerun_on_loss: bool = True
    #: Where its results are kept; None: where the flow's are.
    result: Any = None
    #: Name of a result that, where it exists, stands for a run: a template or a function of its fields.
    target: str | Callable[..., str] | None = None
    #: Whether its results are kept where there is a store; None: yes.
    checkpoint: bool | None = None
    #: What a child of a map is: the name of a mapped argument, or a function of the item; None: a hash of the item.
    item_key: str | Callable[..., Any] | None = None
    #: How long a result stands for further runs in this process.
    cache_for: timedelta | None = None
    #: Function of (cached state, inputs, parameters) that says whether it stands for a run.
    cache_validator: Callable[..., Any] | None = None
    #: Name of the cache, to share it; None: the task's name.
    cache_key: str | None = None
    #: Function of (context, arguments) whose text a result is found by, in other processes too.
    cache_key_fn: Callable[..., str | None] | None = None
    #: How long results of `cache_key_fn` are good; None: for ever.
    cache_expiration: timedelta | None = None
    #: Whether it was made by an expression or for a constant, and not by the user.
    auto_generated: bool = False
    #: Whether a call in a flow function gives the state, and does not raise.
    return_state: bool = False
    #: Whether a run that is given its finished state runs it again all the same.
    runs_again: bool = False

    _home: Home | None = None

    if TYPE_CHECKING:
        run: Callable[..., Any]

        @property
        def _returned(self) -> R: ...

    else:

        def run(self) -> None:
            """Do the work; a subclass overrides it with the arguments it needs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an instance; the arguments are for `__init__`."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, Task):
                warnings.warn(
                    f"{cls.__name__}(...) was given {value!r} while it was made; to depend on a task, make this one "
                    f"first and then call it: {cls.__name__}()(...)",
                    stacklevel=2,
                )
        return super().__new__(cls)

    def __init__(self, name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        _refuse_unknown(options)
        self._warn_of_overwriting()
        self.name = _checked_name(name) or type(self).__name__
        self.trigger = all_successful
        self.state_handlers = []
        if options:
            self.__dict__.update(task_options.resolve(options, self.__dict__))
        if self.nout is None and (nout := annotated_nout(self.run)) is not None:
            self.nout = nout
        active = current().get("tags")
        if active:
            self.tags |= active
        inputs_of(self.run, self.name)
        flow = current().get("flow")
        if flow is not None:
            flow.note_created(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in sorted(task_options.OPTION_NAMES & vars(cls).keys()):
            warnings.warn(
                f"{cls.__name__}.{name} has the name of an option; pass it to super().__init__({name}=...), which "
                f"checks it",
                stacklevel=2,
            )

    def _warn_of_overwriting(self) -> None:
        for name in sorted(task_options.OPTION_NAMES & self.__dict__.keys()):
            warnings.warn(
                f"{type(self).__name__} sets self.{name} before super().__init__(), which resets it; "
                f"pass {name}= there",
                stacklevel=3,
            )

    @property
    def logger(self) -> logging.Logger:
        """The logger named after the task."""
        return get_logger(self.name)

    def copy(self, **options: Any) -> Self:
        """Copy the task, with other options.

        Parameters
        ----------
        **options
            Options, or attributes that a subclass has; tags are added to the original's.

        Raises
        ------
        AttributeError
            If the task has no such attribute.
        """
        flow = current().get("flow")
        if flow is not None and self in flow.tasks and (flow.edges_to(self) or flow.edges_from(self)):
            warnings.warn(f"{self!r} has edges in {flow!r}; its copy does not have them", stacklevel=2)
        new = self._copy(options)
        if self.slug is not None and "slug" not in options:
            new.slug = f"{self.slug}-copy"
        if flow is not None:
            flow.note_created(new)
        return new

    def _copy(self, options: Mapping[str, Any]) -> Self:
        new = object.__new__(type(self))
        attributes = new.__dict__
        attributes.update(self.__dict__)
        attributes.pop("_home", None)
        attributes["state_handlers"] = list(self.state_handlers)
        if options:
            new._change(options)
        active = current().get("tags")
        if active:
            new.tags |= active
        flow = current().get("flow")
        if flow is not None:
            flow.note_used(self)
        return new

    def _change(self, options: Mapping[str, Any]) -> None:
        known = {name: value for name, value in options.items() if name in task_options.OPTION_NAMES}
        for name, value in options.items():
            if name not in known:
                if not hasattr(self, name):
                    raise AttributeError(f"{self!r} does not have {name!r} as an attribute or option{_guess(name)}")
                setattr(self, name, value)
        self.name = _checked_name(known.get("name")) or self.name
        tags = self.tags
        self.__dict__.update(task_options.resolve(known, self.__dict__))
        self.tags |= tags

    @overload
    def __call__(self, /, *args: Any, mapped: Literal[True], **kwargs: Any) -> Task[list[R]]: ...

    @overload
    def __call__(self: Takes[..., S], /, **kwargs: Any) -> Task[S]: ...

    @overload
    def __call__(self: Takes[Concatenate[A, ...], S], a: Argument[A], /, **kwargs: Any) -> Task[S]: ...

    @overload
    def __call__(self: Takes[Concatenate[list[A], ...], S], a: Whole[A], /, *more: Any, **kwargs: Any) -> Task[S]: ...

    @overload
    def __call__(
        self: Takes[Concatenate[A, B, ...], S], a: Argument[A], b: Argument[B], /, **kwargs: Any
    ) -> Task[S]: ...

    @overload
    def __call__(
        self: Takes[Concatenate[A, list[B], ...], S], a: Argument[A], b: Whole[B], /, *more: Any, **kwargs: Any
    ) -> Task[S]: ...

    @overload
    def __call__(
        self: Takes[Concatenate[A, B, C, ...], S], a: Argument[A], b: Argument[B], c: Argument[C], /, **kwargs: Any
    ) -> Task[S]: ...

    @overload
    def __call__(
        self: Takes[Concatenate[A, B, C, D, ...], S],
        a: Argument[A],
        b: Argument[B],
        c: Argument[C],
        d: Argument[D],
        /,
        *more: Any,
        **kwargs: Any,
    ) -> Task[S]: ...

    def __call__(
        self: Any,
        /,
        *args: Any,
        mapped: bool = False,
        task_args: Mapping[str, Any] | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        return_state: bool | None = None,
        allow_failure: bool = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Record a call of the task in a flow; inside a flow function, run it and return what it returns.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the body: values, tasks whose results they shall be, or these in a wrapper or a collection.
        mapped
            Run once for each item of the arguments.
        task_args
            Options of this call's copy.
        upstream_tasks
            What to wait for besides.
        flow
            Default: the flow whose `with` block is open.
        return_state
            In a flow function: return the state and do not raise; default: as the task's option says.
        allow_failure
            Failures of what it reads or waits for do not keep it from running. In a flow function its own failure is
            returned as its state, too, and not raised.
        wait_for
            Another name for `upstream_tasks`.

        Returns
        -------
        Task
            The copy in the flow, which stands for the result; in a flow function, the result.

        Raises
        ------
        FlowDefinitionError
            If there is no flow.
        TypeError
            If the arguments do not fit the body.
        """
        if wait_for is not None:
            upstream_tasks = [*_several(upstream_tasks), *_several(wait_for)]
        run = self._function_run() if flow is None else None
        if run is not None:
            options = self._call_options(upstream_tasks, return_state, allow_failure, task_args)
            return (run.map if mapped else run.call)(self, args, kwargs, options)
        if return_state:
            raise TypeError(f"{self.name}(..., return_state=True): a call that is recorded has no state before the run")
        if allow_failure:
            args, kwargs = _allowing(args), {name: allowing_failure(value) for name, value in kwargs.items()}
            upstream_tasks = _allowing(_several(upstream_tasks))
        flow = self._flow(flow)
        new = self._copy(task_args or {})
        new.bind(*args, mapped=mapped, upstream_tasks=upstream_tasks, flow=flow, **kwargs)
        new._home = Home(weakref.ref(flow), flow.slugs[new], flow.name)
        return new

    @overload
    def map(self: Takes[..., S], /, **kwargs: Any) -> Task[list[S]]: ...

    @overload
    def map(self: Takes[Concatenate[A, ...], S], a: Items[A], /, **kwargs: Any) -> Task[list[S]]: ...

    @overload
    def map(self: Takes[Concatenate[A, B, ...], S], a: Items[A], b: Items[B], /, **kwargs: Any) -> Task[list[S]]: ...

    @overload
    def map(
        self: Takes[Concatenate[A, B, C, ...], S], a: Items[A], b: Items[B], c: Items[C], /, **kwargs: Any
    ) -> Task[list[S]]: ...

    @overload
    def map(
        self: Takes[Concatenate[A, B, C, D, ...], S],
        a: Items[A],
        b: Items[B],
        c: Items[C],
        d: Items[D],
        /,
        *more: Any,
        **kwargs: Any,
    ) -> Task[list[S]]: ...

    def map(
        self: Any,
        /,
        *args: Any,
        task_args: Mapping[str, Any] | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        **kwargs: Any,
    ) -> Any:
        """Record a call that runs once for each item of its arguments, those in `unmapped` excepted.

        Parameters, returns and errors are those of a call; in a flow function the map begins to run, and its future
        is returned at once: a sequence of the futures of its children.
        """
        if flow is not None or self._function_run() is None:
            task_args = {**(task_args or {}), "nout": None}
        return self(*args, mapped=True, task_args=task_args, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    @overload
    def submit(
        self: Takes[..., Any], /, *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> TaskFuture[State]: ...

    @overload
    def submit(self: Takes[..., S], /, **kwargs: Any) -> TaskFuture[S]: ...

    @overload
    def submit(self: Takes[Concatenate[A, ...], S], a: Sent[A], /, **kwargs: Any) -> TaskFuture[S]: ...

    @overload
    def submit(self: Takes[Concatenate[A, B, ...], S], a: Sent[A], b: Sent[B], /, **kwargs: Any) -> TaskFuture[S]: ...

    @overload
    def submit(
        self: Takes[Concatenate[A, B, C, ...], S], a: Sent[A], b: Sent[B], c: Sent[C], /, *more: Any, **kwargs: Any
    ) -> TaskFuture[S]: ...

    def submit(
        self: Any,
        /,
        *args: Any,
        wait_for: Iterable[Any] | None = None,
        return_state: bool | None = None,
        allow_failure: bool = False,
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Have the task run, inside a flow function, and return its future at once.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the body: values, and futures at any depth of lists, tuples, sets and dicts.
        wait_for
            Futures, lists of them, and maps that must have ended before. If one of them failed, the task does not run.
        return_state
            The future's `result` gives the state and does not raise.
        allow_failure
            Failures of what it reads or waits for do not keep it from running, and `result` gives its own failure as
            its state.
        task_args
            Options of the task for this call.

        Returns
        -------
        TaskFuture

        Raises
        ------
        FlowDefinitionError
            If no flow function runs here.
        TypeError
            If the arguments do not fit the body.
        """
        run = self._function_run()
        if run is None:
            raise FlowDefinitionError(
                f"{self.name}.submit(...) runs inside a @flow function; in a `with Flow(...)` block call "
                f"{self.name}(...) or {self.name}.map(...), and {self.name}.run(...) runs its body alone"
            )
        return run.submit(self, args, kwargs, self._call_options(wait_for, return_state, allow_failure, task_args))

    def _function_run(self) -> Any:
        """Return the run of the flow function in which this is called; None where calls are recorded, or refused."""
        context = current()
        return None if context.get("flow") is not None else context.get("function_run")

    def _call_options(
        self,
        wait_for: Iterable[Any] | None,
        return_state: bool | None,
        allow_failure: bool,
        task_args: Mapping[str, Any] | None,
    ) -> Any:
        wants_state = self.return_state if return_state is None else return_state
        return CallOptions(_several(wait_for), bool(wants_state), allow_failure, task_args)

    def bind(
        self,
        /,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        **kwargs: Any,
    ) -> Self:
        """Give this very task its arguments in a flow; it returns itself. Parameters and errors are those of a call."""
        flow = self._flow(flow)
        active = current().get("tags")
        if active:
            self.tags |= active
        keyword_tasks = inputs_of(self.run, self.name).bind(self.name, args, kwargs)
        flow.set_dependencies(self, upstream_tasks=upstream_tasks, keyword_tasks=keyword_tasks, mapped=mapped)
        return self

    def set_dependencies(
        self,
        flow: Flow | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Self:
        """Add this very task to a flow with its dependencies; see :meth:`prefectish.Flow.set_dependencies`."""
        self._flow(flow).set_dependencies(
            self,
            upstream_tasks=upstream_tasks,
            downstream_tasks=downstream_tasks,
            keyword_tasks=keyword_tasks,
            mapped=mapped,
            validate=validate,
        )
        return self

    def set_upstream(self, task: Any, flow: Flow | None = None, key: str | None = None, mapped: bool = False) -> Self:
        """Wait for `task`; with a key, receive its result as the argument of that name."""
        if key is not None:
            return self.set_dependencies(flow, keyword_tasks={key: task}, mapped=mapped)
        return self.set_dependencies(flow, upstream_tasks=[task], mapped=mapped)

    def set_downstream(
        self, task: Task, flow: Flow | None = None, key: str | None = None, mapped: bool = False
    ) -> Self:
        """Let `task` wait for this one; with a key, it receives this task's result as the argument of that name."""
        task.set_upstream(self, flow, key, mapped)
        return self

    def _flow(self, flow: Flow | None) -> Flow:
        found: Flow | None = flow if flow is not None else current().get("flow")
        if found is None:
            raise FlowDefinitionError(
                f"no active Flow: call {self.name} inside `with Flow(...)` or a @flow function, pass flow=, or call "
                f"{self.name}.run(...) to run its body alone"
            )
        return found

    def _operate(self, name: str, function: Callable[..., Any], /, *operands: Any) -> Task:
        self._flow(None)
        return Operation(function, name)(*operands)

    def __iter__(self) -> Iterator[Task]:
        if self.nout is None:
            raise TypeError(
                f"{self!r} is not iterable: how many results it returns is not known while the flow is built; "
                f"set nout=, or map over it"
            )
        return iter([self[i] for i in range(self.nout)])

    def __or__(self, other: Task) -> Task:
        if not isinstance(other, Task):
            return NotImplemented
        return other.set_upstream(self)

    def __ror__(self, other: Any) -> Self:
        return self.set_upstream(other)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_home", None)
        return state

    def __repr__(self) -> str:
        return f"<Task: {printable(self.name)}>"


def _several(tasks: Any) -> Iterable[Any]:
    """Return what to wait for as a list of its own; one task or future is one of them."""
    if tasks is None:
        return ()
    return tasks if isinstance(tasks, list | tuple | set | frozenset) else [tasks]


def _allowing(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(allowing_failure(value) for value in values)


class FunctionTask(Task[R], Generic[P, R, Body]):
    """A task whose body is a function, or anything else that is called and tells its arguments.

    Parameters
    ----------
    function
        The body.
    name
        Default: the function's.
    **options
        As for :class:`Task`; `nout` is read from a fixed-length tuple annotation if it is not given.
    """

    if TYPE_CHECKING:

        @property
        def run(self) -> Callable[P, Body]:  # type: ignore[override]
            """The body; a property, so that no checker takes it for a method."""

    def __init__(self, function: Callable[P, Body], name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        name = _checked_name(name) or _name_of(function)
        self.__dict__["run"] = callable_by_keyword(function, name)
        super().__init__(name, **options)


class Operation(FunctionTask):
    """The task that an operator or an index makes."""

    auto_generated = True

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is neither true nor false while the flow is built, so `if`, `and`, `or` and `not` cannot "
            f"ask it; use and_, or_ and not_, and branch in the body of a task"
        )


def _checked_name(name: Any) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    return name


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    unknown = options.keys() - task_options.OPTION_NAMES
    if unknown:
        name = min(unknown)
        raise TypeError(f"a task has no option {name!r}{_guess(name)}")


def _guess(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, task_options.OPTION_NAMES, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


@overload
def task(
    function: Callable[Q, Coroutine[Any, Any, S]], /, **options: Unpack[NamedTaskOptions]
) -> FunctionTask[Q, S, Coroutine[Any, Any, S]]: ...


@overload
def task(function: Callable[Q, S], /, **options: Unpack[NamedTaskOptions]) -> FunctionTask[Q, S, S]: ...


@overload
def task(**options: Unpack[NamedTaskOptions]) -> Decorator: ...


def task(function: Callable[..., Any] | None = None, /, **options: Unpack[NamedTaskOptions]) -> Any:
    """Make a task of a function; as a decorator, with options or without.

    Parameters
    ----------
    function
        The body: a function, a partial, or any callable that tells its arguments. None: return a decorator.
    **options
        As for :class:`Task`.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Task`; and if it is not callable, or a task already.

    Examples
    --------
    >>> @task(max_retries=2, retry_delay=1.5)
    ... def double(x):
    ...     return 2 * x
    >>> double
    <Task: double>
    >>> double.run(4)
    8
    """
    if function is None:
        return functools.partial(task, **options)
    if isinstance(function, Task) or (isinstance(function, type) and issubclass(function, Task)):
        raise TypeError(f"{function!r} is a task already; use copy(...) for other options")
    if not callable(function):
        raise TypeError(f"a task needs a function, got {function!r}")
    return FunctionTask(function, **options)
