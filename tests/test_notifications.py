"""Messages to people: what they say, where they go, and that no run suffers from hosts that are slow or broken."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefectish import EnvVarSecret, Flow, Parameter, context, flow, history, task, unmapped
from prefectish.engine.state import Cancelled, Crashed, Failed, Mapped, Paused, Retrying, Running, Success, TimedOut
from prefectish.executors import LocalDaskExecutor
from prefectish.utilities.notifications import apprise_notifier, email_notifier, flush, slack_notifier
from prefectish.utilities.notifications.digest import MAX_CAUSES, MAX_TASKS, of_change, of_map

QUICK = {"retry_delay": 0.01}


# ---------------------------------------------------------------------- a host for messages


class Inbox(BaseHTTPRequestHandler):
    """Keeps what is posted; answers with the next of the server's answers, or 200; "slow" is no answer at all."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answers = self.server.answers
        status = answers.pop(0) if answers else 200
        if status == "slow":
            self.server.released.wait(60)
            self.close_connection = True
            return
        self.server.posts.append((self.path, body, status))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Host(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Inbox)
        self.posts = []
        self.answers = []
        self.released = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hooks/T0KEN-OF-THE-HOOK"

    def texts(self):
        assert flush(60)
        return [body["text"] for _, body, status in self.posts if status == 200]


@pytest.fixture
def host(monkeypatch):
    with Host() as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        monkeypatch.setenv("PREFECTISH__SECRETS__SLACK_WEBHOOK_URL", host.url)
        yield host
        assert flush(60)
        host.released.set()
        host.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "history.db")


def notices(state, store):
    assert flush(60)
    return history.run(state.context["flow_run_id"], store=store).notices()


def one_task(handler, body=lambda: 1, **options):
    with Flow("one") as flow:
        task(body, name="only", state_handlers=[handler], **options)()
    return flow


# ---------------------------------------------------------------------- what is told


def test_slack_notifier_is_a_handler_as_it_is(host):
    state = one_task(slack_notifier).run(history=False)
    run_id = state.context["flow_run_id"]
    assert host.texts() == [
        f"Task 'only': Running\nStarting task run.\nrun {run_id}",
        f"Task 'only': Success\nTask run succeeded.\nrun {run_id}",
    ]
    assert {path for path, _, _ in host.posts} == {"/hooks/T0KEN-OF-THE-HOOK"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"only_states": [Success]}, ["Success"]),
        ({"only_states": [Failed, Retrying]}, ["Failed", "Retrying", "Failed"]),
        ({"only_states": [Retrying]}, ["Retrying"]),
        ({"ignore_states": [Running, Failed]}, ["Retrying"]),
        ({"only_states": [Running], "ignore_states": [Running]}, []),
    ],
)
def test_states_are_chosen_by_class(host, options, told):
    def body():
        if "Success" not in told:
            raise ValueError("no")

    notifier = slack_notifier(**options)
    one_task(notifier, body, max_retries=1, retry_delay=0).run(history=False)
    assert [text.split()[2] for text in host.texts()] == told


def test_failed_task_of_a_run_without_a_record_tells_its_id_alone(host):
    def body():
        raise ValueError("no <!channel> & more")

    state = one_task(slack_notifier(only_states=[Failed]), body).run(history=False)
    run_id = state.context["flow_run_id"]
    assert host.texts() == [
        "Task 'only': Failed\n"
        "Error during execution of task: ValueError('no &lt;!channel&gt; &amp; more')\n"
        f"run {run_id}"
    ]


def resize(n):
    if n % 10 == 3:
        raise ValueError(f"not an image: {n}")
    if n == 50:
        raise OSError("disk")
    return n


def digest_of_thumbnails(run_id, store):
    return (
        "Map 'resize': 11 Failed, 89 Success\n"
        "10 x ValueError: not an image: 3 (resize[3], resize[13], resize[23], ...)\n"
        "1 x OSError: disk (resize[50])\n"
        f"run {run_id}\n"
        f"prefectish resume {run_id} --retry-failed --history {store}"
    )


def test_map_has_one_digest_in_place_of_a_message_a_child_and_tells_how_to_continue(host, store):
    with Flow("thumbnails") as flow:
        resized = task(resize, state_handlers=[slack_notifier]).map(list(range(100)))
    state = flow.run(history=store)
    run_id = state.context["flow_run_id"]
    assert host.texts() == [digest_of_thumbnails(run_id, store)]
    assert type(state.result[resized]) is Mapped


def test_map_in_a_flow_function_has_one_digest(host, store):
    resized = task(resize, state_handlers=[slack_notifier])

    @flow(history=store)
    def thumbnails():
        resized.map(range(100), return_state=True)

    run_id = thumbnails.run().context["flow_run_id"]
    flush()
    assert host.texts() == [digest_of_thumbnails(run_id, store)]


def test_map_of_which_no_child_is_of_interest_is_not_reported(host):
    with Flow("thumbnails") as flow:
        task(resize, state_handlers=[slack_notifier(only_states=[TimedOut])]).map([1, 3])
    flow.run(history=False)
    assert host.texts() == []


def test_children_are_reported_one_by_one_if_asked(host):
    with Flow("thumbnails") as flow:
        task(resize, state_handlers=[slack_notifier(only_states=[Failed], each_child=True)]).map([3, 4, 13])
    flow.run(history=False)
    assert [text.splitlines()[0] for text in host.texts()] == [
        "Task 'resize': Failed",
        "Task 'resize': Failed",
        "Map 'resize': 2 Failed, 1 Success",
    ]


def test_children_that_the_owner_ends_have_no_messages_of_their_own(host):
    def body(n):
        if n == 1:
            raise ValueError("stop the map")

    with Flow("stopped") as flow:
        stopped = task(body, name="stop", on_child_failure="stop", state_handlers=[slack_notifier]).map(list(range(5)))
    state = flow.run(history=False)
    assert any(type(child) is Cancelled for child in state.result[stopped].map_states)
    assert [text.splitlines()[0] for text in host.texts()] == ["Map 'stop': 1 Failed, 1 Success, 3 Cancelled"]


def test_map_without_children_of_its_own_is_reported_as_a_task(host):
    def fail():
        raise ValueError("nothing to map over")

    with Flow("blocked") as flow:
        task(resize, state_handlers=[slack_notifier]).map(task(fail)())
    flow.run(history=False)
    assert [text.splitlines()[0] for text in host.texts()] == ["Task 'resize': Failed"]


def test_flow_has_a_digest_of_all_its_tasks_when_it_ends(host):
    with Flow("thumbnails", state_handlers=[slack_notifier(ignore_states=[Running])]) as flow:
        listed = task(lambda x: x, name="list")(Parameter("x", 1))
        resized = task(resize).map(list(range(20)), upstream_tasks=[unmapped(listed)])
        task(len, name="report", skip_on_upstream_skip=False)(resized)
    state = flow.run(history=False)
    run_id = state.context["flow_run_id"]
    assert host.texts() == [
        "Flow 'thumbnails': Failed\n"
        "Some reference tasks failed.\n"
        "resize: 2 Failed, 18 Success\n"
        "report: 1 TriggerFailed\n"
        "list: 1 Success\n"
        "2 x ValueError: not an image: 3 (resize[3], resize[13])\n"
        f"run {run_id}"
    ]


def test_map_that_is_kept_when_a_run_is_resumed_is_not_reported_again(host, store, tmp_path):
    from prefectish.results import LocalResult

    broken = tmp_path / "broken"
    broken.touch()

    def load(n):
        if n == 2 and broken.exists():
            raise OSError("disk")
        return n

    with Flow("again", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        task(resize, name="first", state_handlers=[slack_notifier]).map([1, 2])
        task(load, name="second", state_handlers=[slack_notifier]).map([1, 2])
    state = flow.run(history=store)
    assert sorted(text.splitlines()[0] for text in host.texts()) == [
        "Map 'first': 2 Success",
        "Map 'second': 1 Failed, 1 Success",
    ]
    broken.unlink()
    flow.resume(state.context["flow_run_id"], history=store, retry_failed=True)
    assert [text.splitlines()[0] for text in host.texts()][2:] == ["Map 'second': 2 Success"]


def test_digest_of_a_run_that_went_well_has_no_command(host):
    with Flow("fine", state_handlers=[slack_notifier(only_states=[Success])]) as flow:
        task(resize).map([1, 2])
    flow.run(history=False)
    (text,) = host.texts()
    assert text.startswith("Flow 'fine': Success\nAll reference tasks succeeded.\nresize: 2 Success\nrun ")
    assert "resume" not in text


def test_long_digests_are_cut():
    class Named:
        auto_generated = False
        reference_tasks = ()

        def __init__(self, name):
            self.name = name

    kinds = [type(f"Error{n}", (Exception,), {}) for n in range(MAX_CAUSES + 3)]
    children = [Failed("no", kind("x" * 1000)) for kind in kinds for _ in range(2)]
    lines = of_map(Named("many"), Mapped(map_states=children), None).text.splitlines()
    assert len(lines) == MAX_CAUSES + 1
    assert lines[-1] == "and 3 more causes"
    assert all(len(line) < 300 for line in lines)
    states = {Named(f"t{n}"): Success() for n in range(MAX_TASKS + 5)}
    message = of_change(Named("wide"), Success("fine", states), None)
    assert message.text.splitlines()[-1] == "and 5 more tasks"
    assert len(message.text.splitlines()) == MAX_TASKS + 2


def test_digest_names_paused_and_crashed_children():
    class Task:
        name = "load"

    state = Mapped(map_states=[Success(), Paused("shall I?"), Crashed("worker died")])
    assert of_map(Task, state, None).subject == "Map 'load': 1 Crashed, 1 Paused, 1 Success"


# ---------------------------------------------------------------------- secrets


def test_webhook_may_be_any_secret(host, monkeypatch):
    monkeypatch.delenv("PREFECTISH__SECRETS__SLACK_WEBHOOK_URL")
    monkeypatch.setenv("MY_HOOK", host.url)
    with Flow("built around it") as flow:
        notifier = slack_notifier(only_states=[Success], webhook_secret=EnvVarSecret("MY_HOOK"))
        task(lambda: 1, state_handlers=[notifier])()
    flow.run(history=False)
    flow = one_task(slack_notifier(only_states=[Success], webhook_secret="OPS"))
    with context(secrets={"OPS": host.url}):
        flow.run(history=False)
    assert len(host.texts()) == 2


def test_missing_secret_is_reported_and_the_run_continues(monkeypatch, store, caplog):
    monkeypatch.delenv("PREFECTISH__SECRETS__SLACK_WEBHOOK_URL", raising=False)
    state = one_task(slack_notifier(only_states=[Success])).run(history=store)
    assert type(state) is Success
    (notice,) = notices(state, store)
    assert notice.attempts == 0
    assert notice.error.startswith("ValueError: secret 'SLACK_WEBHOOK_URL' is not known in this process")
    assert "Notification not delivered by slack after 0 attempts: Task 'only': Success" in caplog.text


def test_address_of_the_webhook_shows_nowhere(host, store, caplog, capfd):
    host.answers[:] = [404]
    state = one_task(slack_notifier(only_states=[Success])).run(history=store)
    (notice,) = notices(state, store)
    assert "404" in notice.error
    for text in (notice.error, caplog.text, "".join(capfd.readouterr()), repr(slack_notifier())):
        assert "T0KEN-OF-THE-HOOK" not in text
    with open(store, "rb") as file:
        assert b"T0KEN-OF-THE-HOOK" not in file.read()


def test_notifiers_can_be_pickled_and_hold_no_address(host):
    for notifier in (slack_notifier, slack_notifier(only_states=[Success])):
        payload = pickle.dumps(notifier)
        assert b"T0KEN" not in payload
        one_task(pickle.loads(payload)).run(history=False)
    assert len(host.texts()) == 3


# ---------------------------------------------------------------------- hosts that are slow, gone or broken


def test_outcome_of_each_delivery_is_in_the_history(host, store):
    state = one_task(slack_notifier).run(history=store)
    found = notices(state, store)
    assert [(n.channel, n.subject, n.attempts, n.error) for n in found] == [
        ("slack", "Task 'only': Running", 1, None),
        ("slack", "Task 'only': Success", 1, None),
    ]
    assert all(n.at.tzinfo is not None and n.seconds >= 0 for n in found)


def test_server_error_is_tried_again(host, store):
    host.answers[:] = [500, 503]
    state = one_task(slack_notifier(only_states=[Success], **QUICK)).run(history=store)
    (notice,) = notices(state, store)
    assert (notice.attempts, notice.error) == (3, None)
    assert [status for _, _, status in host.posts] == [500, 503, 200]


def test_server_that_stays_broken_is_given_up_and_logged(host, store, caplog):
    host.answers[:] = [500] * 9
    state = one_task(slack_notifier(only_states=[Success], retries=3, **QUICK)).run(history=store)
    assert type(state) is Success
    (notice,) = notices(state, store)
    assert notice.attempts == 4
    assert notice.error.startswith("HTTPStatusError: Server error '500 Internal Server Error'")
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith(
        "Notification not delivered by slack after 4 attempts: Task 'only': Success: HTTPStatusErr"
    )


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (400, 1), (429, 2), (408, 2)])
def test_refusal_for_good_is_not_tried_again(host, store, status, attempts):
    host.answers[:] = [status]
    state = one_task(slack_notifier(only_states=[Success], **QUICK)).run(history=store)
    (notice,) = notices(state, store)
    assert notice.attempts == attempts


def test_host_that_refuses_connections_does_not_hurt_the_run(store, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Inbox) as gone:
        url = f"http://127.0.0.1:{gone.server_port}/"
    monkeypatch.setenv("PREFECTISH__SECRETS__SLACK_WEBHOOK_URL", url)
    state = one_task(slack_notifier(only_states=[Success], retries=1, **QUICK)).run(history=store)
    assert type(state) is Success
    (notice,) = notices(state, store)
    assert notice.attempts == 2
    assert notice.error.startswith("ConnectError: ")


def test_slow_host_does_not_block(host, store):
    """The run has ended while its message still waits for an answer, which comes when the test lets it."""
    host.answers[:] = ["slow"]
    notifier = slack_notifier(only_states=[Success], timeout=60, retries=0)
    state = one_task(notifier).run(history=store)
    assert type(state) is Success
    assert not flush(0.01)
    host.released.set()
    (notice,) = notices(state, store)
    assert notice.error.startswith("RemoteProtocolError")


def test_slow_host_is_given_up_after_the_timeout(host, store):
    host.answers[:] = ["slow", "slow"]
    state = one_task(slack_notifier(only_states=[Success], timeout=0.2, retries=1, **QUICK)).run(history=store)
    (notice,) = notices(state, store)
    assert notice.error.startswith("ReadTimeout")
    assert notice.attempts == 2
    assert 0.4 <= notice.seconds < 30


def test_notifier_that_breaks_does_not_hurt_the_run(host, caplog, monkeypatch):
    def break_down(channel, message, terms):
        raise RuntimeError("no text")

    class Handler:
        def map_ended(self, task, state):
            raise RuntimeError("broken handler")

        def __call__(self, obj, old, new):
            return new

    monkeypatch.setattr("prefectish.utilities.notifications.notifiers.post", break_down)
    assert type(one_task(slack_notifier(only_states=[Success])).run(history=False)) is Success
    assert "Notification not sent: RuntimeError('no text')" in caplog.text
    with Flow("maps") as flow:
        task(resize, state_handlers=[Handler()]).map([1, 2])
    assert type(flow.run(history=False)) is Success
    assert "broken handler" in caplog.text


def test_extra_that_is_not_installed_is_named(host, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    state = one_task(slack_notifier(only_states=[Success], **QUICK)).run(history=store)
    (notice,) = notices(state, store)
    assert notice.attempts == 1
    assert 'pip install "prefectish[notifications]"' in notice.error


# ---------------------------------------------------------------------- other processes


def test_handlers_in_other_processes_deliver_before_their_task_ends(host):
    with Flow("away") as flow:
        task(lambda: 1, name="single", state_handlers=[slack_notifier(only_states=[Success])])()
        task(resize, state_handlers=[slack_notifier]).map([1, 3])
    flow.run(executor=LocalDaskExecutor(scheduler="processes", num_workers=2), history=False)
    assert sorted(text.splitlines()[0] for text in host.texts()) == [
        "Map 'resize': 1 Failed, 1 Success",
        "Task 'single': Success",
    ]


def test_handlers_on_a_cluster_deliver_and_secrets_of_the_context_reach_them(host, dask_client):
    from prefectish.executors import DaskExecutor

    with Flow("away") as flow:
        task(lambda: 1, name="single", state_handlers=[slack_notifier(only_states=[Success], webhook_secret="HOOK")])()
        task(resize, state_handlers=[slack_notifier(webhook_secret="HOOK")]).map([1, 3])
    flow.run(executor=DaskExecutor(client=dask_client), history=False, context={"secrets": {"HOOK": host.url}})
    assert sorted(text.splitlines()[0] for text in host.texts()) == [
        "Map 'resize': 1 Failed, 1 Success",
        "Task 'single': Success",
    ]


def test_program_that_ends_waits_for_its_messages(host):
    program = """
from prefectish import Flow
from prefectish.utilities.notifications import slack_notifier
from prefectish.engine.state import Success
with Flow("last words", state_handlers=[slack_notifier(only_states=[Success])]) as flow:
    pass
flow.run(history=False)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert [text.splitlines()[0] for text in host.texts()] == ["Flow 'last words': Success"]


# ---------------------------------------------------------------------- mail and apprise


class Postbox:
    def __init__(self):
        self.mails = []
        self.answers = []

    async def handle_DATA(self, server, session, envelope):
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.mails.append(envelope)
        return answer


@pytest.fixture
def postbox():
    """A mail server that knows the password "right"."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    def check(server, session, envelope, mechanism, data):
        return AuthResult(success=data.password == b"right", handled=False)

    box = Postbox()
    with ThreadingHTTPServer(("127.0.0.1", 0), Inbox) as free:
        box.port = free.server_port
    controller = Controller(box, "127.0.0.1", box.port, authenticator=check, auth_require_tls=False)
    controller.start()
    yield box
    assert flush(60)
    controller.stop()


def by_mail(postbox, **options):
    return email_notifier(
        ["ops@example.com", "you@example.com"],
        "flows@example.com",
        smtp_server="127.0.0.1",
        smtp_port=postbox.port,
        smtp_type="INSECURE",
        **{**QUICK, **options},
    )


def test_mail_has_subject_and_digest(postbox, store):
    with Flow("thumbnails", state_handlers=[by_mail(postbox, only_states=[Failed])]) as flow:
        task(resize).map([1, 3])
    state = flow.run(history=store)
    (notice,) = notices(state, store)
    assert (notice.channel, notice.error) == ("email", None)
    (mail,) = postbox.mails
    text = mail.content.decode()
    assert mail.rcpt_tos == ["ops@example.com", "you@example.com"]
    assert "Subject: Flow 'thumbnails': Failed" in text
    assert "1 x ValueError: not an image: 3 (resize[1])" in text


@pytest.mark.parametrize(("password", "attempts"), [("right", 1), ("wrong", 1)])
def test_mail_logs_in_with_a_secret(postbox, store, password, attempts):
    flow = one_task(by_mail(postbox, only_states=[Success], login_secret="MAIL"))
    with context(secrets={"MAIL": {"username": "me", "password": password}}):
        state = flow.run(history=store)
    (notice,) = notices(state, store)
    assert notice.attempts == attempts
    assert (notice.error is None) is (password == "right")
    assert len(postbox.mails) == (password == "right")


@pytest.mark.parametrize(("answer", "attempts"), [("451 later", 2), ("554 never", 1)])
def test_mail_is_tried_again_where_the_server_says_so(postbox, store, answer, attempts):
    postbox.answers[:] = [answer]
    state = one_task(by_mail(postbox, only_states=[Success])).run(history=store)
    (notice,) = notices(state, store)
    assert notice.attempts == attempts
    assert (notice.error is None) is answer.startswith("451")


def test_secret_of_mail_that_is_not_a_login_is_named(postbox, store):
    flow = one_task(by_mail(postbox, only_states=[Success], login_secret="MAIL"))
    with context(secrets={"MAIL": "just-a-password"}):
        state = flow.run(history=store)
    (notice,) = notices(state, store)
    assert notice.error.endswith("must be JSON with username and password")


def test_mail_server_that_does_not_exist_does_not_hurt_the_run(postbox, store):
    with ThreadingHTTPServer(("127.0.0.1", 0), Inbox) as gone:
        port = gone.server_port
    handler = email_notifier("a@example.com", "b@example.com", smtp_server="127.0.0.1", smtp_port=port, **QUICK)
    state = one_task(handler).run(history=store)
    assert type(state) is Success
    assert {(n.attempts, n.error.partition(":")[0]) for n in notices(state, store)} == {(3, "ConnectionRefusedError")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_sends_to_any_service_it_knows(host, store):
    url = f"json://127.0.0.1:{host.server_port}/hooks/apprise"
    flow = one_task(apprise_notifier("URLS", only_states=[Success]))
    with context(secrets={"URLS": [url, url]}):
        state = flow.run(history=store)
    (notice,) = notices(state, store)
    assert (notice.channel, notice.error) == ("apprise", None)
    assert [(body["title"], path) for path, body, _ in host.posts] == [("Task 'only': Success", "/hooks/apprise")] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_that_fails_is_tried_again_and_a_wrong_address_is_not(host, store):
    host.answers[:] = [500]
    flow = one_task(apprise_notifier("URLS", only_states=[Success], **QUICK))
    with context(secrets={"URLS": f"json://127.0.0.1:{host.server_port}/hooks"}):
        state = flow.run(history=store)
    assert [(n.attempts, n.error) for n in notices(state, store)] == [(2, None)]
    with context(secrets={"URLS": "no-such-service://SECRET-PLACE"}):
        state = flow.run(history=store)
    assert [(n.attempts, n.error) for n in notices(state, store)] == [
        (1, "ValueError: a URL is not supported by apprise")
    ]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: slack_notifier(only_states=Failed),
            TypeError,
            "^only_states must be a list of state classes, got <class",
        ),
        (
            lambda: slack_notifier(ignore_states=["Failed"]),
            TypeError,
            "^ignore_states must be a list of state classes such as",
        ),
        (lambda: slack_notifier(timeout=0), ValueError, "^timeout must be > 0 seconds, got 0$"),
        (
            lambda: slack_notifier(retries=-1),
            ValueError,
            r"^retries and retry_delay must be >= 0, got retries=-1, retry_delay=1\.0$",
        ),
        (lambda: slack_notifier(webhook_secret=""), ValueError, "^expected a secret or the name of one, got ''$"),
        (lambda: slack_notifier(states=[Failed]), TypeError, r"^slack notifier: unknown options: states$"),
        (lambda: slack_notifier("task"), TypeError, r"^slack_notifier: call it with options to get a state handler"),
        (
            lambda: email_notifier("a@x", "b@x", smtp_type="TLS"),
            ValueError,
            "^smtp_type must be one of 'SSL', 'STARTTLS', 'INSECURE', got 'TLS'",
        ),
    ],
)
def test_bad_options_are_named(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_waiting_for_messages_that_do_not_exist_takes_no_time():
    began = time.monotonic()
    assert flush()
    assert time.monotonic() - began < 5
