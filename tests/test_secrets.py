"""Secrets: found where a body runs, handed on by name, stored nowhere."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
from real import note, notes

import prefectish
import prefectish.history
from prefectish import EnvVarSecret, Flow, Secret, Task, case, merge, task, unmapped
from prefectish.engine.state import Success
from prefectish.errors import PrefectishError, SecretsUnsafe
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.results import LocalResult
from prefectish.secrets.store import variable
from prefectish.tasks.secrets import SecretBase

VALUE = "s3cret-value-of-a-test"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    return tmp_path


def write_secrets(home, text, mode=0o600):
    file = home / "secrets.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


# ---------------------------------------------------------------------- where values are found


def test_secret_comes_from_the_context():
    with prefectish.context(secrets={"TOKEN": VALUE}):
        assert Secret("TOKEN").get() == VALUE
        assert Secret("TOKEN").run() == VALUE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"user": "ada"}', {"user": "ada"}),
        ("[1, 2]", [1, 2]),
        ("17", 17),
        ("xoxb-17", "xoxb-17"),
        ("{broken", "{broken"),
    ],
)
def test_secret_that_is_json_is_decoded_wherever_it_comes_from(text, value, home, monkeypatch):
    with prefectish.context(secrets={"A": text}):
        assert Secret("A").get() == value
    write_secrets(home, f"B = {text!r}")
    assert Secret("B").get() == value
    monkeypatch.setenv("PREFECTISH__SECRETS__C", text)
    assert Secret("C").get() == value


def test_secret_that_is_not_text_stays_as_it_is(home):
    with prefectish.context(secrets={"A": {"user": "ada"}}):
        assert Secret("A").get() == {"user": "ada"}
    write_secrets(home, "B = {user = 'ada', port = 5432}")
    assert Secret("B").get() == {"user": "ada", "port": 5432}


def test_context_wins_over_the_file_and_the_file_over_the_environment(home, monkeypatch):
    monkeypatch.setenv("PREFECTISH__SECRETS__TOKEN", "from the environment")
    assert Secret("TOKEN").get() == "from the environment"
    write_secrets(home, "TOKEN = 'from the file'")
    assert Secret("TOKEN").get() == "from the file"
    with prefectish.context(secrets={"TOKEN": "from the context"}):
        assert Secret("TOKEN").get() == "from the context"
    with prefectish.context(secrets={"OTHER": "of another name"}):
        assert Secret("TOKEN").get() == "from the file"


def test_variable_of_a_name_that_is_not_an_identifier(monkeypatch):
    monkeypatch.setenv(variable("slack-token"), VALUE)
    assert variable("slack-token") == "PREFECTISH__SECRETS__SLACK_TOKEN"
    assert Secret("slack-token").get() == VALUE


def test_missing_secret_names_the_ways_to_give_it(home):
    with pytest.raises(ValueError, match="secret 'TOKEN' is not known") as error:
        Secret("TOKEN").get()
    for way in ("PREFECTISH__SECRETS__TOKEN", str(home / "secrets.toml"), "prefectish.context(secrets="):
        assert way in str(error.value)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_file_that_others_can_read_is_refused(mode, home, monkeypatch):
    monkeypatch.setenv("PREFECTISH__SECRETS__TOKEN", VALUE)
    file = write_secrets(home, f"TOKEN = '{VALUE}'", mode)
    with pytest.raises(SecretsUnsafe, match=r"secrets\.toml can be read by others .*chmod 600") as error:
        Secret("TOKEN").get()
    assert isinstance(error.value, PrefectishError | PermissionError)
    assert VALUE not in str(error.value)
    file.chmod(0o600)
    assert Secret("TOKEN").get() == VALUE


def test_file_that_is_not_toml_is_an_error_that_does_not_quote_it(home):
    write_secrets(home, f"TOKEN = {VALUE}")
    with pytest.raises(ValueError, match=r"secrets\.toml is not valid TOML") as error:
        Secret("TOKEN").get()
    assert VALUE not in str(error.value)


def test_secrets_of_a_context_must_be_a_mapping():
    with Flow("f") as flow:
        Secret("TOKEN")()
    with pytest.raises(TypeError, match="a dict from names to values"):
        flow.run(context={"secrets": [VALUE]}, history=False)


# ---------------------------------------------------------------------- the environment kind


def test_env_var_secret_reads_a_variable(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "17")
    assert EnvVarSecret("SOME_TOKEN").get() == "17"
    assert EnvVarSecret("SOME_TOKEN", cast=int).get() == 17


def test_env_var_secret_that_is_missing_is_none_and_is_not_cast():
    assert EnvVarSecret("NO_SUCH_VARIABLE", cast=int).get() is None


def test_env_var_secret_that_is_missing_raises_if_asked_to():
    with pytest.raises(ValueError, match="'NO_SUCH_VARIABLE'"):
        EnvVarSecret("NO_SUCH_VARIABLE", raise_if_missing=True, cast=int).get()


def test_env_var_secret_needs_a_name_and_a_function():
    with pytest.raises(ValueError, match="name of an EnvVarSecret must be a non-empty string, got ''"):
        EnvVarSecret("")
    with pytest.raises(TypeError, match="cast must be a function, got 3"):
        EnvVarSecret("A", cast=3)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "option",
    [
        {"result": "store"},
        {"target": "place.txt"},
        {"checkpoint": True},
        {"cache_for": 60},
        {"cache_key_fn": lambda context, arguments: "key"},
    ],
    ids=lambda option: next(iter(option)),
)
@pytest.mark.parametrize("kind", [Secret, EnvVarSecret])
def test_secret_takes_no_option_that_keeps_its_result(kind, option, tmp_path):
    if "result" in option:
        option = {"result": LocalResult(dir=tmp_path)}
    with pytest.raises(ValueError, match="is never stored"):
        kind("TOKEN", **option)
    with pytest.raises(ValueError, match="is never stored"):
        kind("TOKEN").copy(**option)


def test_secret_takes_other_options():
    secret = Secret("TOKEN", max_retries=1, retry_delay=0, tags=["vault"], checkpoint=False)
    assert (secret.name, secret.max_retries, secret.tags) == ("TOKEN", 1, frozenset({"vault"}))


@pytest.mark.parametrize("name", ["", None, 3])
def test_secret_needs_a_name(name):
    with pytest.raises(ValueError, match="name of a secret must be a non-empty string, got "):
        Secret(name)


@pytest.mark.parametrize("kind", [Secret, EnvVarSecret])
@pytest.mark.parametrize("way", ["get", "run"])
def test_secret_cannot_be_read_while_a_flow_is_built(kind, way):
    with Flow("f") as flow, prefectish.context(secrets={"TOKEN": VALUE}):
        secret = kind("TOKEN")
        secret()
        with pytest.raises(ValueError, match="while a flow is built"):
            getattr(secret, way)()
    assert len(flow.tasks) == 1


# ---------------------------------------------------------------------- in flows, on every executor


@task
def length(token, n=0):
    return len(token)


@task
def user_of(login):
    return sorted(login)


@task
def leak(token):
    raise ValueError(f"cannot log in with {token}")


def test_secret_reaches_bodies_on_every_executor(run):
    with Flow("f") as flow:
        token = Secret("TOKEN")
        single = length(token)
        mapped = length.map(unmapped(token), n=[1, 2, 3])
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = run(flow)
    assert state.is_successful()
    assert state.result[single].result == len(VALUE)
    assert state.result[mapped].result == [len(VALUE)] * 3


def test_expressions_with_a_secret_are_made_where_they_are_read(run):
    with Flow("f") as flow:
        login = Secret("LOGIN")
        headers = {"Authorization": "Bearer " + login["password"]}
        a = user_of(headers)
        b = length(login["password"])
        c = length([Secret("TOKEN"), login, 3])
    with prefectish.context(secrets={"TOKEN": VALUE, "LOGIN": '{"password": "hunter-two-two"}'}):
        state = run(flow)
    assert [state.result[t].result for t in (a, b, c)] == [["Authorization"], 14, 3]
    hidden = [pickle.dumps(s._raw_result) for t, s in state.result.items() if t not in (a, b, c)]
    assert len(hidden) >= 5
    assert not any(text in blob for blob in hidden for text in (b"hunter-two-two", VALUE.encode()))


def test_expression_that_cannot_be_made_fails_where_it_stands(run):
    with Flow("f") as flow:
        part = Secret("LOGIN")["no such key"]
        end = length(part)
    with prefectish.context(secrets={"LOGIN": '{"password": "hunter-two-two"}'}):
        state = run(flow)
    assert repr(state.result[part]) == "Failed(\"Error during execution of task: KeyError('no such key')\")"
    assert type(state.result[end]).__name__ == "TriggerFailed"


def test_secret_of_a_branch_that_is_merged(run):
    with Flow("f") as flow:
        with case(True, True):
            one = Secret("TOKEN")()
        with case(True, False):
            two = Secret("OTHER")()
        end = length(merge(one, two))
    with prefectish.context(secrets={"TOKEN": VALUE, "OTHER": "never read"}):
        state = run(flow)
    assert state.result[end].result == len(VALUE)


def test_map_over_a_secret_list(run):
    with Flow("f") as flow:
        lengths = length.map(Secret("TOKENS"))
    with prefectish.context(secrets={"TOKENS": '["first-secret", "second-secret"]'}):
        state = run(flow)
    assert state.result[lengths].result == [12, 13]


def test_item_of_a_secret_list_is_not_a_key_in_the_history(executor, tmp_path):
    path = str(tmp_path / "history.db")
    with Flow("f") as flow:
        length.map(Secret("TOKENS"))
        length.copy(name="keyed", item_key=lambda token: f"key of {token}").map(Secret("TOKENS"))
    with prefectish.context(secrets={"TOKENS": '["first-secret", "second-secret"]'}):
        run_id = flow.run(executor=executor, history=path).context["flow_run_id"]
    recorded = prefectish.history.run(run_id, store=path)
    assert [child.item_key for child in recorded.children("length")] == [None, None]
    assert {child.item_key.partition("#")[0] for child in recorded.children("keyed")} == {"key of ****"}


def test_missing_secret_fails_its_task_and_names_the_ways(run):
    with Flow("f") as flow:
        secret = Secret("NOBODY_KNOWS_IT")
        end = length(secret)
    state = run(flow)
    assert "PREFECTISH__SECRETS__NOBODY_KNOWS_IT" in str(state.result[secret].result)
    assert type(state.result[secret]).__name__ == "Failed"
    assert type(state.result[end]).__name__ == "TriggerFailed"


def test_error_with_a_secret_is_masked_in_state_exception_and_traceback(run):
    with Flow("f") as flow:
        end = leak(Secret("TOKEN"))
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = run(flow)
    failed = state.result[end]
    assert repr(failed) == "Failed(\"Error during execution of task: ValueError('cannot log in with ****')\")"
    assert isinstance(failed.result, ValueError)
    assert VALUE not in f"{failed.result!r} {failed.traceback}"


def test_secret_is_read_again_though_its_finished_state_is_given(run):
    with Flow("f") as flow:
        secret = Secret("TOKEN")
        end = length(secret)
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = run(flow, task_states={secret: Success("before", "old")})
    assert state.result[end].result == len(VALUE)


def test_secret_is_never_stored(run, tmp_path):
    store = tmp_path / "store"
    with Flow("f", result=LocalResult(dir=store)) as flow:
        login = Secret("LOGIN")
        end = length({"auth": "Bearer " + login["password"]})
    with prefectish.context(secrets={"LOGIN": '{"password": "hunter-two-two"}'}):
        state = run(flow)
    assert state.result[end].result == 1
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    assert not any(b"hunter-two-two" in path.read_bytes() for path in files)


class FromVault(SecretBase):
    """A kind of the user's, which does not answer at first."""

    def __init__(self, path, **options):
        self.path = path
        super().__init__("vault", **options)

    def run(self):
        note(self.path, "asked")
        if len(notes(Path(self.path))) < 2:
            raise ConnectionError("vault is sealed")
        return "-".join(("value", "from", "the", "vault"))  # not a constant, which would travel with the class


def test_kind_of_the_users_is_retried_withheld_and_masked(run, tmp_path):
    with Flow("f") as flow:
        secret = FromVault(str(tmp_path / "tries"), max_retries=2, retry_delay=0)
        ok, bad = length(secret), leak(secret)
    state = run(flow)
    assert state.result[ok].result == len("value-from-the-vault")
    assert "cannot log in with ****" in repr(state.result[bad])
    assert b"value-from-the-vault" not in pickle.dumps(state.result[secret]._raw_result)


@task(isolation="process")
def leak_in_a_process(token):
    print("token", token)
    prefectish.context.logger.warning("token %s", token)
    raise ValueError(token)


def test_secret_is_masked_in_a_process_of_its_own(capsys, caplog):
    with Flow("f") as flow:
        end = leak_in_a_process(Secret("TOKEN"))
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = flow.run(history=False)
    out, err = capsys.readouterr()
    assert "token ****" in out
    assert "token ****" in caplog.text
    assert VALUE not in f"{state.result[end]!r} {state.result[end].result!r} {out} {err} {caplog.text}"


@task(isolation="process")
def read_inside_and_leak():
    raise ValueError(Secret("TOKEN").get())


def test_secret_read_in_a_process_of_its_own_is_masked_in_its_error():
    with Flow("f") as flow:
        end = read_inside_and_leak()
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = flow.run(history=False)
    assert repr(state.result[end].result) == "ValueError('****')"


def test_handlers_see_masked_states():
    seen = []
    note = lambda obj, old, new: seen.append(f"{new!r} {new.result!r}")  # noqa: E731
    with Flow("f") as flow:
        leak.copy(state_handlers=[note])(Secret("TOKEN"))
    with prefectish.context(secrets={"TOKEN": VALUE}):
        flow.run(history=False)
    assert len(seen) == 2
    assert VALUE not in " ".join(seen)


def refuse_without_the_token(task, old, new):
    if Secret("TOKEN").get() != VALUE:
        raise PermissionError("the handler got another token")


def test_handlers_read_secrets_wherever_they_are_called(run):
    with Flow("f", state_handlers=[refuse_without_the_token]) as flow:
        lengths = length.copy(state_handlers=[refuse_without_the_token]).map(["a", "bc"])
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = run(flow)
    assert state.is_successful()
    assert state.result[lengths].result == [1, 2]


def test_secret_can_be_read_in_handlers_and_bodies():
    @task
    def body():
        return len(Secret("TOKEN").get())

    seen = []
    with Flow("f", state_handlers=[lambda f, old, new: seen.append(Secret("TOKEN").get())]) as flow:
        end = body()
    with prefectish.context(secrets={"TOKEN": VALUE}):
        state = flow.run(history=False)
    assert state.result[end].result == len(VALUE)
    assert seen == [VALUE, VALUE]


def test_secrets_of_the_environment_are_read_in_the_process_that_runs_the_body(dask_client):
    """X11: the client does not know the value; the workers do."""
    variable_name = "PREFECTISH__SECRETS__ONLY_ON_WORKERS"
    dask_client.run(lambda: os.environ.update({variable_name: VALUE}))
    try:
        assert variable_name not in os.environ
        with Flow("f") as flow:
            secret = Secret("ONLY_ON_WORKERS")
            lengths = length.map(unmapped(secret), n=list(range(8)))
            bad = leak(secret)
        state = flow.run(executor=DaskExecutor(client=dask_client), history=False)
        assert state.result[lengths].result == [len(VALUE)] * 8
        assert VALUE not in f"{state.result[bad]!r} {state.result[bad].result!r} {state.result[bad].traceback}"
        with pytest.raises(ValueError, match="not known in this process"):
            _ = state.result[secret].result
    finally:
        dask_client.run(lambda: os.environ.pop(variable_name))


def test_stand_ins_do_not_show_in_reprs():
    @task
    def show():
        return repr(prefectish.context.secrets), repr(prefectish.context)

    with Flow("f") as flow:
        shown = show()
    state = flow.run(context={"secrets": {"TOKEN": VALUE}}, history=False)
    assert VALUE not in str(state.result[shown].result)
    assert "TOKEN" in state.result[shown].result[0]


def test_stand_ins_still_hide_after_a_pickle_round_trip():
    with Flow("f") as flow:
        shown = task(lambda: pickle.dumps(prefectish.context.secrets), name="shown")()
    state = flow.run(context={"secrets": {"TOKEN": VALUE}}, history=False)
    copy = pickle.loads(state.result[shown].result)
    assert copy["TOKEN"] == VALUE
    assert VALUE not in repr(copy)


def test_a_thousand_children_read_the_file_once_a_process(home, monkeypatch):
    from prefectish.secrets import store

    write_secrets(home, f"TOKEN = '{VALUE}'")
    reads = []
    real = store._read
    monkeypatch.setattr(store, "_read", lambda *a: reads.append(a) or real(*a))
    with Flow("f") as flow:
        lengths = length.map(unmapped(Secret("TOKEN")), n=list(range(1000)))
    state = flow.run(executor=LocalDaskExecutor("threads", num_workers=2), history=False)
    assert state.result[lengths].result == [len(VALUE)] * 1000
    assert len(reads) <= 4


def test_repr_of_a_secret_tells_its_name_only():
    with prefectish.context(secrets={"TOKEN": VALUE}):
        secret = Secret("TOKEN")
        secret.get()
        assert repr(secret) == "<Secret: TOKEN>"
        assert repr(EnvVarSecret("TOKEN")) == "<EnvVarSecret: TOKEN>"
    assert isinstance(secret, Task)


def test_import_does_not_touch_streams_or_logs():
    import subprocess

    code = (
        "import sys, logging; out = sys.stdout; make = logging.getLogRecordFactory(); import prefectish; "
        "prefectish.Secret('TOKEN'); print(sys.stdout is out, logging.getLogRecordFactory() is make)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["True", "True"]
