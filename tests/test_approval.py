"""Approvals: a paused run ends and holds nothing; an answer goes through the history into the body that asked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from prefectish import Flow, context, history, pause_task, task, triggers
from prefectish.engine import signals
from prefectish.engine.state import Failed, Paused, Resume, Running, Success
from prefectish.errors import FlowDefinitionError, RunLocked
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.flow_source import origin_of
from prefectish.results import LocalResult
from prefectish.testing import VirtualClock


@task
def deploy(where):
    how_many = pause_task(f"how many on {where}?", input=int)
    return (where, how_many)


@task
def confirm():
    pause_task("shall I?")
    return "done"


@task
def note(x):
    return f"noted {x}"


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "history.db")


@pytest.fixture
def results(tmp_path):
    return LocalResult(dir=str(tmp_path / "results"))


def asking(results):
    with Flow("asks", result=results) as flow:
        asked = deploy.map(["here", "there"])
        noted = note.map(asked)
    return flow, asked, noted


def recorded(state, store):
    return history.run(state.context["flow_run_id"], store=store)


# ---------------------------------------------------------------------- through the history


@pytest.mark.parametrize("kind", ["local", "threads", "processes", "dask"])
def test_answer_reaches_the_body_that_asked_and_what_follows_continues(kind, store, results, request):
    executor = None
    if kind == "dask":
        executor = DaskExecutor(client=request.getfixturevalue("dask_client"))
    elif kind != "local":
        executor = LocalDaskExecutor(scheduler=kind, num_workers=2)
    flow, asked, noted = asking(results)
    state = flow.run(history=store, executor=executor)
    assert type(state) is Running
    assert state.exit_code == 5
    run = recorded(state, store)
    assert [(row.label, row.message) for row in run.paused()] == [
        ("deploy[0]", "how many on here?"),
        ("deploy[1]", "how many on there?"),
    ]
    state = run.approve(asked, 1, input=3, flow=flow, executor=executor)
    assert [type(child) for child in state.result[asked].map_states] == [Paused, Success]
    assert state.result[noted].map_states[1].result == "noted ('there', 3)"
    state = run.approve("deploy", input="4", flow=flow, executor=executor)
    assert type(state) is Success
    assert state.result[asked].result == [("here", 4), ("there", 3)]
    assert run.paused() == []


def test_answer_of_another_type_pauses_again_and_says_why(store, results):
    flow, asked, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    state = run.approve(asked, 0, input="many", flow=flow)
    paused = state.result[asked].map_states[0]
    assert type(paused) is Paused
    assert paused.message.startswith("how many on here? (must be int, got 'many': Input should be a valid integer")
    state = run.approve(asked, 0, input=5, flow=flow)
    assert state.result[asked].map_states[0].result == ("here", 5)


def test_body_that_asks_twice_gets_two_answers(store, results):
    @task
    def ask():
        return pause_task("name?", input=str), pause_task("age?", input=int), pause_task("sure?")

    with Flow("asks", result=results) as flow:
        asked = ask()
    run = recorded(flow.run(history=store), store)
    for question, answer in (("name?", "Ada"), ("age?", 36)):
        assert [row.message for row in run.paused()] == [question]
        state = run.approve(input=answer, flow=flow)
    # what is asked without a type is content with the approval of what was asked before it
    assert state.result[asked].result == ("Ada", 36, None)


def test_what_is_asked_without_a_type_takes_any_answer_or_none(store, results):
    @task
    def ask():
        return pause_task("shall I?")

    with Flow("asks", result=results) as flow:
        asked = ask()
    run = recorded(flow.run(history=store), store)
    assert run.approve(input={"yes": ["but"]}, flow=flow).result[asked].result == {"yes": ["but"]}
    run = recorded(flow.run(history=store), store)
    assert run.approve(flow=flow).result[asked].result is None


def test_typed_question_is_not_content_with_a_mere_approval(store, results):
    flow, asked, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    state = run.approve(flow=flow)
    assert [child.message for child in state.result[asked].map_states] == ["how many on here?", "how many on there?"]


def test_answer_holds_for_the_retries_that_follow(store, results):
    @task(max_retries=2, retry_delay=0)
    def ask():
        answer = pause_task("how many?", input=int)
        if context.task_run_count < 3:
            raise ValueError("the shop is closed")
        return answer

    with Flow("asks", result=results) as flow:
        asked = ask()
    run = recorded(flow.run(history=store), store)
    assert run.approve(input=3, flow=flow).result[asked].result == 3


def test_manual_only_is_approved_like_a_question(store, results):
    with Flow("manual", result=results) as flow:
        gate = task(lambda: "open", name="gate", trigger=triggers.manual_only)()
    run = recorded(flow.run(history=store), store)
    assert [row.slug for row in run.paused()] == ["gate-1"]
    assert run.approve("gate", flow=flow).result[gate].result == "open"


def test_pause_signal_is_approved_like_a_question(store, results):
    @task
    def ask():
        if not context.get("resume"):
            raise signals.PAUSE("wait")
        return context.get("answers")

    with Flow("asks", result=results) as flow:
        asked = ask()
    run = recorded(flow.run(history=store), store)
    assert run.approve(asked, input=1, flow=flow).result[asked].result == {"wait": 1}


def test_approval_without_resume_is_kept_until_the_run_is_resumed(store, results):
    flow, asked, _ = asking(results)
    state = flow.run(history=store)
    run = recorded(state, store)
    assert run.approve(asked, 0, input=1) is None
    assert run.approve(asked, 0, input=2) is None  # the last word counts
    assert [row.state for row in run.paused()] == ["Resume", "Paused"]
    resumed = flow.resume(run.id, history=store)
    assert [child.result for child in resumed.result[asked].map_states[:1]] == [("here", 2)]
    assert [row.label for row in run.paused()] == ["deploy[1]"]


def test_question_with_a_time_limit_continues_without_an_answer():
    @task
    def ask():
        return pause_task("within the hour?", duration=3600, input=bool)

    with VirtualClock() as clock:
        with Flow("asks") as flow:
            asked = ask()
        state = flow.run(history=False)
    assert state.result[asked].result is None
    assert clock.elapsed >= 3600


def test_task_states_may_hold_an_answer_too():
    with Flow("asks") as flow:
        asked = deploy("here")
    state = flow.run(history=False, task_states={asked: Resume(context={"answers": {"how many on here?": 7}})})
    assert state.result[asked].result == ("here", 7)


def test_approval_of_a_mapped_child_is_found_by_its_item_when_the_list_has_changed(store, results):
    flow, asked, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    run.approve(asked, 1, input=9)
    with Flow("asks", result=results) as changed:
        again = deploy.map(["elsewhere", "there", "here"])
        note.map(again)
    state = changed.resume(run.id, history=store, force=True)
    assert state.result[again].map_states[1].result == ("there", 9)
    assert [type(child) for child in state.result[again].map_states] == [Paused, Success, Paused]


# ---------------------------------------------------------------------- what is refused


def test_what_is_not_paused_is_named(store, results):
    flow, asked, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    text = rf"^'nothing waits for an approval as note in run {run.id}; paused: deploy\[0\], deploy\[1\]'$"
    with pytest.raises(KeyError, match=text):
        run.approve("note")
    with pytest.raises(KeyError, match=r"nothing waits for an approval as deploy-1\[7\]"):
        run.approve("deploy-1", 7)
    run.approve(input=1, flow=flow)
    with pytest.raises(KeyError, match=r"nothing waits for an approval in run .*; paused: nothing"):
        run.approve()
    assert asked in flow.tasks


def test_answer_that_cannot_be_kept_is_refused_and_nothing_is_approved(store, results):
    flow, _, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    with pytest.raises(ValueError, match=r"^input=datetime.* cannot be stored until the run is resumed"):
        run.approve(input=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match=r"^input must have at most 10,000 characters, got 20,087$"):
        run.approve(input="x" * 20_000)
    assert [row.state for row in run.paused()] == ["Paused", "Paused"]


def test_secret_is_not_written_into_the_history(store, results):
    from prefectish import Secret

    flow, _, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    with context(secrets={"KEY": "sesame-sesame-open"}):
        value = Secret("KEY").get()
    with pytest.raises(ValueError, match=r"^input must not contain a secret, which would be stored; read the secret"):
        run.approve(input=value)


def test_type_that_cannot_be_checked_fails_before_anybody_is_asked():
    @task
    def ask():
        return pause_task("which?", input="no type")

    with Flow("asks") as flow:
        asked = ask()
    state = flow.run(history=False)
    assert type(state.result[asked]) is Failed
    assert isinstance(state.result[asked].result, FlowDefinitionError)


# ---------------------------------------------------------------------- in the background


def test_handle_approves_while_other_work_runs(store, results):
    release = threading.Event()
    asked_for = threading.Event()

    @task
    def wait():
        release.wait(60)
        return "waited"

    def tell(task, old, new):
        if isinstance(new, Paused):
            asked_for.set()

    with Flow("asks", result=results) as flow:
        waited = wait()
        asked = deploy("here", task_args={"state_handlers": [tell]})
    run = flow.start(history=store, executor=LocalDaskExecutor(num_workers=2))
    try:
        assert asked_for.wait(60)
        while not run.counts(asked).get("Paused"):  # the loop takes it up a moment after the body raised it
            assert not release.wait(0.01)
        with pytest.raises(RunLocked, match=r"is held by .*: approve it there, or when it has ended$"):
            history.run(run.id, store=store).approve(asked, input=1)
        run.approve(asked, input=2)
        with pytest.raises(ValueError, match=r"^wait is not paused$"):
            run.approve(waited)
    finally:
        release.set()
    state = run.wait(60)
    assert (state.result[asked].result, state.result[waited].result) == (("here", 2), "waited")


def test_handle_approves_a_run_that_has_ended_paused(store, results):
    flow, asked, _ = asking(results)
    run = flow.start(history=store)
    assert type(run.wait(60)) is Running
    first = run.id
    run.approve(asked, input=1, index=0)
    assert type(run.wait(60)) is Running
    run.approve(asked, input=2)
    state = run.wait(60)
    assert state.result[asked].result == [("here", 1), ("there", 2)]
    assert run.id == first
    with pytest.raises(KeyError, match="nothing waits for an approval"):
        run.approve(asked)


def test_handle_refuses_what_it_cannot_approve(results):
    flow, asked, _ = asking(results)
    run = flow.start(history=False)
    run.wait(60)
    with pytest.raises(RuntimeError, match=r"has ended, and history=False did not record it"):
        run.approve(asked, input=1)
    with pytest.raises(ValueError, match=r"is not in <Flow: name=asks>"):
        run.approve(confirm)


# ---------------------------------------------------------------------- from a shell

PROGRAM = """
from prefectish import Flow, pause_task, task
from prefectish.results import LocalResult

@task
def ask(x):
    return x * pause_task(f"how often {x}?", input=int)

@task
def tell(rows):
    print("rows", rows)

with Flow("asks", result=LocalResult(dir="RESULTS")) as flow:
    tell(ask.map(["a", "b"]))
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "asking.py"
    path.write_text(PROGRAM.replace("RESULTS", str(tmp_path / "results")))
    return path


def command(*args, store):
    call = [sys.executable, "-m", "prefectish.cli", *args, "--history", store]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


def test_command_approves_in_a_new_process_each_time(program, store):
    done = command("run", str(program), "--json", store=store)
    assert done.returncode == 5, done.stderr
    run_id = json.loads(done.stdout)["id"]
    assert history.run(run_id, store=store).source == f"{program}:flow"
    done = command("approve", run_id, "--task", "ask", "--item", "0", "--input", "2", store=store)
    assert done.returncode == 5, done.stderr
    done = command("approve", run_id, "--input", "many", store=store)
    assert done.returncode == 5, done.stderr
    shown = command("show", run_id, store=store).stdout
    assert "paused: ask[1]: how often b? (must be int, got 'many'" in shown
    assert f"prefectish approve {run_id} --executor local --history {store} [--task NAME]" in shown
    (paused,) = json.loads(command("show", run_id, "--json", store=store).stdout)["paused"]
    assert (paused["slug"], paused["index"], paused["state"]) == ("ask-1", 1, "Paused")
    done = command("approve", run_id, "--input", "3", store=store)
    assert done.returncode == 0, done.stderr
    assert "rows ['aa', 'bbb']" in done.stdout
    done = command("approve", run_id, store=store)
    assert done.returncode == 2
    assert "nothing waits for an approval" in done.stderr


def test_command_can_leave_the_resuming_to_another(program, store):
    run_id = json.loads(command("run", str(program), "--json", store=store).stdout)["id"]
    done = command("approve", run_id, "--no-resume", "--input", "1", store=store)
    told = f"approved; resume with: prefectish resume {run_id} --history {store}"
    assert (done.returncode, done.stdout.strip()) == (0, told)
    done = command("resume", run_id, store=store)
    assert done.returncode == 0, done.stderr
    assert "rows ['a', 'b']" in done.stdout


# ---------------------------------------------------------------------- where a flow is


here = Flow("found by its module")


def test_origin_is_the_module_that_has_the_flow(tmp_path, monkeypatch):
    assert origin_of(here) is not None
    assert origin_of(here).endswith(":here")
    assert origin_of(Flow("of a function")) is None
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "flows.py").write_text("from prefectish import Flow\nnightly = Flow('nightly')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from shop.flows import nightly

    assert origin_of(nightly) == "shop.flows:nightly"


def test_pauses_are_asked_about_on_the_terminal_once_each(executor, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or ("n" if "[1]" in text else "y"))

    @task
    def may(x):
        pause_task(f"may I {x}?")
        return x

    with Flow("asks") as flow:
        out = may.map([0, 1, 2])
    state = flow.run(executor=executor, history=False, on_pause="prompt")
    assert [type(child).__name__ for child in state[out].map_states] == ["Success", "Paused", "Success"]
    assert len(asked) == 3


def test_options_without_a_flow_approve_nothing(store, results):
    flow, _, _ = asking(results)
    run = recorded(flow.run(history=store), store)
    with pytest.raises(TypeError, match=r"approve\(\) takes index with flow=\.\.\., .*item=\.\.\. chooses a child"):
        run.approve("deploy", index=1)
    assert [row.state for row in run.paused()] == ["Paused"] * 2
