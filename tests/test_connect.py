"""Finding a scheduler, starting a cluster, and leaving nothing behind: with real processes, which are really killed."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import distributed
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from real import spend

from prefectish import Flow, task
from prefectish.errors import EnvironmentMismatch, FlowDefinitionError, SchedulerLost
from prefectish.executors import DaskExecutor, probe
from prefectish.executors import connect as connect_module
from prefectish.executors.connect import connect
from prefectish.executors.preflight import compare
from prefectish.executors.probe import is_loopback, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Seconds for what should take less than one, on a machine that does other things too.
LIMIT = 30.0


def until(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    """Return what `condition` gives once it is true of processes that cannot be waited on."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, f"still not after {limit} s"
        threading.Event().wait(0.02)
    return found


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie waits for a parent that is not ours."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def closed_port() -> int:
    with closing(socket.socket()) as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


# ---------------------------------------------------------------------- what listens at an address


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve connections one after the other with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    answer(link)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT)


@pytest.fixture
def web_address() -> Iterator[str]:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(LIMIT)


def refusal(address: str, **options: Any) -> tuple[SchedulerLost, float]:
    """Return how connecting failed, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(SchedulerLost) as caught, connect(address, **options):
        pass
    return caught.value, time.monotonic() - began


def test_closed_port_is_an_error_when_the_time_is_up() -> None:
    address = f"tcp://127.0.0.1:{closed_port()}"
    error, took = refusal(address, client_kwargs={"timeout": "300ms"})
    assert str(error).startswith(f"no Dask scheduler at {address} after 0.3 s")
    assert isinstance(error, ConnectionError)
    assert error.exit_code == 3
    assert 0.3 <= took < 5


def test_connect_timeout_is_read_from_the_configuration_of_dask() -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        error, _ = refusal(f"tcp://127.0.0.1:{closed_port()}")
    assert "after 0.2 s" in str(error)


def test_web_server_is_distinguished_from_a_scheduler_at_once(
    web_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    error, took = refusal(web_address)
    assert str(error).startswith(f"no Dask scheduler at {web_address}")
    assert error.__suppress_context__
    assert took < 5
    assert caplog.records == []


def test_listener_that_hangs_up_is_not_a_scheduler() -> None:
    with listening(lambda link: None) as address:
        assert "hangs up" in str(refusal(address)[0])


def test_listener_that_speaks_another_protocol_is_not_a_scheduler() -> None:
    with listening(lambda link: link.sendall(b"SSH-2.0-OpenSSH_9.7\r\n")) as address:
        assert "SSH-2.0-" in str(refusal(address)[0])


def test_listener_that_stays_silent_is_an_error_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SILENCE", 0.05)
    with listening(lambda link: [None for _ in iter(lambda: link.recv(64), b"")]) as address:
        error, _ = refusal(address, client_kwargs={"timeout": 0.3})
    assert "after 0.3 s" in str(error)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tcp://localhost:8786", True),
        ("tls://[::1]:8786", True),
        ("inproc://1/2/3", True),
        ("tcp://0.0.0.0:8786", False),
        ("tcp://192.0.2.1:8786", False),
        ("192.0.2.1:8786", False),
    ],
)
def test_x1_loopback_is_what_no_other_machine_reaches(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize("address", ["tcp://127.0.0.1", "tcp://me:pass@word:x", "tcp://me:password@host:8786", "8786"])
def test_x12_malformed_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(FlowDefinitionError, match="address must be like") as caught, connect(address):
        pass
    assert "pass" not in str(caught.value)


def test_x12_masked_hides_credentials_only() -> None:
    assert masked("tls://me:secret@host:1") == "tls://***@host:1"
    assert masked("me:secret@host:1") == "***@host:1"
    assert masked("tcp://host:1") == "tcp://host:1"


# ---------------------------------------------------------------------- who may be on the wire


@pytest.fixture
def faraway(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of another machine (192.0.2.0/24 belongs to nobody) at which nobody answers, at once."""

    def refuse(*args: Any) -> None:
        raise SchedulerLost("stopped here")

    monkeypatch.setattr(connect_module, "await_scheduler", refuse)
    monkeypatch.setattr(connect_module, "_warned", set())
    return "tcp://192.0.2.1:8786"


def test_x1_open_scheduler_that_others_reach_is_warned_of_once(faraway: str) -> None:
    with pytest.warns(UserWarning, match="unauthenticated scheduler: any peer can run code on it"):
        refusal(faraway)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(faraway)


def test_x1_require_tls_refuses_an_open_scheduler_before_it_connects(faraway: str) -> None:
    with pytest.raises(FlowDefinitionError, match="not encrypted") as caught, connect(faraway, require_tls=True):
        pass
    assert caught.value.exit_code == 2


def test_x1_require_tls_refuses_a_client_that_is_not_encrypted(dask_client: Client) -> None:
    with pytest.raises(FlowDefinitionError, match="not encrypted"), connect(client=dask_client, require_tls=True):
        pass


def test_security_among_the_arguments_of_the_client_is_used(
    tls_address: str, certificates: Callable[[str], Security]
) -> None:
    executor = DaskExecutor(tls_address, client_kwargs={"security": certificates("ours")}, require_tls=True)
    flow = Flow("encrypted", tasks=[task(lambda: 1, name="one")])
    assert flow.run(executor=executor, history=False).is_successful()


def test_x2_tls_without_certificates_is_an_error_at_once() -> None:
    error, _ = refusal("tls://127.0.0.1:8786")
    assert "tls_client_cert" in str(error)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Security]:
    """Make the certificates of an authority, by its name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    made: dict[str, Security] = {}

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=LIMIT)

    def make(name: str) -> Security:
        if name not in made:
            key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
            openssl("req", "-x509", *key, "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem", "-subj", f"/CN={name}")
            openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=node")
            openssl(
                *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key"),
                *("-CAcreateserial", "-out", f"{name}.pem", "-days", "2"),
            )
            files = {"cert": str(folder / f"{name}.pem"), "key": str(folder / f"{name}.key")}
            node = {f"tls_{role}_{kind}": files[kind] for role in ("client", "scheduler", "worker") for kind in files}
            made[name] = Security(tls_ca_file=str(folder / f"{name}-ca.pem"), require_encryption=True, **node)
        return made[name]

    return make


@pytest.fixture(scope="module")
def tls_address(certificates: Callable[[str], Security]) -> Iterator[str]:
    with connect(cluster_kwargs={"n_workers": 1}, security=certificates("ours"), require_tls=True) as own:
        yield own.client.scheduler.address


def test_tls_reaches_a_scheduler_that_knows_us(tls_address: str, certificates: Callable[[str], Security]) -> None:
    with connect(tls_address, security=certificates("ours"), require_tls=True) as connection:
        assert tls_address.startswith("tls://127.0.0.1:")
        assert connection.client.submit(abs, -1).result(LIMIT) == 1


def test_x2_tls_with_certificates_of_another_authority_is_an_error_at_once(
    tls_address: str, certificates: Callable[[str], Security]
) -> None:
    error, took = refusal(tls_address, security=certificates("others"))
    assert "TLS failed" in str(error)
    assert took < 5


def test_x2_plain_tcp_to_a_port_of_tls_is_an_error_at_once(tls_address: str) -> None:
    error, took = refusal(tls_address.replace("tls://", "tcp://"))
    assert str(error).startswith("no Dask scheduler at tcp://")
    assert took < 5


def test_x2_tls_to_a_port_of_plain_tcp_is_an_error_at_once(
    scheduler_address: str, certificates: Callable[[str], Security]
) -> None:
    error, took = refusal(scheduler_address.replace("tcp://", "tls://"), security=certificates("ours"))
    assert "TLS failed" in str(error)
    assert took < 5


# ---------------------------------------------------------------------- scheduler and workers of the command line


@contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT)


@contextmanager
def command_line_scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    file = folder / "scheduler.json"
    code = "from distributed.cli.dask_scheduler import main; main()"
    with running(
        code, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
    ) as process:
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        yield json.loads(file.read_text())["address"], process


def worker_code(before: str = "pass") -> str:
    return f"import sys; {before}; from distributed.cli.dask_worker import main; main()"


@pytest.fixture(scope="module")
def scheduler_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with one worker, as ``dask scheduler`` and ``dask worker`` start them."""
    with (
        command_line_scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _),
        running(worker_code(), address, "--no-nanny", "--nthreads", "3", "--no-dashboard", "--resources", "GPU=1"),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, LIMIT)
        yield address


def test_address_reaches_a_cluster_of_the_command_line(scheduler_address: str) -> None:
    with connect(scheduler_address) as connection:
        assert connection.client.submit(os.getpid).result(LIMIT) != os.getpid()
        (worker,) = connection.workers().values()
        assert (worker["nthreads"], worker["resources"]) == (3, {"GPU": 1})
        assert connection.total_threads() == connection.maximum_threads() == 3
        assert (connection.owned, connection.temporary) == (True, False)
        assert repr(connection) == f"<Connection to {scheduler_address}>"
    assert connection.client.status == "closed"


def test_own_client_is_not_the_default_client(scheduler_address: str, dask_client: Client) -> None:
    with connect(scheduler_address) as connection:
        # In a context of its own, since a client in a `with` block is the default of all that happens inside.
        assert contextvars.Context().run(distributed.default_client) is dask_client
        future = connection.client.submit(abs, -2)
        connection.wait_any([future], LIMIT)
        assert future.status == "finished"


def test_wait_any_returns_when_the_time_is_up(scheduler_address: str) -> None:
    with connect(scheduler_address) as connection:
        future = connection.client.submit(abs, -3, resources={"NOWHERE": 1})
        connection.wait_any([future], 0.05)
        assert future.status == "pending"
        future.cancel()
        connection.wait_any([future], LIMIT)
        assert future.status == "cancelled"


def test_worker_without_prefectish_is_named(scheduler_address: str) -> None:
    hidden = "sys.modules['prefectish'] = None"
    with (
        running(worker_code(hidden), scheduler_address, "--no-nanny", "--name", "bare", "--no-dashboard"),
        Client(scheduler_address, set_as_default=False) as client,
    ):

        def bare() -> list[str]:
            return [a for a, worker in client.scheduler_info()["workers"].items() if worker["name"] == "bare"]

        (address,) = until(bare)
        with pytest.raises(EnvironmentMismatch) as caught, connect(scheduler_address):
            pass
        assert str(caught.value) == (f"prefectish cannot be imported on worker {address}; pip install prefectish there")
        client.retire_workers([address])
        until(lambda: not bare())


def test_lost_scheduler_is_reported_and_closing_is_quick_and_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with command_line_scheduler(tmp_path) as (address, process):
        with connect(address) as connection:
            process.kill()
            until(lambda: connection.client.status != "running")
            with pytest.raises(SchedulerLost):
                connection.workers()
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


# ---------------------------------------------------------------------- what runs there


def test_compare_refuses_another_minor_version_of_python() -> None:
    answers = {"scheduler s": ((3, 11), "1"), "worker w": ((3, 12), "1")}
    with pytest.raises(EnvironmentMismatch, match=r"Python is 3\.11 here .* worker w \(3\.12\)") as caught:
        compare(answers, (3, 11), "1")
    assert caught.value.exit_code == 3


def test_compare_names_a_few_of_many_places() -> None:
    answers = {f"worker {n}": ((3, 11), None) for n in range(5)}
    with pytest.raises(EnvironmentMismatch, match="on worker 0, worker 1, worker 2 and 2 more; pip install"):
        compare(answers, (3, 11), "1")


def test_compare_warns_of_another_version_of_prefectish() -> None:
    with pytest.warns(UserWarning, match=r"prefectish is 2 here .* worker w \(1\)"):
        compare({"worker w": ((3, 11), "1")}, (3, 11), "2")


def test_compare_accepts_equals() -> None:
    equal = {"scheduler s": ((3, 11), "1"), "worker w": ((3, 11), "1")}
    assert compare(equal, (3, 11), "1") is None  # it raises for others


# ---------------------------------------------------------------------- a client of the user's


def test_client_of_the_user_is_left_alone(dask_client: Client) -> None:
    before = dask_client.run(os.getpid)
    with connect(client=dask_client) as connection:
        assert connection.client is dask_client
        assert (connection.owned, connection.temporary) == (False, False)
        assert connection.total_threads() == 4
    assert dask_client.status == "running"
    assert dask_client.run(os.getpid) == before
    assert distributed.default_client() is dask_client


def test_asynchronous_client_is_refused(scheduler_address: str) -> None:
    async def main() -> None:
        async with Client(scheduler_address, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(FlowDefinitionError, match="client must not be asynchronous"), connect(client=client):
                pass

    asyncio.run(main())


def test_closed_client_is_refused(scheduler_address: str) -> None:
    client = Client(scheduler_address, set_as_default=False)
    client.close()
    with pytest.raises(SchedulerLost, match="closed"), connect(client=client):
        pass


def test_connect_works_beside_a_running_loop(scheduler_address: str, dask_client: Client) -> None:
    async def main() -> list[int]:
        with connect(scheduler_address) as one, connect(client=dask_client) as two:
            return [c.client.submit(abs, -n).result(LIMIT) for n, c in enumerate([one, two])]

    assert asyncio.run(main()) == [0, 1]


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": "tcp://a:1", "cluster_class": "b.C"}, "address and cluster_class"),
        ({"address": "tcp://a:1", "cluster_kwargs": {}}, "cluster_kwargs has no meaning with address"),
        ({"address": "tcp://a:1", "adapt_kwargs": {}}, "adapt_kwargs has no meaning with address"),
        ({"client": object(), "security": True}, "security has no meaning with client"),
        ({"client": object()}, r"client must be a distributed\.Client"),
        ({"address": 8786}, "address must be a string, got 8786"),
        ({"client_kwargs": {"asynchronous": True}}, "client_kwargs must not set asynchronous"),
        ({"cluster_class": "no.such.Cluster"}, r"'no\.such\.Cluster' is not the dotted name"),
        ({"cluster_class": "distributed.NoCluster"}, "NoCluster"),
        ({"cluster_class": "Cluster"}, "'Cluster' is not the dotted name"),
        ({"cluster_kwargs": {"host": "0.0.0.0"}}, "loopback only"),
        ({"cluster_kwargs": {"interface": "eth0"}}, "loopback only"),
        ({"cluster_kwargs": {"env": threading.Lock()}}, "cannot be sent"),
    ],
)
def test_contradicting_arguments_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught, connect(**arguments):
        pass
    assert isinstance(caught.value, FlowDefinitionError)


# ---------------------------------------------------------------------- a cluster of the user's class


def test_missing_library_of_a_cluster_class_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(FlowDefinitionError, match=r'"prefectish\[slurm\]"$'):
        DaskExecutor(cluster_class="dask_jobqueue.SLURMCluster")


def test_report_is_refused_before_the_run_where_bokeh_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dask_client: Client
) -> None:
    monkeypatch.setattr("prefectish.executors.cluster.find_spec", lambda name: None)
    done: list[int] = []
    with Flow("reported") as flow:
        task(done.append, name="add")(1)
    executor = DaskExecutor(client=dask_client, performance_report_path=str(tmp_path / "report.html"))
    with pytest.raises(ModuleNotFoundError, match=r"^performance_report_path needs bokeh"):
        flow.run(executor=executor, progress=False, history=False)
    assert done == []


def test_import_of_a_cluster_class_changes_no_handler_of_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of dask_jobqueue sets some, and fails in a thread: it is imported where the executor is made."""
    source = "import signal\nsignal.signal(signal.SIGINT, lambda *_: None)\nfrom distributed import LocalCluster\n"
    (tmp_path / "cluster_with_handlers.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    DaskExecutor(cluster_class="cluster_with_handlers.LocalCluster")
    assert sys.modules.pop("cluster_with_handlers")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("named", [True, False])
def test_cluster_class_is_started_scaled_and_closed(named: bool) -> None:
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with connect(
        cluster_class="distributed.LocalCluster" if named else LocalCluster,
        cluster_kwargs=options,
        adapt_kwargs={"minimum": 1, "maximum": 5},
    ) as connection:
        cluster = connection.client.cluster
        assert (connection.owned, connection.temporary) == (True, True)
        assert connection.total_threads() == 2
        assert connection.maximum_threads() == 10
    assert cluster.status == distributed.Status.closed
    assert connection.client.status == "closed"


# ---------------------------------------------------------------------- the temporary cluster


def test_temporary_cluster_takes_its_arguments_and_leaves_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = {p.pid for p in below(os.getpid())}
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1GiB", "resources": {"GPU": 2}}
    with connect(cluster_kwargs=options) as connection:
        processes = [p for p in below(os.getpid()) if p.pid not in before]
        workers = connection.workers()
        assert {(w["nthreads"], w["memory_limit"], w["resources"]["GPU"]) for w in workers.values()} == {(1, 2**30, 2)}
        assert len(workers) == 2
        assert (connection.owned, connection.temporary) == (True, True)
        assert {os.getsid(p.pid) for p in processes} & {os.getsid(0)} == set(), "a terminal's Ctrl-C reaches it"
        listening_at = {c.laddr.ip for p in processes for c in p.net_connections() if c.status == "LISTEN"}
        assert listening_at == {"127.0.0.1"}
    assert alive(processes) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_temporary_cluster_grows_to_the_maximum() -> None:
    with connect(
        cluster_kwargs={"n_workers": 1, "threads_per_worker": 2},
        adapt_kwargs={"minimum": 2, "maximum": 3, "interval": "50ms"},
    ) as connection:
        until(lambda: len(connection.workers()) == 2)
        assert connection.maximum_threads() == 6


def test_temporary_cluster_that_cannot_start_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SchedulerLost, match=r"did not start: .*'n_worker'"), connect(cluster_kwargs={"n_worker": 2}):
        pass
    assert capfd.readouterr() == ("", "")


def test_temporary_cluster_closes_in_time_while_bodies_run() -> None:
    before = {p.pid for p in below(os.getpid())}
    with connect(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1}) as connection:
        future = connection.client.submit(spend, 600)
        until(lambda: any(connection.client.processing().values()))
        processes = [p for p in below(os.getpid()) if p.pid not in before]
        began = time.monotonic()
        del future
    assert time.monotonic() - began < 5
    assert alive(processes) == []


def test_temporary_cluster_replaces_a_nanny_that_ended() -> None:
    with connect(cluster_kwargs={"n_workers": 1}) as connection:
        (old,) = connection.workers()
        client = connection.client
        client.sync(client.scheduler.broadcast, msg={"op": "terminate"}, nanny=True, on_error="ignore")
        until(lambda: old not in connection.workers() and len(connection.workers()) == 1)
        assert client.submit(abs, -1).result(LIMIT) == 1


def test_temporary_cluster_survives_bodies_that_kill_its_workers() -> None:
    with connect(cluster_kwargs={"n_workers": 2, "threads_per_worker": 4}) as connection:
        client = connection.client
        futures = [client.submit(os._exit, 7, pure=False) for _ in range(2)]
        futures += client.map(abs, range(6))
        until(lambda: all(future.status != "pending" for future in futures), 60)
        assert [future.status for future in futures[:2]] == ["error", "error"]
        until(lambda: len(connection.workers()) == 2)
        assert client.submit(abs, -5, pure=False).result(LIMIT) == 5


def test_temporary_cluster_whose_host_was_killed_is_a_lost_scheduler(capfd: pytest.CaptureFixture[str]) -> None:
    before = {p.pid for p in below(os.getpid())}
    with connect(cluster_kwargs={"n_workers": 1}) as connection:
        processes = [p for p in below(os.getpid()) if p.pid not in before]
        (host,) = [p for p in processes if p.ppid() == os.getpid()]
        host.kill()
        until(lambda: connection.client.status != "running")
        with pytest.raises(SchedulerLost):
            connection.total_threads()
        until(lambda: not alive(processes), 5)
    assert capfd.readouterr() == ("", "")


def test_interrupt_while_the_temporary_cluster_starts_leaves_nothing() -> None:
    before = {p.pid for p in below(os.getpid())}

    def interrupt() -> None:
        until(lambda: {p.pid for p in below(os.getpid())} - before)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), connect():
        threading.Event().wait(LIMIT)
    thread.join(LIMIT)
    until(lambda: not {p.pid for p in alive(below(os.getpid()))} - before, 5)


# ---------------------------------------------------------------------- a script, and its sudden end

#: A line and its end in one write, so that the lines of two workers on one pipe cannot mix.
HELPER = "def double(x):\n    print(f'doubling {x}\\n', end='', flush=True)\n    return 2 * x\n"
SCRIPT = """
from helper import double
from prefectish.executors.connect import connect

print("imported")
with connect(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}) as connection:
    print("sum", sum(connection.client.gather(connection.client.map(double, range(4)))))
"""


def test_plain_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "script.py").write_text(SCRIPT)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "random.py").write_text("raise ImportError('a file that lies about must not be imported')")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "script.py")],
        cwd=elsewhere, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("doubling")] == ["imported", "sum 12"]
    assert sorted(line for line in lines if line.startswith("doubling")) == [f"doubling {n}" for n in range(4)]
    assert done.returncode == 0


DRIVER = """
import os, sys, time
from prefectish.executors.connect import connect

with connect(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}) as connection:
    busy = connection.client.submit(time.sleep, 600)
    while not any(connection.client.processing().values()):
        time.sleep(0.01)
    #FORK
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def driver() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start drivers whose cluster is at work."""
    started = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.communicate()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("forked", [False, True])
def test_nothing_is_left_five_seconds_after_the_driver_was_killed(
    driver: Callable[[str], subprocess.Popen[str]], forked: bool
) -> None:
    process = driver(
        DRIVER.replace("#FORK", "forked = os.fork() or (os.close(1), os.close(2), time.sleep(600))")
        if forked
        else DRIVER
    )
    processes = below(process.pid)
    heirs = [p for p in processes if p.ppid() == process.pid and os.getsid(p.pid) == os.getsid(0)]
    cluster = [p for p in processes if p not in heirs]
    assert len(cluster) >= 3, cluster
    assert len(heirs) == forked
    process.send_signal(signal.SIGKILL)
    try:
        until(lambda: not alive(cluster), 5)
    finally:
        for heir in heirs:
            heir.kill()
    assert process.communicate(timeout=LIMIT)[1] == ""


def test_interrupted_driver_ends_its_cluster(driver: Callable[[str], subprocess.Popen[str]]) -> None:
    process = driver(DRIVER)
    cluster = below(process.pid)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=LIMIT)[1]
    assert alive(cluster) == []
