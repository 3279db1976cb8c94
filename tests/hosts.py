"""Several hosts on this machine: network namespaces around a router, which can lose what one sends to another.

Hosts share the file system, unless a process is started with a disk of its own. Needs root and ``ip``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

from distributed import Client
from real import running

#: The number of `CLONE_NEWNET`, which says to setns(2) that the file is a network namespace.
_NETWORK = 0x40000000
#: Where a worker listens, so that a firewall can be told.
WORKER_PORT = 9000
_networks = count()


def missing():
    """Return why no hosts can be made here; an empty text if they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip of iproute2 is not installed"
    try:
        with Network("one", "two") as network:
            network.cut("one", "two")
    except OSError as refusal:
        return f"this system does not allow it: {refusal}"
    return ""


class Network:
    """Hosts of given names, each with an address of its own.

    What is lost is lost as on a cable that was pulled: nobody is told.
    """

    def __init__(self, *hosts):
        self.name = f"prefectish-{os.getpid()}-{next(_networks)}"
        self.hosts = hosts
        self._rules = []

    def __enter__(self):
        try:
            for place in ("router", *self.hosts):
                _run("ip", "netns", "add", self._space(place))
                self._on(place, "link set lo up")
            for number, host in enumerate(self.hosts):
                self._join(host, number)
            _run(*self.on("router"), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for place in (*self.hosts, "router"):
            with suppress(OSError):  # it was not made
                _run("ip", "netns", "del", self._space(place))

    def address(self, host):
        return f"10.77.{self.hosts.index(host)}.2"

    def on(self, host):
        """Return what begins a command that runs on a host; it mounts for itself alone."""
        return ["ip", "netns", "exec", self._space(host)]

    @contextmanager
    def inside(self, host):
        """Have this thread on a host, and what it starts in the block: threads, processes, connections."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(f"/run/netns/{self._space(host)}")
            yield
        finally:
            _enter(f"/proc/self/fd/{before}")
            os.close(before)

    # -- faults ----------------------------------------------------------------------------------------------------

    def lose(self, source, target):
        """Lose all that one host sends to another."""
        self._add(f"from {self.address(source)} to {self.address(target)}")

    def cut(self, one, *others):
        """Cut a host off from others, both ways."""
        for other in others:
            self.lose(one, other)
            self.lose(other, one)

    def shut(self, host, port):
        """Let nobody connect to a port of a host, as firewalls do that let hosts connect to the outside only."""
        self._add(f"to {self.address(host)} ipproto tcp dport {port}")

    def heal(self):
        """Lose nothing any more."""
        while self._rules:
            self._rule("del", self._rules.pop())

    def _add(self, what):
        self._rule("add", what)
        self._rules.append(what)

    def _rule(self, verb, what):
        self._on("router", f"rule {verb} {what} blackhole")

    # -- making ----------------------------------------------------------------------------------------------------

    def _join(self, host, number):
        net, space = f"10.77.{number}", self._space("router")
        self._on(host, f"link add eth0 type veth peer name port{number} netns {space}")
        self._on("router", f"addr add {net}.1/24 dev port{number}", f"link set port{number} up")
        self._on(host, f"addr add {net}.2/24 dev eth0", "link set eth0 up", f"route add default via {net}.1")

    def _on(self, place, *commands):
        for command in commands:
            _run("ip", "-n", self._space(place), *command.split())

    def _space(self, place):
        return f"{self.name}-{place}"


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _enter(path):
    """Move this thread into a network namespace (Python has `os.setns` from 3.12 on)."""
    space = os.open(path, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(space, _NETWORK) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(space)


# -- Dask on hosts -----------------------------------------------------------------------------------------------------


@contextmanager
def cluster(network, *workers):
    """Run a scheduler on the host `scheduler`, and workers of one thread on hosts of their names; yield a client."""
    code = "from distributed.cli.dask_scheduler import main; main()"
    own = network.address("scheduler")
    with ExitStack() as stack:
        options = ("--host", own, "--port", "8786", "--no-dashboard")
        stack.enter_context(running(code, *options, before=network.on("scheduler")))
        for worker in workers:
            stack.enter_context(worker_on(network, worker))
        with Client(f"tcp://{own}:8786", set_as_default=False, timeout=60) as client:
            client.wait_for_workers(len(workers), 60)
            yield client
            network.heal()  # so that all of it ends by itself


@contextmanager
def worker_on(network, host, hidden=None):
    """Run a worker of one thread on a host; yield its process.

    Parameters
    ----------
    hidden : a folder in whose place it sees an empty disk of its own.
    """
    code = "from distributed.cli.dask_worker import main; main()"
    before = network.on(host)
    if hidden is not None:
        before = [*before, "sh", "-c", f"mount -t tmpfs none '{hidden}' && exec \"$@\"", "sh"]
    address = f"tcp://{network.address('scheduler')}:8786"
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", host)
    place = ("--host", network.address(host), "--worker-port", str(WORKER_PORT))
    with running(code, address, *options, *place, before=before) as process:
        yield process
