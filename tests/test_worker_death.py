"""What is told of a worker that died: how it ended, its memory, its last words."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from prefectish.engine.scheduling.deaths import death_in_words
from prefectish.executors import crash_log
from prefectish.executors.worker_death import how_it_ended, worker_evidence
from prefectish.process_tree import exit_evidence


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("distributed.nanny - INFO - Worker process 17 exited with status 7", {"exit_code": 7}),
        (
            "distributed.nanny - INFO - Worker process 17 was killed by signal 11",
            {"exit_code": -11, "signal": "SIGSEGV"},
        ),
        ("distributed.nanny - INFO - Worker process 171 exited with status 7", {}),
        ("distributed.nanny - INFO - Worker process 17 was killed by unknown signal", {}),
    ],
)
def test_end_of_a_worker_is_read_from_the_log_of_its_nanny(line, known):
    assert how_it_ended(["something else", line], 17) == known


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({}, ""),
        (exit_evidence(7), "exit code 7"),
        (exit_evidence(-11), "killed by signal 11 (SIGSEGV)"),
        (exit_evidence(-9), "killed by signal 9 (SIGKILL), possibly out of memory"),
        (exit_evidence(-200), "killed by signal 200 (unknown)"),
        ({**exit_evidence(-15), "out_of_memory": True}, "possibly out of memory"),
    ],
)
def test_end_of_a_worker_is_reported_in_a_few_words(evidence, words):
    assert death_in_words(evidence) == words


NANNY, WORKER = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"
ENDED = ("INFO", "distributed.nanny - INFO - Worker process 17 was killed by signal 9")


def evidence_with(answers, workers=()):
    """Return the evidence of a worker whose nanny gives those answers, and later none; and the number of questions.

    An answer is the lines of its log, newest first, or the seconds that it takes to give none.
    """
    left = list(answers)

    async def get_logs(n):
        answer = left.pop(0) if left else ()
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = ()
        return answer

    scheduler = SimpleNamespace(
        rpc=lambda address: SimpleNamespace(get_logs=get_logs),
        workers={str(n): worker for n, worker in enumerate(workers)},
        plugins={},
        get_events=lambda topic: (),
    )
    client = SimpleNamespace(
        run_on_scheduler=lambda question, **about: asyncio.run(question(dask_scheduler=scheduler, **about))
    )
    dead = SimpleNamespace(address=WORKER, pid=17, nanny=NANNY, memory_limit=None)
    return worker_evidence(client, dead), len(answers) - len(left)


@pytest.mark.parametrize("answers", [[(), 2.5, (ENDED,)], [*[()] * 25, (ENDED,)]], ids=["slow", "late"])
def test_nanny_of_a_busy_machine_is_waited_for(answers):
    known, asked = evidence_with(answers)
    assert (known["exit_code"], known["signal"]) == (-9, "SIGKILL")
    assert asked == len(answers)


def test_nanny_that_has_begun_another_worker_is_not_waited_for():
    """It logs no end with exit code 0."""
    known, asked = evidence_with([()] * 9, [SimpleNamespace(nanny=NANNY, pid=18), SimpleNamespace(nanny="", pid=19)])
    assert (known.get("exit_code"), asked) == (None, 1)


SPEAK = """
import ctypes, logging, sys
from prefectish.process_tree import exit_evidence
from prefectish.executors import crash_log
crash_log.start(sys.argv[1])
for n in range(30):
    logging.getLogger("mine").warning("line %d", n)
logging.getLogger("mine").info("nobody keeps this")
def crash():
    ctypes.string_at(0)
crash()
"""


def test_last_words_are_the_last_lines_and_where_it_crashed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SPEAK, str(tmp_path)])
    assert process.wait(60) == -11
    said = crash_log.read(str(tmp_path), process.pid)
    logged = [line for line in said if " mine WARNING " in line]
    assert [line.rpartition("WARNING ")[2] for line in logged] == [f"line {n}" for n in range(10, 30)]
    assert "Fatal Python error: Segmentation fault" in said
    assert any("in crash" in line for line in said)
    assert not any("nobody keeps this" in line for line in said)


def test_process_without_output_has_no_crash_log(tmp_path):
    assert crash_log.read(str(tmp_path), os.getpid()) == []


def test_folder_that_cannot_be_written_keeps_no_worker_from_starting(tmp_path):
    import dask

    handlers = list(logging.getLogger().handlers)
    with dask.config.set({crash_log.SETTING: str(tmp_path / "missing")}):
        crash_log.dask_setup(None)
    assert logging.getLogger().handlers == handlers
