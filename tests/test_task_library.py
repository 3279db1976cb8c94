"""Tasks for common chores, against real servers, files and processes of this machine."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from smtplib import SMTPAuthenticationError, SMTPNotSupportedError

import pytest
from real import until

from prefectish import Flow, context
from prefectish.engine.signals import FAIL
from prefectish.engine.state import Failed, Success, TimedOut
from prefectish.optional_deps import load
from prefectish.tasks.files import ReadFile, WriteFile
from prefectish.tasks.http import HTTPTask
from prefectish.tasks.mail import EmailTask
from prefectish.tasks.shell import ShellTask
from prefectish.tasks.slack import SlackTask
from prefectish.tasks.sql import SQLTask


def alive(pid):
    """Whether a process runs; one that is dead but was not asked for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "made",
    [
        ShellTask("ls"),
        HTTPTask("http://localhost"),
        ReadFile("a"),
        WriteFile("a"),
        EmailTask("hello"),
        SlackTask("hello"),
        SQLTask("sqlite://", "select 1"),
    ],
    ids=lambda made: made.name,
)
def test_task_takes_options_and_travels(made):
    copy = pickle.loads(pickle.dumps(made.copy(name="chore", max_retries=2, retry_delay=0, timeout=5)))
    assert type(copy) is type(made)
    assert (copy.name, copy.max_retries, copy.timeout) == ("chore", 2, 5.0)


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        (ShellTask(), "ShellTask: no command"),
        (HTTPTask(), "HTTPTask: no url"),
        (ReadFile(), "ReadFile: no path"),
        (SQLTask("sqlite://"), "SQLTask: no query"),
        (SQLTask(query="select 1"), "SQLTask: no url"),
        (EmailTask(email_from="a@example.com"), "EmailTask: no email_to"),
        (EmailTask(email_to="a@example.com"), "EmailTask: no email_from"),
        (SlackTask(), "SlackTask: no message"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_task_without_required_arguments_raises(made, missing):
    with pytest.raises(ValueError, match=f"^{missing}; pass one to the task or to its call$"):
        made.run()


def test_missing_library_is_named_with_its_extra():
    text = r'^HTTPTask needs not_there, which is not installed here; pip install "prefectish\[http\]"$'
    with pytest.raises(ImportError, match=text):
        load("not_there.inside", "http", "HTTPTask")


def test_what_needs_the_history_names_its_extra():
    program = """
import sys
sys.modules["sqlalchemy"] = None
import prefectish
with prefectish.Flow("f") as flow:
    prefectish.task(str.upper, name="say")("a")
for call in (
    lambda: prefectish.attach("x"), lambda: prefectish.serve(flow), lambda: flow.resume("x"), lambda: flow.deploy("p"),
    lambda: flow.run(history=True), lambda: __import__("prefectish.history"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    named = 'the history of runs needs sqlalchemy, which is not installed here; pip install "prefectish[history]"'
    assert done.stdout.splitlines() == [named] * 6


def test_library_that_breaks_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        load("breaks", "http", "HTTPTask")


# ---------------------------------------------------------------------- commands


def test_shell_returns_the_last_line():
    assert ShellTask("echo one; echo two").run() == "two"


def test_shell_returns_all_lines():
    assert ShellTask("echo one; echo; echo two", return_all=True).run() == ["one", "", "two"]


def test_shell_returns_nothing_of_a_silent_command():
    assert ShellTask("true").run() is None
    assert ShellTask("true", return_all=True).run() == []


def test_shell_arguments_of_the_call_win(tmp_path):
    made = ShellTask("echo constructor", env={"A": "1", "B": "2"}, cwd="/", return_all=True)
    assert made.run() == ["constructor"]
    assert made.run('echo "$A$B"; pwd', env={"A": "3"}, cwd=tmp_path) == ["3", str(tmp_path)]


def test_shell_runs_its_helper_script_first():
    assert ShellTask("echo $X", helper_script="X=5").run() == "5"


def test_shell_does_not_interpret_a_list():
    assert ShellTask(["echo", "$HOME; rm -r /"]).run() == "$HOME; rm -r /"


def test_shell_fails_with_what_the_command_said():
    with pytest.raises(FAIL) as caught:
        ShellTask("echo first; echo broken >&2; exit 3").run()
    assert str(caught.value) == "command failed with exit code 3: first\nbroken"
    assert caught.value.state.result == ["first", "broken"]


def test_shell_cuts_a_long_complaint():
    with pytest.raises(FAIL) as caught:
        ShellTask("head -c 100000 /dev/zero | tr '\\0' x; exit 1").run()
    assert len(str(caught.value)) < 2100


def test_shell_logs_lines_as_they_come(caplog):
    caplog.set_level("INFO", "prefectish")
    with Flow("shell") as flow:
        ShellTask("echo one; echo 100%s", stream_output=True)()
    flow.run()
    lines = [(r.name, r.getMessage()) for r in caplog.records]
    assert lines == [("prefectish.ShellTask", "one"), ("prefectish.ShellTask", "100%s")]


def test_shell_that_cannot_be_started_fails():
    with pytest.raises(FileNotFoundError):
        ShellTask("true", shell="/no/such/shell").run()


def test_shell_commands_map(run):
    with Flow("shell") as flow:
        out = ShellTask().map(command=["echo a", "exit 1", "echo c"])
    children = run(flow).result[out].map_states
    assert [type(child) for child in children] == [Success, Failed, Success]
    assert [children[0].result, children[2].result] == ["a", "c"]
    assert children[1].message == "command failed with exit code 1: "


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_shell_command_is_killed_at_the_limit_with_what_it_started(run, tmp_path, isolation):
    with Flow("shell") as flow:
        out = ShellTask(f"echo $$ > {tmp_path}/pid; sleep 60 | cat", timeout=1, isolation=isolation)()
    state = run(flow)
    assert type(state.result[out]) is TimedOut
    until(lambda: not alive(int((tmp_path / "pid").read_text())))


# ---------------------------------------------------------------------- requests


class Answers(BaseHTTPRequestHandler):
    """Tells what it was asked; `/status/<n>` answers with that status, `/text` with text."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {"method": self.command, "path": self.path, "body": body.decode(), "x": self.headers.get("X-Test")}
        told["auth"] = self.headers.get("Authorization")
        kind, content = "application/json; charset=utf-8", json.dumps(told).encode()
        if self.path == "/text":
            kind, content = "text/plain; charset=utf-8", "grüß".encode()
        status = int(self.path.removeprefix("/status/")) if self.path.startswith("/status/") else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/text")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_GET

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def posted():
    """A webhook: its address, and what was posted to it."""
    texts = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            texts.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
            self.send_response(500 if texts[-1] == "refuse" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", texts
        server.shutdown()
        thread.join()


def test_slack_posts_the_message_to_the_webhook_of_its_secret(posted):
    address, texts = posted
    with Flow("tells") as flow:
        sent = SlackTask().map(["one", "two", "refuse"])
    with context(secrets={"SLACK_WEBHOOK_URL": address}):
        state = flow.run(history=False)
    assert texts == ["one", "two", "refuse"]
    kinds = [type(child) for child in state.result[sent].map_states]
    assert kinds == [Success, Success, Failed]
    assert address not in str(state.result[sent].map_states[2].message)


def test_http_returns_json_where_the_answer_says_so(server):
    answer = HTTPTask(f"{server}/a").run(params={"q": "1 2"})
    assert (answer["method"], answer["path"]) == ("GET", "/a?q=1+2")


def test_http_sends_what_the_call_says(server):
    made = HTTPTask(server, headers={"X-Test": "constructor"})
    answer = made.run(f"{server}/b", "post", {"X-Test": "call"}, json={"n": 1}, auth=("user", "pass"))
    assert (answer["method"], answer["path"], answer["x"]) == ("POST", "/b", "call")
    assert json.loads(answer["body"]) == {"n": 1}
    assert answer["auth"].startswith("Basic ")
    assert made.run(method="PUT", content="raw")["body"] == "raw"
    assert made.run()["x"] == "constructor"


@pytest.mark.parametrize(
    ("returns", "path", "result"),
    [
        ("auto", "/text", "grüß"),
        ("text", "/text", "grüß"),
        ("bytes", "/text", "grüß".encode()),
        ("status", "/status/404", 404),
        ("status", "/text", 200),
        ("auto", "/status/302", "grüß"),
    ],
)
def test_http_returns_what_is_asked_for(server, returns, path, result):
    assert HTTPTask(returns=returns).run(server + path) == result


def test_http_refuses_what_it_cannot_return():
    with pytest.raises(ValueError, match=r"^returns must be one of 'auto', 'json', 'text', 'bytes', 'status', got"):
        HTTPTask(returns="header")


def test_http_error_status_fails_the_task(run, server):
    with Flow("http") as flow:
        out = HTTPTask(f"{server}/status/500")()
    state = run(flow).result[out]
    assert type(state) is Failed
    assert "500 Internal Server Error" in state.message


def test_http_server_that_does_not_exist_fails_the_task():
    import httpx2

    with pytest.raises(httpx2.ConnectError):
        HTTPTask("http://127.0.0.1:1").run()


# ---------------------------------------------------------------------- files


def test_file_is_read_as_it_was_written(tmp_path):
    path = str(tmp_path / "new" / "folder" / "a.txt")
    assert WriteFile(path).run("grüß") == path
    assert ReadFile(path).run() == "grüß"
    assert ReadFile(encoding=None).run(path) == "grüß".encode()
    assert ReadFile(encoding="latin-1").run(WriteFile(encoding="latin-1").run("ü", path)) == "ü"


def test_file_may_be_of_bytes_and_a_path(tmp_path):
    assert ReadFile(tmp_path / "b", encoding=None).run(WriteFile().run(b"\0\xff", tmp_path / "b")) == b"\0\xff"


def test_file_may_be_a_url():
    url = "memory://prefectish/test.txt"
    assert WriteFile().run("in memory", url) == url
    assert ReadFile(url).run() == "in memory"


def test_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileOpener

    path = str(tmp_path / "a.txt")
    WriteFile(path).run("old")
    write = LocalFileOpener.write

    def full(file, content):
        write(file, content[:1])
        raise OSError("no space left")

    monkeypatch.setattr(LocalFileOpener, "write", full)
    with pytest.raises(OSError, match="no space left"):
        WriteFile(path).run("new")
    monkeypatch.undo()
    assert ReadFile(path).run() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_is_not_finished_by_another_that_is_written_meanwhile(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileOpener

    write = LocalFileOpener.write

    def interleaved(file, content):
        if content == b"first":
            write(file, content[:1])
            WriteFile(str(tmp_path / "second")).run("second")
            raise OSError("no space left")
        return write(file, content)

    monkeypatch.setattr(LocalFileOpener, "write", interleaved)
    with pytest.raises(OSError, match="no space left"):
        WriteFile(str(tmp_path / "first")).run("first")
    assert os.listdir(tmp_path) == ["second"]


def test_missing_file_fails():
    with pytest.raises(FileNotFoundError):
        ReadFile("/no/such/file").run()


def test_files_map(run, tmp_path):
    with Flow("files") as flow:
        written = WriteFile().map(content=["a", "b"], path=[str(tmp_path / "a"), str(tmp_path / "b")])
        read = ReadFile().map(written)
    assert run(flow).result[read].result == ["a", "b"]


# ---------------------------------------------------------------------- mail


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postbox:
    """Keeps what comes."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def postbox():
    """A mail server that knows the password "right"."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    def check(server, session, envelope, mechanism, data):
        return AuthResult(success=data.password == b"right", handled=False)

    box = Postbox()
    box.port = free_port()
    controller = Controller(box, "127.0.0.1", box.port, authenticator=check, auth_require_tls=False)
    controller.start()
    yield box
    controller.stop()


def insecure(postbox, **options):
    return EmailTask(smtp_server="127.0.0.1", smtp_port=postbox.port, smtp_type="INSECURE", **options)


def test_mail_arrives(postbox):
    made = insecure(postbox, subject="Grüße", email_from="me@example.com", email_to="constructor@example.com")
    made.run(msg="all is well", email_to=["a@example.com", "b@example.com"])
    (mail,) = postbox.mails
    assert (mail.mail_from, mail.rcpt_tos) == ("me@example.com", ["a@example.com", "b@example.com"])
    text = mail.content.decode()
    assert "all is well" in text
    assert "To: a@example.com, b@example.com" in text
    made.run()
    assert postbox.mails[1].rcpt_tos == ["constructor@example.com"]


def test_mail_logs_in(postbox):
    made = insecure(postbox, email_from="me@example.com", email_to="a@example.com")
    made.run(username="me", password="right")
    assert len(postbox.mails) == 1
    with pytest.raises(SMTPAuthenticationError):
        made.run(username="me", password="wrong")
    assert len(postbox.mails) == 1


def test_mail_is_not_sent_without_the_encryption_that_was_asked_for(postbox):
    options = {"smtp_server": "127.0.0.1", "email_from": "me@example.com", "email_to": "a@example.com"}
    with pytest.raises(SMTPNotSupportedError):
        EmailTask(smtp_port=postbox.port, smtp_type="STARTTLS", **options).run()
    with pytest.raises(ssl.SSLError):
        EmailTask(smtp_port=postbox.port, **options).run()
    assert postbox.mails == []


def test_mail_header_cannot_be_smuggled_in(postbox):
    made = insecure(postbox, email_from="me@example.com", email_to="a@example.com")
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        made.run(subject="hello\nBcc: everybody@example.com")
    assert postbox.mails == []


def test_mail_refuses_an_unknown_encryption():
    with pytest.raises(ValueError, match=r"^smtp_type must be one of 'SSL', 'STARTTLS', 'INSECURE', got 'TLS'$"):
        EmailTask(smtp_type="TLS")


# ---------------------------------------------------------------------- databases


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path}/data.db"
    SQLTask(url, "create table rows (a integer primary key, b text)").run()
    return url


def test_sql_returns_rows_and_counts(database):
    made = SQLTask(database)
    assert made.run("insert into rows values (:a, :b)", {"a": 1, "b": "x'); drop table rows"}) == 1
    assert made.run("insert into rows values (:a, :b)", [{"a": 2, "b": "y"}, {"a": 3, "b": None}]) == 2
    assert made.run("select * from rows where a <> :a", {"a": 3}) == [
        {"a": 1, "b": "x'); drop table rows"},
        {"a": 2, "b": "y"},
    ]
    assert made.run("delete from rows") == 3


def test_sql_arguments_of_the_call_win(database):
    assert SQLTask("sqlite:///no/such", "select 1 as a").run("select 2 as a", url=database) == [{"a": 2}]


def test_sql_keeps_nothing_of_a_statement_that_fails(database, tmp_path):
    from sqlalchemy.exc import IntegrityError

    with pytest.raises(IntegrityError):
        SQLTask(database).run("insert into rows values (:a, 'x')", [{"a": 1}, {"a": 1}])
    with sqlite3.connect(tmp_path / "data.db") as connection:
        assert connection.execute("select count(*) from rows").fetchone() == (0,)
    connection.close()


def test_sql_maps(run, database):
    with Flow("sql") as flow:
        out = SQLTask(database, "select :a * 2 as b").map(parameters=[{"a": 1}, {"a": 2}])
    assert run(flow).result[out].result == [[{"b": 2}], [{"b": 4}]]


def test_library_is_not_imported_with_the_package():
    late = ("httpx2", "sqlalchemy", "smtplib", "subprocess", "psutil")
    code = f"import prefectish, sys; print(*(m for m in {late} if m in sys.modules))"
    assert ShellTask([sys.executable, "-c", code]).run() == ""
