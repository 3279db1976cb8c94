"""C3: a notebook is interrupted while a run goes on in it, and its kernel lives on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client import KernelManager
from real import notes, until

pytestmark = pytest.mark.fault

LIMIT = 60.0

SETUP = """
import os, sys, json, signal, threading
sys.path.insert(0, {tests!r})
import cloudpickle
import interrupted_flow as script
cloudpickle.register_pickle_by_value(script)
from prefectish import history
flow, children, end = script.build({folder!r}, 1.0)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
"""
RUN = "flow.run(executor={executor}, history=os.path.join({folder!r}, 'history.db'))"
AFTER = """
facts = script.told_of(sys.last_value, children, end)
facts["handlers"] = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
facts["busy"] = sorted(t.name for t in threading.enumerate() if t.name.startswith("prefectish"))
print("FACTS", json.dumps(facts))
"""
OWN_CLIENT = """
from distributed import Client
from prefectish.executors import DaskExecutor
client = Client({address!r})
"""
KEYS = "print('KEYS', client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))"
AGAIN = """
from prefectish import Flow, task
again = Flow("again", tasks=[one := task(lambda: 1, name="one")])
print("AGAIN", again.run(executor={executor}, history=False).result[one].result)
"""


class Notebook:
    """A kernel, and what its cells print."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(LIMIT)

    def start(self, code):
        """Begin to run a cell."""
        return self.client.execute(code, store_history=False)

    def finish(self, cell):
        """Wait for the end of a cell; return what it printed and the name of its error, None for none."""
        printed, error = "", None
        while True:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
            elif kind == "error":
                error = content["ename"]
                printed += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error

    def run(self, code):
        printed, error = self.finish(self.start(code))
        assert error is None, printed
        return printed

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook():
    opened = Notebook()
    yield opened
    opened.close()


EXECUTORS = {
    "local": "None",
    "threads": "script.EXECUTORS['threads']()",
    "dask": "DaskExecutor(client=client)",
    "temporary": "script.EXECUTORS['dask']()",
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_c3_interrupted_kernel_lives_on_and_nothing_of_the_run_does(executor, notebook, dask_client, tmp_path):
    notebook.run(SETUP.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    if executor == "dask":
        notebook.run(OWN_CLIENT.format(address=dask_client.scheduler.address))
    cell = notebook.start(RUN.format(executor=EXECUTORS[executor], folder=str(tmp_path)))
    until(lambda: len(notes(tmp_path / "bodies")) >= 4, LIMIT)
    notebook.manager.interrupt_kernel()
    printed, error = notebook.finish(cell)
    assert error == "KeyboardInterrupt", printed
    facts = json.loads(notebook.run(AFTER).rpartition("FACTS")[2])
    assert facts["error"] == "KeyboardInterrupt"
    assert facts["code"] == 130
    assert {"Cancelled"} <= facts["children"].keys() <= {"Success", "Cancelled"}
    assert sum(facts["children"].values()) == 40
    assert facts["end"] == 'Cancelled("never started")'
    assert facts["handlers"], "the kernel's own handlers are back"
    if executor == "dask":
        before = len(notes(tmp_path / "bodies"))
        until(lambda: "KEYS 0" in notebook.run(KEYS), LIMIT)
        assert len(notes(tmp_path / "bodies")) <= before + 4, "what a worker had begun ends, and nothing else begins"
    begun = len(notes(tmp_path / "bodies"))
    assert begun < 12
    printed = notebook.run(AGAIN.format(executor=EXECUTORS[executor]))
    assert "AGAIN 1" in printed, "the kernel can run flows, on the same cluster too"
    assert len(notes(tmp_path / "bodies")) <= begun + 2, "bodies that had been handed out, at most one a worker"


def test_c3_interrupt_between_cells_is_the_kernels(notebook, tmp_path):
    notebook.run(SETUP.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    notebook.manager.interrupt_kernel()
    assert "1" in notebook.run("print(1)")
