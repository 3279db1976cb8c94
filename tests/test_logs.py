"""What bodies log: on every executor at the client's handlers, once, and in the history, bound to its child."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading

import pytest
from real import spend, until

from prefectish import Flow, context, get_logger, history, task, unmapped
from prefectish.engine.jobs.log_lines import KEPT
from prefectish.engine.worker.attempt import PENDING, run_step
from prefectish.engine.worker.logs import digest, relay
from prefectish.executors import DaskExecutor, LocalDaskExecutor


@task
def talk(x):
    context.logger.info("task %s", x)
    get_logger("mine").warning("mine %s", x)
    with context(layer=1):
        get_logger().error("top %s", x)
    context.logger.debug("not asked for")
    return x


@task
def quiet(x):
    return x


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO, "prefectish")
    return caplog


def told(caplog):
    return [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name.startswith("prefectish")]


LINES = [
    ("prefectish", "ERROR", "top a"),
    ("prefectish.mine", "WARNING", "mine a"),
    ("prefectish.talk[0]", "INFO", "task a"),
]


def test_lines_of_bodies_reach_the_handlers_here_once(run, info):
    with Flow("talks") as flow:
        out = talk.map(["a"])
    assert run(flow).result[out].result == ["a"]
    assert sorted(told(info)) == LINES


@pytest.mark.parametrize("batch", [2, "auto"])
def test_lines_of_batches_are_bound_to_their_children(run, info, batch):
    with Flow("talks") as flow:
        talk.copy(batch_size=batch).map(["a", "b"])
    run(flow)
    found = {(r.map_index, r.task_slug, r.getMessage()) for r in info.records if r.name.startswith("prefectish")}
    assert found == {(i, "talk-1", f"{kind} {x}") for i, x in enumerate("ab") for kind in ("task", "mine", "top")}


def test_levels_of_the_client_hold_where_bodies_run(run, caplog):
    caplog.set_level(logging.WARNING, "prefectish")
    with Flow("talks") as flow:
        talk("a")
    run(flow)
    assert [level for _, level, _ in told(caplog)] == ["WARNING", "ERROR"]


def test_lines_are_in_the_history_by_child(run, info, tmp_path):
    store = tmp_path / "history.db"
    with Flow("talks") as flow:
        talked = talk.copy(task_run_name="say ${x}").map(["a", "b"])
        quiet.map(talked)
    run_id = run(flow, history=store).context["flow_run_id"]
    recorded = history.run(run_id, store=store)
    assert len(recorded.logs()) == 6
    assert recorded.logs("quiet") == []
    first, second, third = recorded.logs("talk", 1)
    assert (first.text, first.level, first.logger, first.attempt) == ("task b", "INFO", None, 1)
    assert (second.text, second.logger) == ("mine b", "prefectish.mine")
    assert (third.text, third.logger, third.child) == ("top b", "prefectish", "talk[1] (say b)")
    assert str(first).endswith(" INFO    talk[1] (say b): task b")
    key = recorded.child("talk", 0).item_key
    assert [line.text for line in recorded.logs("talk", key)] == ["task a", "mine a", "top a"]
    assert [line.text for line in recorded.logs(level="ERROR", limit=1)] in (["top a"], ["top b"])


def test_history_refuses_an_item_without_a_task_and_a_level_that_is_none(tmp_path):
    store = tmp_path / "history.db"
    with Flow("talks") as flow:
        quiet(1)
    recorded = history.run(flow.run(history=store).context["flow_run_id"], store=store)
    with pytest.raises(ValueError, match="item=3 requires task=: an item selects one child of a mapped task"):
        recorded.logs(item=3)
    with pytest.raises(ValueError, match="number, got 'loud'"):
        recorded.logs(level="loud")
    with pytest.raises(KeyError, match="talk"):
        recorded.logs("talk")


def test_lines_tell_their_attempt_and_the_traceback_of_a_failure(run, info, tmp_path):
    @task(max_retries=1, retry_delay=0)
    def fail(x):
        context.logger.info("try %d", context.task_run_count)
        raise ValueError(f"no {x}")

    store = tmp_path / "history.db"
    with Flow("fails") as flow:
        fail.map(["a"])
    run_id = run(flow, history=store).context["flow_run_id"]
    lines = history.run(run_id, store=store).logs("fail", 0)
    assert [(line.attempt, line.level, line.text) for line in lines] == [
        (1, "INFO", "try 1"),
        (1, "WARNING", "attempt 1 of 2 failed: ValueError: no a"),
        (2, "INFO", "try 2"),
        (2, "ERROR", "attempt 2 of 2 failed: ValueError: no a"),
    ]
    assert lines[1].traceback.startswith("  Traceback (most recent call last):\n    File ")
    assert lines[1].traceback.endswith("\n  ValueError: no a")
    assert info.text.count("Traceback") == 1


def test_nothing_is_kept_of_a_child_that_logs_nothing(run):
    from test_attempt import single

    assert run_step(single(lambda: 1), 0, -1, (), PENDING).lines is None


def test_l6_flood_of_a_child_is_cut_and_says_so(tmp_path, info):
    @task
    def flood(x):
        for number in range(20_000):
            context.logger.info("%d", number)

    store = tmp_path / "history.db"
    with Flow("floods") as flow:
        flood.map(["a"])
    state = flow.run(history=store, executor=LocalDaskExecutor("processes", num_workers=1))
    mark = f"... dropped {20_000 - 2 * KEPT} lines ..."
    lines = [line.text for line in history.run(state.context["flow_run_id"], store=store).logs("flood", 0)]
    assert (len(lines), lines[0], lines[KEPT], lines[-1]) == (2 * KEPT + 1, "0", mark, "19999")
    assert [text for *_, text in told(info)] == lines


FORGED = "\x1b[31m\n12:00:00 ERROR   pay[0]: FORGED"


def hostile(kind):
    """Return an exception with texts that would be lines of their own in a log."""
    error = ValueError("plain")
    if kind == "note":
        error.add_note(FORGED)
    elif kind == "class":
        error = type(f"Bad{FORGED}", (Exception,), {})("plain")
    elif kind == "cause":
        error.__cause__ = KeyError()
        error.__cause__.add_note(FORGED)
    elif kind == "group":
        error = ExceptionGroup("plain", [ValueError(FORGED)])
    elif kind == "source":
        error = SyntaxError("plain", ("file", 1, 1, FORGED))
    return error


KINDS = ["note", "class", "cause", "group", "source"]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_x8_no_text_of_an_exception_forges_a_line(run, isolation):
    @task(isolation=isolation)
    def fail(kind, logs):
        try:
            raise hostile(kind)
        except Exception:
            if not logs:
                raise
            context.logger.exception("told")

    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    get_logger().addHandler(handler)
    try:
        with Flow("hostile") as flow:
            fail.map(KINDS, logs=unmapped(False))
            fail.map(KINDS, logs=unmapped(True))
        run(flow)
    finally:
        get_logger().removeHandler(handler)
    text = shown.getvalue()
    assert text.count("FORGED") >= 10
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith("12:00:00")]


def test_x8_line_of_a_body_cannot_forge_another(run, info):
    @task(name="na\nme")
    def forge():
        context.logger.warning("ok\n%s", "2026-01-01 INFO forged\x1b[2J")
        raise ValueError("bad\n2026-01-01 INFO forged")

    with Flow("forges") as flow:
        forge()
    run(flow)
    assert r"ok\n2026-01-01 INFO forged\x1b[2J" in info.messages
    assert not [line for line in info.text.splitlines() if line.startswith("2026-01-01")]


def test_x8_name_of_a_task_cannot_forge_a_line_of_a_format_of_the_users_own(run):
    @task(name=f"na{FORGED}")
    def fail(x):
        raise ValueError("plain")

    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    get_logger().addHandler(handler)
    try:
        with Flow("forges") as flow:
            fail.map(range(3))
        run(flow)
    finally:
        get_logger().removeHandler(handler)
    text = shown.getvalue()
    assert "2 more failures" in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith("12:00:00")]


class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no disk")


@pytest.fixture
def raising(monkeypatch):
    handler = Raising()
    get_logger().addHandler(handler)
    yield handler
    get_logger().removeHandler(handler)


def test_c9_handler_that_raises_is_reported_and_stops_nothing(raising, capfd):
    @task
    def fail(x):
        raise ValueError(x)

    with Flow("fails") as flow:
        failed = fail.map([1, 2])
    state = flow.run(history=False)
    assert [str(child.result) for child in state.result[failed].map_states] == ["1", "2"]
    assert "a logging handler raised RuntimeError('no disk'); the run continues" in capfd.readouterr().err


def test_c9_handler_that_raises_on_lines_from_elsewhere_stops_nothing(raising, capfd):
    with Flow("talks") as flow:
        talked = talk.map(["a", "b"])
    state = flow.run(history=False, executor=LocalDaskExecutor("processes", num_workers=1))
    assert state.result[talked].result == ["a", "b"]
    assert capfd.readouterr().err.count("a logging handler raised RuntimeError('no disk')") == 4


def test_u17_body_that_turns_logging_down_does_not_silence_the_next(info):
    @task
    def turn_down(x):
        logging.root.setLevel(logging.CRITICAL)
        context.logger.info("said %s", x)

    before = logging.root.level
    try:
        with Flow("turns") as flow:
            turn_down.map(["a", "b"])
        flow.run(history=False, executor=LocalDaskExecutor(num_workers=1))
    finally:
        logging.root.setLevel(before)
    assert [text for *_, text in told(info)] == ["said a", "said b"]


def test_lines_outside_of_tasks_belong_to_no_task(info, tmp_path):
    def handler(task, old, new):
        get_logger("handler").info("from the client")

    with Flow("handled", state_handlers=[handler]) as flow:
        quiet(1)
    run_id = flow.run(history=tmp_path / "history.db").context["flow_run_id"]
    assert "from the client" in info.messages
    assert history.run(run_id, store=tmp_path / "history.db").logs() == []


def test_thread_of_a_body_logs_to_the_handlers_like_any_other(info):
    @task
    def spread():
        thread = threading.Thread(target=get_logger("thread").info, args=("from a thread",))
        thread.start()
        thread.join()

    with Flow("spreads") as flow:
        spread()
    flow.run(history=False)
    assert info.messages == ["from a thread"]


def test_run_leaves_no_handler_and_no_level_behind():
    with Flow("talks") as flow:
        talk("a")
    before = list(get_logger().handlers), get_logger().level
    flow.run(history=False)
    assert (list(get_logger().handlers), get_logger().level) == before


def test_lines_of_a_flow_in_a_body_are_those_of_its_own_tasks(info, tmp_path):
    store = tmp_path / "history.db"

    @task
    def outer():
        context.logger.info("outer")
        with Flow("inner") as flow:
            talk("a")
        return flow.run(history=store).context["flow_run_id"]

    with Flow("outer") as flow:
        out = outer()
    state = flow.run(history=store)
    run_id = state.context["flow_run_id"]
    assert [line.text for line in history.run(run_id, store=store).logs()] == ["outer"]
    inner = history.run(state.result[out].result, store=store)
    assert [line.text for line in inner.logs("talk")] == ["task a", "mine a", "top a"]


# -- the digest --------------------------------------------------------------------------------------------------------


SCRIPT = """
from prefectish import Flow, context, get_logger, task
from prefectish.executors import LocalDaskExecutor
@task(log_stdout=True)
def load(x):
    print("printed", x)
    get_logger("mine").warning("mine")
    if x == 1:
        raise ValueError("bad")
@task
def many(x):
    context.logger.info("line")
if __name__ == "__main__":
    with Flow("f") as f:
        load.map([0, 1])
        many.map(list(range(150)))
    f.run(history=False, executor={executor})
    get_logger().warning("after")
    get_logger().info("hidden")
"""


@pytest.mark.parametrize("executor", ["None", "LocalDaskExecutor('processes', num_workers=1)"])
def test_without_handlers_the_error_output_shows_a_digest(tmp_path, executor):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{executor}", executor))
    done = subprocess.run([sys.executable, script], stderr=subprocess.PIPE, text=True, check=True, timeout=120).stderr
    shown = [line[9:] for line in done.splitlines() if line[2:3] == ":"]
    assert "INFO    load[0]: printed 0" in shown
    assert "WARNING load[1] mine: mine" in shown
    assert "ERROR   load[1]: failed: ValueError: bad" in shown
    assert len([line for line in shown if "many" in line]) == digest.LINES
    assert "many: 50 more lines were not shown (150 in all)" in done
    assert done.splitlines()[-1] == "after"


def test_lines_of_further_loggers_are_taken_on_request(monkeypatch, info, tmp_path):
    monkeypatch.setenv("PREFECTISH_EXTRA_LOGGERS", "library, other.library")

    @task
    def use(x):
        logging.getLogger("library.part").error("from a library")
        logging.getLogger("elsewhere").error("not taken")

    with Flow("uses") as flow:
        use(1)
    run_id = flow.run(history=tmp_path / "h.db", executor=LocalDaskExecutor("processes", num_workers=1)).context[
        "flow_run_id"
    ]
    assert [r.getMessage() for r in info.records] == ["from a library"]
    (line,) = history.run(run_id, store=tmp_path / "h.db").logs()
    assert (line.logger, line.text) == ("library.part", "from a library")


def test_debug_shows_what_dask_logs_on_the_workers(dask_client, caplog):
    @task
    def work(x):
        logging.getLogger("distributed.worker").warning("dask says %s", x)

    with Flow("works") as flow:
        work(1)
    caplog.set_level(logging.INFO, "distributed")
    flow.run(executor=DaskExecutor(client=dask_client), history=False)
    flow.run(executor=DaskExecutor(client=dask_client, debug=True), history=False)
    until(lambda: "dask says 1" in caplog.messages)
    assert caplog.messages.count("dask says 1") == 1


def test_further_loggers_can_be_named_in_the_file(monkeypatch, tmp_path):
    (tmp_path / "config.toml").write_text('extra_loggers = ["one", "two.three"]\n')
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECTISH_EXTRA_LOGGERS", raising=False)
    assert relay.extra_loggers() == ("one", "two.three")


class Closed:
    def write(self, text):
        raise ValueError("I/O operation on closed file")

    def flush(self):
        pass


def test_closed_stderr_does_not_affect_the_task(monkeypatch):
    """With no other handler than the console's: pytest's own are taken away."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", Closed())
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with Flow("talks") as flow:
        talked = talk("a")
    assert flow.run(history=False).result[talked].result == "a"


def test_arguments_that_do_not_match_are_reported(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])

    @task
    def misfit():
        context.logger.info("%d", "text")
        return 1

    with Flow("misfits") as flow:
        done = misfit()
    assert flow.run(history=False).result[done].result == 1
    assert capsys.readouterr().err.count("--- Logging error ---") == 1


def test_lines_of_an_isolated_body_are_its_childs_even_if_it_is_killed(info, tmp_path):
    @task(isolation="process", log_stdout=True, timeout=5)
    def hang(x):

        context.logger.warning("said %s", x)
        print("printed", x)
        spend(600)

    store = tmp_path / "history.db"
    with Flow("hangs") as flow:
        hang.map(["a"])
    state = flow.run(history=store, executor=LocalDaskExecutor("processes", num_workers=1))
    lines = history.run(state.context["flow_run_id"], store=store).logs("hang", 0)
    assert [(line.level, line.text) for line in lines][:2] == [("WARNING", "said a"), ("INFO", "printed a")]
    assert "timed out after 5 s and was stopped" in lines[2].text
    assert info.messages.count("said a") == 1
