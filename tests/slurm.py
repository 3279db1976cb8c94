"""A SLURM of the tests' own: a controller and a node on this machine, in a folder of its own, gone with the tests."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from real import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
#: Where daemons are installed, if a user's PATH does not say.
_PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
#: More processors than this machine may have: most jobs of the tests wait.
_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
#: Neither systemd nor a cgroup of its own is needed where processes are followed by their parents.
_CGROUPS = "CgroupPlugin=autodetect\nIgnoreSystemd=yes\n"


def missing() -> str | None:
    """Return why there can be no SLURM here; None if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "slurmctld and slurmd need root"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]:
        return f"not installed: {', '.join(absent)}"
    return None if find_spec("dask_jobqueue") else "not installed: dask_jobqueue"


class Slurm:
    """A cluster of one node, of eight processors.

    Attributes
    ----------
    environment : what its commands need.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        host = socket.gethostname().partition(".")[0]
        ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
        (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=host, folder=folder, **ports))
        (folder / "cgroup.conf").write_text(_CGROUPS)
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)
        for name in ("state", "spool"):
            (folder / name).mkdir()

    def call(self, *command: str) -> str:
        """Return what a command of SLURM prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Return the numbers of jobs that wait, run or end, or of those in some states."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.call("squeue", "--noheader", "--format=%i", *chosen).split()

    def ready(self) -> bool:
        """Whether the node takes jobs; a controller that starts does not answer yet."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], env={**os.environ, **self.environment}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0 and done.stdout.split() == ["idle"]

    def logs(self) -> str:
        """Return the ends of what the daemons have logged."""
        return "".join(f"\n{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(self._folder.glob("*.log")))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the daemons; the controller has to answer before the node reports to it."""
        folder = self._folder
        with ExitStack() as stack:
            stack.enter_context(
                self._daemon(
                    "munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
                    f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid",
                    f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged-own.log",
                )
            )  # fmt: skip
            until((folder / "munge.socket").exists, 20)
            stack.enter_context(self._daemon("slurmctld", "-D"))
            until(lambda: "UP" in self._ping(), 30)
            stack.enter_context(self._daemon("slurmd", "-D"))
            until(self.ready, 30)
            stack.callback(self._end_jobs)
            yield

    def _ping(self) -> str:
        command = ["scontrol", "ping"]
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    def _end_jobs(self) -> None:
        """End what runs: its processes are not the daemons' children."""
        self.call("scancel", "--user=root")
        until(lambda: not self.jobs(), 40)

    @contextmanager
    def _daemon(self, program: str, *options: str) -> Iterator[None]:
        path = shutil.which(program, path=_PATH)
        assert path is not None
        with open(self._folder / f"{program}.log", "wb") as log:
            process = subprocess.Popen(
                [path, *options], env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(15)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Run a SLURM for the time of the block."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: those of sockets have some hundred characters
    try:
        made = Slurm(folder)
        with made.running():
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
