"""Signals that arrive where Python drops exceptions: in a ``__del__``, in a callback of the garbage collector."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import gc, os, signal, sys, warnings
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor, LocalExecutor

number = getattr(signal, sys.argv[2])
sent = []

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), number)
        for _ in range(1000):  # the handler runs here, and what it raises is dropped
            pass

@task
def body(x):
    return x

class Noisy(LocalExecutor if sys.argv[1] == "local" else LocalDaskExecutor):
    def start(self, plan, run):
        opened = super().start(plan, run)
        class Session:
            def __enter__(self):
                self.inner = opened.__enter__()
                return self
            def __exit__(self, *error):
                return opened.__exit__(*error)
            def __getattr__(self, name):
                return getattr(self.inner, name)
            def receipts(self, timeout):
                if not sent:
                    sent.append(1)
                    Dropped()
                return self.inner.receipts(timeout)
        return Session()

with Flow("swallowed") as flow:
    children = body.map(list(range(20_000)))

if __name__ == "__main__":
    try:
        flow.run(executor=Noisy(), history=False)
    except BaseException as error:
        states = [type(c).__name__ for c in error.state.result[children].map_states]
        print(type(error).__name__, error.state.exit_code, len(states), "Cancelled" in states, flush=True)
        raise
    print("the run went on to its end")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("executor", ["local", "threads"])
@pytest.mark.parametrize(
    ("number", "told", "codes"),
    [("SIGINT", "KeyboardInterrupt 130", (130, -2)), ("SIGTERM", "SystemExit 143", (143,))],
    ids=["c1", "c5"],
)
def test_c1_c5_signal_whose_exception_was_dropped_ends_the_run_nevertheless(executor, number, told, codes, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(script), executor, number],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PREFECTISH_HOME": str(tmp_path)},
    )
    assert "Exception ignored in" in done.stderr, "it was not dropped, so nothing was shown"
    assert done.stdout.strip() == f"{told} 20000 True", done.stdout + done.stderr[-2000:]
    assert done.returncode in codes
