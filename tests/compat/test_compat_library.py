"""Tasks of the library of Prefect 1 that need no service: commands, mail, Slack, archives, secrets."""

from __future__ import annotations

import json
import smtplib
import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest


def test_commands(caplog, monkeypatch):
    from prefect import Flow
    from prefect.engine.signals import FAIL
    from prefect.tasks.shell import ShellTask

    monkeypatch.setenv("COMPAT_OWN", "1")
    assert ShellTask(env={"B": "2"}).run(command="echo a; echo $COMPAT_OWN$B") == "12"
    assert ShellTask("pwd", None, "cd /tmp", return_all=True).run() == ["/tmp"]
    assert ShellTask("pwd").run(helper_script="cd /") == "/"
    with pytest.raises(TypeError, match="missing required argument: 'command'"):
        ShellTask().run()
    ShellTask("echo loud", stream_output="WARNING").run()
    ShellTask("echo plain", stream_output=True).run()
    assert {(r.levelname, r.getMessage()) for r in caplog.records} == {("WARNING", "loud"), ("INFO", "plain")}
    with pytest.raises(FAIL, match=r"^Command failed with exit code 3$"):
        ShellTask(log_stderr=True).run(command="echo broken; exit 3")
    assert "Command failed with exit code 3: broken" in caplog.text
    with Flow("commands") as flow:
        said = ShellTask(name="say")(command="echo hello")
    assert flow.run(history=False).result[said].result == "hello"


class Server:
    """A mail server that keeps what it is sent."""

    seen: list[Any] = []  # noqa: RUF012  # that of one test

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.seen.append((host, port))

    def starttls(self, **_: Any) -> None:
        self.seen.append("tls")

    def login(self, *words: str) -> None:
        self.seen.append(words)

    def send_message(self, message: Any) -> None:
        self.seen.append(message)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    import prefect

    monkeypatch.setattr(smtplib, "SMTP_SSL", Server)
    monkeypatch.setattr(smtplib, "SMTP", Server)
    Server.seen = []
    with prefect.context(secrets={"EMAIL_USERNAME": "me@example.org", "EMAIL_PASSWORD": "pw"}):
        yield Server.seen


def test_mail(mails, tmp_path):
    from prefect.tasks.notifications import EmailTask

    (tmp_path / "rows.csv").write_text("a,b\n")
    EmailTask("Rows", "<b>done</b>", "you@example.org", attachments=[str(tmp_path / "rows.csv")]).run(
        msg_plain="done", email_to_cc="a@example.org", email_to_bcc=["b@example.org", "c@example.org"]
    )
    host, login, message = mails
    assert (host, login) == (("smtp.gmail.com", 465), ("me@example.org", "pw"))
    assert (message["From"], message["Cc"]) == ("notifications@prefect.io", "a@example.org")
    assert message["Bcc"] == "b@example.org, c@example.org"
    parts = {part.get_content_type(): part for part in message.walk() if not part.is_multipart()}
    assert parts["text/html"].get_content().strip() == "<b>done</b>"
    assert parts["text/plain"].get_content().strip() == "done"
    assert parts["text/csv"].get_filename() == "rows.csv"
    with pytest.raises(ValueError, match="at least one of `msg` and `msg_plain`"):
        EmailTask(email_to="you@example.org").run(subject="x")


def test_mail_servers(mails):
    from prefect.tasks.notifications.email_task import EmailTask

    EmailTask(smtp_server="here", smtp_port=25, smtp_type="INSECURE").run("s", "m", "you@example.org")
    EmailTask().run("s", "m", "you@example.org", smtp_port=587, smtp_type="STARTTLS")
    hosts = [each for each in mails if isinstance(each, str | tuple)]
    assert hosts == [("here", 25), ("smtp.gmail.com", 587), "tls", ("me@example.org", "pw")]


def test_slack():
    pytest.importorskip("httpx2")
    import prefect
    from prefect.tasks.notifications import SlackTask

    posted = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with prefect.context(secrets={"COMPAT_HOOK": f"http://127.0.0.1:{server.server_port}/"}):
            SlackTask("done", "COMPAT_HOOK", proxies={"http": "x"}).run()
            SlackTask(webhook_secret="COMPAT_HOOK").run({"blocks": []})
        server.shutdown()
        thread.join()
    assert posted == [{"text": "done"}, {"blocks": []}]
    with pytest.raises(ValueError, match="A message must be provided"):
        SlackTask().run()


def test_archives(tmp_path):
    from prefect.tasks.files import Unzip, Zip

    (tmp_path / "in" / "below").mkdir(parents=True)
    for name in ("in/a", "in/below/b", "c"):
        (tmp_path / name).write_text(name)
    place = tmp_path / "all.zip"
    assert Zip([tmp_path / "in", str(tmp_path / "c")], compression_method="store").run(zip_path=place) == place
    assert zipfile.ZipFile(place).infolist()[0].compress_type == zipfile.ZIP_STORED
    assert Unzip(str(place), tmp_path / "out", remove_after_unzip=True).run() == tmp_path / "out"
    assert (tmp_path / "out" / "in" / "below" / "b").read_text() == "in/below/b"
    assert ((tmp_path / "out" / "c").exists(), place.exists()) == (True, False)
    for task in (Zip(), Zip("a"), Unzip()):
        with pytest.raises(ValueError, match=r"No `.*` provided"):
            task.run()
    with pytest.raises(ValueError, match="compression_method must be one of deflate, store, bzip2, lzma, got 'x'"):
        Zip("a", "b", "x").run()


def test_secrets(monkeypatch):
    from prefect.tasks.secrets import EnvVarSecret, PrefectSecret

    monkeypatch.setenv("COMPAT_ENV", "5")
    made = EnvVarSecret("COMPAT_ENV", cast=int, name="five")
    assert (made.env_var, made.name, made.run(), made.checkpoint) == ("COMPAT_ENV", "five", 5, False)
    assert (EnvVarSecret().run("COMPAT_ENV"), EnvVarSecret().run(name="COMPAT_NO")) == ("5", None)
    with pytest.raises(ValueError, match="name of an environment variable must be provided"):
        EnvVarSecret().run()
    assert PrefectSecret("x").checkpoint is False


def test_flows_and_their_parts_as_plain_values():
    from prefect import Flow, Parameter, Task
    from prefect.engine.state import State, Success
    from prefect.run_configs import LocalRun
    from prefect.storage import S3

    flow = Flow("told", run_config=LocalRun(working_dir="/x"), storage=S3("bucket"), tasks=[Parameter("n", default=0)])
    told = json.loads(json.dumps(flow.serialize()))
    assert (told["run_config"]["working_dir"], told["storage"]["bucket"], told["environment"]) == ("/x", "bucket", None)
    assert (told["parameters"][0]["default"], Parameter("n").serialize()["default"]) == (0, None)
    flow.environment = object()
    assert flow.serialize()["environment"] == {"type": "object"}
    state = Success("fine", context={"a": 1}).serialize()
    assert {
        told["__version__"],
        state["__version__"],
        Task(retry_delay=timedelta(1), max_retries=1).serialize()["__version__"],
    } == {"1.4.1"}
    assert State.deserialize(state).context == {"a": 1}
