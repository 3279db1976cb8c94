"""Mistakes of the first hour: each is answered with the way out."""

from __future__ import annotations

import inspect
import math
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from datetime import timedelta
from importlib import import_module
from traceback import extract_tb
from unittest.mock import ANY

import numpy as np
import pytest
from distributed import Client, LocalCluster, SpecCluster

import prefectish
from prefectish import Flow, Parameter, Task, flow, task, triggers
from prefectish.engine.state import Deferred, Success
from prefectish.errors import ParameterError, SchedulerLost
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from prefectish.parameters import RUN_OPTIONS
from prefectish.tasks.not_a_value import NotAValue
from prefectish.user_frames import without_ours


@task
def inc(x):
    return x + 1


@task
def five():
    return 5


# -- a task is not its result ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use", [lambda t: "a" if t else "b", lambda t: t and 1, lambda t: not t, lambda t: [1 for _ in [1] if t]]
)
def test_truth_of_a_task_is_refused(use):
    with (
        Flow("f"),
        pytest.raises(TypeError, match=r"<Task: inc> has no truth value while .*branch with case\(\.\.\.\)"),
    ):
        use(inc(1))


@pytest.mark.parametrize("use", [lambda a: a == 2, lambda a: a != 2, lambda a: a == inc(1)])
def test_comparison_of_a_task_is_warned_of(use):
    with Flow("f"), pytest.warns(UserWarning, match=r"compares the task, not its result.*use \.is_equal"):
        use(inc(1))


def test_looking_for_a_task_is_not_warned_of():
    with Flow("f"), warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = inc(1), inc(2)
        assert other in [one, other]
        assert {one: 1}[one] == 1
        assert [one, other].index(other) == 1
    assert one == one
    assert one != other  # no flow is open


def test_string_of_a_task_is_warned_of():
    with Flow("f"), pytest.warns(UserWarning, match=r"a string was made of <Task: inc>, not of its result"):
        assert f"result is {inc(1)}" == "result is <Task: inc>"


def test_attribute_of_a_task_that_it_has_not_is_explained():
    with (
        Flow("f"),
        pytest.raises(AttributeError, match=r"'inc' is a task, and what it returns is not known.*use \.bit_"),
    ):
        inc(1).bit_length()


def test_result_of_a_task_in_an_open_flow_is_warned_of():
    with Flow("f"), pytest.warns(UserWarning, match=r"inc\.result is where results are stored.*state\['inc'\]\.result"):
        assert inc(1).result is None


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (len, r"no length; call len in a task that takes it: task\(len\)\(inc\)"),
        (math.sqrt, "not a number"),
        (int, "not a number"),
        (range, "not a number"),
        ([1, 2].__getitem__, "not a number"),
        (lambda t: 1 in t, "no members"),
    ],
)
def test_use_of_a_task_as_a_value_is_refused(use, said):
    with Flow("f"), pytest.raises(TypeError, match=f"<Task: inc> is a task: while .* has no result yet, .*{said}"):
        use(inc(1))


@pytest.mark.parametrize(
    "use", [lambda f: f + 1, lambda f: 1 - f, lambda f: f * 2, lambda f: f > 1, lambda f: f[0], len, math.sqrt]
)
def test_computing_with_a_future_names_result(use):
    @flow
    def computes():
        future = inc.submit(1)
        with pytest.raises(TypeError, match=r"is a future, not a value; compute with its result\(\)"):
            use(future)
        return future.result()

    assert computes.run(history=False, executor=LocalExecutor()).result == 2


@pytest.mark.parametrize("made", [lambda: inc.submit(1), lambda: inc.map([1, 2])])
def test_comparison_of_a_future_is_warned_of(made):
    @flow
    def compares():
        future = made()
        with pytest.warns(UserWarning, match=r"compares the future, not its result.*compare its result\(\)"):
            assert (future == 2) is False
        with pytest.warns(UserWarning, match="compares the future"):
            assert future != [2, 3]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other = made()
            assert future != other
            assert [other, future].index(future) == 1
            assert future in [0, other, future]
            assert {future: 1}[future] == 1
        with pytest.warns(UserWarning, match="compares the future"):
            assert future == ANY
        return future.result()

    assert compares.run(history=False, executor=LocalExecutor()).is_successful()


@pytest.mark.parametrize("made", [lambda: inc.submit(1), lambda: inc.map([1, 2])])
def test_attribute_that_a_future_has_not_is_explained(made):
    @flow
    def asks():
        with pytest.raises(AttributeError, match=r"'bit_length': it is a future, not a value; .* its result\(\)"):
            made().bit_length()
        assert not hasattr(made(), "__array__")

    assert asks.run(history=False, executor=LocalExecutor()).is_successful()


def test_error_about_an_attribute_of_a_task_says_whose_it_is():
    """Then Python adds a guess to the traceback: "Did you mean: 'map'?"."""
    with pytest.raises(AttributeError) as told:
        inc.maps  # noqa: B018
    assert (told.value.name, told.value.obj) == ("maps", inc)


def test_error_about_an_attribute_of_a_task_is_one_of_pythons():
    with Flow("f"), pytest.raises(AttributeError) as told:
        inc(1).bit_length()
    error = told.value
    assert repr(error) == f"AttributeError({str(error)!r})"
    assert f"{type(error).__module__}.{type(error).__qualname__}" == "builtins.AttributeError"
    error.add_note("of the user's")
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.args, copied.__notes__) == (AttributeError, (str(error),), ["of the user's"])
    assert error.args == copied.args


def test_text_about_a_missing_attribute_is_not_made_before_it_is_read(monkeypatch):
    monkeypatch.setattr("prefectish.tasks.not_a_value.did_you_mean", lambda name, known: pytest.fail("made"))
    assert getattr(inc, "colour", 1) == 1
    assert not hasattr(inc, "colour")


@pytest.mark.parametrize("front", ["graph", "function"])
def test_no_child_asks_its_task_for_a_missing_attribute(monkeypatch, front, tmp_path):
    asked = []
    known = NotAValue.__getattr__

    def counted(self, name):
        asked.append(name)
        return known(self, name)

    def asks(count):
        asked.clear()
        if front == "graph":
            with Flow("f") as built:
                inc.map(range(count))
            state = built.run(executor=LocalExecutor(), history=tmp_path / "h.db")
        else:
            state = flow(lambda: inc.map(range(count)).result()).run(
                executor=LocalExecutor(), history=tmp_path / "h.db"
            )
        assert state.is_successful()
        return Counter(asked)

    monkeypatch.setattr(NotAValue, "__getattr__", counted)
    assert asks(3) == asks(9)


class Reads(Task):
    def run(self):
        return 1

    @property
    def table(self):
        return math.no_table


class Away(Deferred):
    def get(self):
        return math.no_table


@pytest.mark.parametrize("read", [lambda: Reads().table, lambda: Success(result=Away()).result], ids=["task", "state"])
def test_error_in_a_property_is_not_taken_for_a_missing_attribute(read):
    """A result whose class is away, or a property of the user's own, fails for a reason of its own."""
    with pytest.raises(AttributeError, match=r"^module 'math' has no attribute 'no_table'$"):
        read()


def test_misspelt_method_of_a_task_is_guessed():
    """Notebooks and logs show the text alone: the guess that Python adds to a traceback is not in it."""
    with Flow("f"), pytest.raises(AttributeError, match=r"'mapp'; did you mean 'map'\?$"):
        inc.mapp([1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LocalExector", "did you mean 'LocalExecutor'"),
        ("Success", r"write `from prefectish\.engine\.state import Success`"),
        ("signals", r"write `from prefectish\.engine import signals`"),
    ],
)
def test_names_that_are_elsewhere_say_where(name, said):
    with pytest.raises((ImportError, AttributeError), match=said):
        getattr(prefectish, name)


def test_option_of_a_task_in_its_call_says_where_it_goes():
    with Flow("f"):
        said = r"'max_retries', an option of tasks: write @task\(max_retries=\.\.\.\), or task_args=dict\("
        with pytest.raises(TypeError, match=said):
            inc(1, max_retries=3)
        inc(1, task_args={"max_retries": 3, "retry_delay": 0})


# -- executors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DaskExecutor, LocalDaskExecutor])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("max_branches", "4", "max_branches must be a whole number, got '4'"),
        ("max_branches", 0, "max_branches must be >= 1, got 0"),
        ("stall_warning", "60", "stall_warning must be a number of seconds, got '60'"),
        ("stall_warning", float("nan"), "stall_warning must be >= 0 seconds, got nan"),
        ("tag_limits", ["db"], r"tag_limits must be a dict of numbers by tag, as \{'db': 2\}, got \['db'\]"),
        ("tag_limits", {"db": "2"}, r"tag_limits\['db'\] must be a whole number, got '2'"),
        ("tag_limits", {"db": -1}, r"tag_limits\['db'\] must be >= 0, got -1"),
    ],
)
def test_options_of_executors_are_checked_where_they_are_given(kind, option, value, said):
    with pytest.raises((TypeError, ValueError), match=said):
        kind(**{option: value})


@pytest.mark.parametrize(
    ("kind", "option", "value", "said"),
    [
        (LocalDaskExecutor, "num_workers", "2", "num_workers must be a whole number, got '2'"),
        (LocalDaskExecutor, "num_workers", True, "num_workers must be a whole number, got True"),
        (LocalDaskExecutor, "num_workers", 2.5, "num_workers must be a whole number, got 2.5"),
        (LocalExecutor, "num_workers", 2, r"has no workers; write LocalDaskExecutor\(num_workers=4\)"),
        (LocalExecutor, "stal_warning", 2, "did you mean 'stall_warning'"),
        (DaskExecutor, "n_workers", "2", "n_workers must be a whole number, got '2'"),
        (DaskExecutor, "n_workers", -1, "n_workers must be >= 0, got -1"),
        (DaskExecutor, "cluster_kwargs", 5, "cluster_kwargs must be a dict of keyword arguments, got 5"),
        (DaskExecutor, "client_kwargs", ["timeout"], "client_kwargs must be a dict of keyword arguments, got "),
        (LocalDaskExecutor, "num_workers", float("inf"), "num_workers must be a whole number, got inf"),
        (LocalExecutor, "stall_warning", timedelta(seconds=1), "stall_warning must be a number of seconds, got "),
        (DaskExecutor, "no_workers_timeout", "5m", "no_workers_timeout must be a number of seconds, got '5m'"),
        (DaskExecutor, "no_workers_timeout", None, "no_workers_timeout must be a number of seconds, got None"),
    ],
)
def test_size_of_an_executor_is_checked_where_it_is_given(kind, option, value, said):
    with pytest.raises((TypeError, ValueError), match=said):
        kind(**{option: value})


def test_numbers_of_numpy_are_numbers_for_executors():
    assert LocalDaskExecutor(num_workers=np.int64(2), stall_warning=np.float64(3)).num_workers == 2


def test_whole_floats_are_numbers_for_executors():
    pool = LocalDaskExecutor(num_workers=2.0, max_branches=float("inf"), tag_limits={"db": 1.0})
    with Flow("doubles") as doubles:
        doubled = task(lambda x: 2 * x, tags=["db"]).map([1, 2, 3])
    assert doubles.run(executor=pool).result[doubled].result == [2, 4, 6]
    cluster = DaskExecutor(n_workers=4.0, threads_per_worker=np.float32(1), max_inline_bytes=1e6, max_branches=1e3)
    assert repr(cluster.cluster_kwargs) == "{'n_workers': 4, 'threads_per_worker': 1}"
    assert (repr(cluster.max_inline_bytes), repr(cluster.max_branches)) == ("1000000", "1000")
    assert pool.tag_limits == {"db": 1}


def test_arguments_of_the_cluster_are_sent_to_cluster_kwargs():
    with pytest.raises(TypeError, match=r"argument 'processes'; what is meant for the cluster goes into "):
        DaskExecutor(processes=False)
    with pytest.raises(TypeError, match=r"cluster_kwargs={'processes': False, 'silence_logs': 30}"):
        DaskExecutor(processes=False, silence_logs=30)
    with pytest.raises(TypeError, match="did you mean 'address'"):
        DaskExecutor(adress="tcp://x:1")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (8786, r"address must be a string, got 8786; write 'tcp://127\.0\.0\.1:8786'"),
        (LocalExecutor(), "pass a Client as client=..., of a cluster its scheduler_address"),
    ],
)
def test_address_that_is_no_text_is_refused_where_it_is_given(address, said):
    with pytest.raises(ValueError, match=said):
        DaskExecutor(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8787/status", "https://127.0.0.1:8787", "tpc://127.0.0.1:8786"])
def test_address_that_no_client_can_speak_to_is_refused_at_once(address):
    """A client that fails while it is made would hold up the end of the program for a minute."""
    with Flow("f") as graph:
        five()
    with pytest.raises(ValueError, match="address must be like 'tcp://host:8786'") as told:
        graph.run(executor=DaskExecutor(address), history=False)
    assert ("a Dask dashboard listens at http://" in str(told.value)) == address.startswith("http")


@pytest.mark.parametrize("name", ["local", "threads", "processes", "dask"])
def test_executors_are_known_by_name_everywhere(name, monkeypatch):
    class_name = {"local": "LocalExecutor", "dask": "DaskExecutor"}.get(name, "LocalDaskExecutor")
    seen = []

    class Made(LocalExecutor):
        def __init__(self, **arguments):
            super().__init__()
            seen.append((class_name, arguments))

    monkeypatch.setattr(prefectish.executors, class_name, Made)

    @flow(executor=name)
    def functions():
        return inc(1)

    with Flow("f") as graph:
        five()
    with Flow("own", executor=name) as own:
        five()
    assert graph.run(executor=name, history=False).is_successful()
    assert own.run(history=False).is_successful()
    assert graph.start(executor=name, history=False).wait().is_successful()
    assert functions.run(history=False).result == 2
    monkeypatch.setenv("PREFECTISH_EXECUTOR", name)
    assert graph.run(history=False).is_successful()
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("kind", "way"),
    [(Client, "client=client"), (LocalCluster, "cluster.scheduler"), (SpecCluster, "cluster.scheduler")],
)
def test_client_or_cluster_in_the_place_of_an_executor_is_led_to_dask_executor(kind, way):
    given = object.__new__(type("Given", (kind,), {"__repr__": object.__repr__, "__del__": lambda self: None}))
    with Flow("f") as graph:
        five()
    with pytest.raises(TypeError, match=rf"executor must be .*; write DaskExecutor\({way}"):
        graph.run(executor=given, history=False)


def test_client_that_is_closed_is_refused():
    with Flow("f") as graph:
        five()
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        with Client(cluster, set_as_default=False) as client:
            pass
        with pytest.raises(SchedulerLost, match="client must be connected to its scheduler, got one that is closed"):
            graph.run(executor=DaskExecutor(client=client), history=False)
    with pytest.raises(ValueError, match=r"client must be a distributed\.Client, got a int"):
        graph.run(executor=DaskExecutor(client=5), history=False)


def test_executor_of_another_name_lists_the_names():
    with Flow("f") as graph:
        five()
    with pytest.raises(TypeError, match=r"executor must be an Executor instance .*'dask', got 'moon'"):
        graph.run(executor="moon", history=False)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("DaskExecutor", "prefectish.executors"),
        ("LocalResult", "prefectish.results"),
        ("CronSchedule", "prefectish.schedules"),
    ],
)
def test_import_from_the_wrong_place_names_the_right_one(name, where):
    with pytest.raises(ImportError, match=f"write `from {where} import {name}`"):
        exec(f"from prefectish import {name}")
    exec(f"from {where} import {name}")


def test_every_hint_at_a_module_is_right():
    wrong = {n: where for n, where in prefectish._ELSEWHERE.items() if not hasattr(import_module(where), n)}
    assert wrong == {}


# -- flows -------------------------------------------------------------------------------------------------------------


def test_flow_is_no_decorator():
    with pytest.raises(TypeError, match=r"to decorate a function, write @flow"):

        @Flow("f")
        def _one():
            pass

    with pytest.raises(TypeError, match=r"name of a flow must be a string, got the function _other; .*write @flow"):

        @Flow
        def _other():
            pass


def test_flow_that_is_called_says_run():
    with pytest.raises(TypeError, match=r"<Flow: name=f> cannot be called: run it with \.run\(\)"):
        Flow("f")()


def test_flow_without_tasks_warns():
    with Flow("forgotten") as graph:
        pass
    with pytest.warns(UserWarning, match="has no tasks, so that nothing runs") as seen:
        assert graph.run(history=False).is_successful()
    assert seen[0].filename == __file__


def test_several_tasks_or_edges_of_a_flow_are_a_list():
    for given in (5, five, "five"):
        with pytest.raises(TypeError, match="tasks of a flow must be a list, got "):
            Flow("f", tasks=given)
    with pytest.raises(TypeError, match="edges of a flow must be a list, got 5"):
        Flow("f", edges=5)


@pytest.mark.parametrize("given", ["yes", "no", 3, []])
def test_progress_is_true_false_or_a_function(given):
    with Flow("f") as graph:
        five()
    with pytest.raises(TypeError, match="progress must be True, False or a function, got "):
        graph.run(progress=given, history=False)


@pytest.mark.parametrize("name", [5, b"f", ["f"]])
def test_name_of_a_flow_is_a_string(name):
    with pytest.raises(TypeError, match="the name of a flow must be a string, got "):
        Flow(name)


@pytest.mark.parametrize("name", ["", None, False, 0, []])
def test_a_flow_needs_a_name(name):
    with pytest.raises(ValueError, match="a flow needs a name, got "):
        Flow(name)


def test_misspelt_task_of_a_state_is_guessed():
    with Flow("f") as graph:
        five()
    with pytest.raises(KeyError, match="no task is called 'fife' in this run: 'five'; did you mean 'five'") as told:
        graph.run(history=False)["fife"]
    assert [frame.filename for frame in extract_tb(without_ours(told.value, told.tb))] == [__file__]


# -- triggers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all_finished", "all_successful", "any_failed", "not_all_skipped", "manual_only"])
def test_trigger_that_is_called_says_that_it_is_passed(name):
    with pytest.raises(
        TypeError, match=r"a trigger is passed, not called: write trigger=triggers\.all_finished, without"
    ):
        task(trigger=getattr(triggers, name)())(inc.run)


@pytest.mark.parametrize(("wrong", "meant"), [("all_done", "all_"), ("any_succesful", "any_successful"), ("zzz", None)])
def test_trigger_by_name_lists_the_triggers(wrong, meant):
    with pytest.raises(TypeError, match=f"got '{wrong}'; prefectish.triggers has all_successful, all_fin") as told:
        task(trigger=wrong)(inc.run)
    assert ("did you mean triggers." in str(told.value)) == (meant is not None)
    assert meant is None or f"did you mean triggers.{meant}" in str(told.value)


# -- misspelt names ----------------------------------------------------------------------------------------------------


def test_misspelt_names_of_the_package_executors_and_options_of_a_run_are_answered():
    with pytest.raises(AttributeError, match="has no attribute 'flwo'; did you mean 'flow'"):
        prefectish.flwo  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_workers'; did you mean 'num_workers'"):
        LocalDaskExecutor(n_workers=2)
    misspelt = "executor".replace("u", "")
    with pytest.raises(ParameterError, match=f"did you mean 'executor', not {misspelt!r}"):
        Flow("f").run(**{misspelt: LocalDaskExecutor()})
    for front in (Flow.run, Flow.start):
        assert set(RUN_OPTIONS) >= set(inspect.getfullargspec(front).kwonlyargs)


def test_unknown_argument_is_named_before_what_is_missing():
    with (
        Flow("f"),
        pytest.raises(TypeError, match=r"inc: got an unexpected keyword argument 'z'; the task takes \(x\)"),
    ):
        inc(z=1)

    @task
    def load(count, where="here"):
        return count

    with Flow("f"), pytest.raises(TypeError, match="argument 'cuont'; did you mean 'count'"):
        load(cuont=1)
    with Flow("f"), pytest.raises(TypeError, match="argument 'whree'; did you mean 'where'"):
        load.map([1], whree=2)


def test_misspelt_parameter_is_guessed():
    with Flow("f") as graph:
        inc(Parameter("count"))
    with pytest.raises(ParameterError, match=r"^missing: count; unknown: cuont; did you mean 'count', not 'cuont'\?$"):
        graph.run(cuont=1, history=False)

    @flow
    def counts(count):
        return count

    with pytest.raises((ParameterError, TypeError), match="did you mean 'count'"):
        counts.run(cuont=1, history=False)


# -- tracebacks of mistakes --------------------------------------------------------------------------------------------

SCRIPTS = {
    "call": "inc(z=1)",
    "truth": "1 if inc(1) else 2",
    "map": "inc.map(5)",
    "trigger": "task(trigger='x')(inc.run)",
    "parameter": "Flow('g', tasks=[inc.copy()]).run(zzz=1)",
    "name": "Flow(print)",
}


def test_interrupt_of_a_run_shows_no_frames_of_ours(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\nfrom prefectish import Flow, task\n"
        "@task\ndef stop():\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "with Flow('f') as flow:\n    stop()\nflow.run(executor='threads', history=False)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    frames = [text for text in done.stderr.splitlines() if text.startswith("  File ")]
    assert [str(script) in frame for frame in frames] == [True], done.stderr
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("line", SCRIPTS.values(), ids=SCRIPTS)
def test_mistake_shows_no_frames_of_ours(tmp_path, line):
    script = tmp_path / "script.py"
    script.write_text(
        f"from prefectish import Flow, task\n@task\ndef inc(x):\n    return x\nwith Flow('f'):\n    {line}\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    frames = [text for text in done.stderr.splitlines() if text.startswith("  File ")]
    assert [str(script) in frame for frame in frames] == [True], done.stderr
