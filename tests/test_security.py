"""Credentials in reprs, settings files that ask for objects: what a stranger, or a log, gets to see."""

from __future__ import annotations

import warnings

import pytest
from distributed import Security

import prefectish
from prefectish import Flow, Secret, task
from prefectish.config import default_executor, settings
from prefectish.executors import DaskExecutor
from prefectish.history.store import open_store

PASSWORD = "the-password-in-an-address"


# ---------------------------------------------------------------------- X12: reprs


def test_x12_executor_shows_no_credentials():
    executor = DaskExecutor(f"tls://me:{PASSWORD}@scheduler:8786", security=Security(require_encryption=True))
    assert PASSWORD not in repr(executor)
    assert "***@scheduler:8786" in repr(executor)


def test_x12_executor_with_certificates_shows_no_key():
    key = f"-----BEGIN PRIVATE KEY-----\n{PASSWORD}\n-----END PRIVATE KEY-----"
    security = Security(tls_ca_file="ca.pem", tls_client_cert="cert.pem", tls_client_key=key, require_encryption=True)
    executor = DaskExecutor("tls://scheduler:8786", security=security)
    assert PASSWORD not in f"{executor!r} {security!r}"
    assert PASSWORD not in repr(vars(DaskExecutor("tls://scheduler:8786", security=security)))


@pytest.mark.parametrize("address", [f"tcp://me:{PASSWORD}@127.0.0.1:1", f"tcp://me:{PASSWORD}@nowhere.invalid:8786"])
def test_x12_error_of_an_executor_that_cannot_connect_shows_no_credentials(address):
    flow = Flow("f", tasks=[task(lambda: 1, name="one")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match=r"address must be like|no Dask scheduler") as caught:
            flow.run(executor=DaskExecutor(address, client_kwargs={"timeout": 1}), history=False)
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_x12_history_that_cannot_be_reached_shows_no_credentials():
    url = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/history?connect_timeout=1"
    with pytest.raises(Exception, match=r".") as caught:
        open_store(url)
    assert PASSWORD not in f"{caught.value!r} {caught.value}"


def test_x12_environment_is_in_no_repr(monkeypatch):
    monkeypatch.setenv("PREFECTISH__SECRETS__TOKEN", PASSWORD)
    with Flow("f") as flow:
        out = task(len, name="length")(Secret("TOKEN"))
    state = flow.run(history=False)
    assert state.result[out].result == len(PASSWORD)
    things = [flow, state, *flow.tasks, *state.result.values(), prefectish.context]
    assert PASSWORD not in " ".join(map(repr, things))


# ---------------------------------------------------------------------- X14: settings are plain values

YAML = "executor: !!python/object/apply:os.system ['touch {mark}']\n"
PICKLE = "cos\nsystem\n(S'touch {mark}'\ntR."


@pytest.mark.parametrize("content", [YAML, PICKLE])
def test_x14_settings_file_that_asks_for_objects_is_ignored(content, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    (tmp_path / "config.toml").write_text(content.format(mark=mark))
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match=r"config\.toml is ignored"):
        assert settings() == {}
    with pytest.warns(UserWarning, match=r"config\.toml is ignored"):
        assert default_executor() is None
    assert not mark.exists()


@pytest.mark.parametrize("content", [YAML, PICKLE])
def test_x14_file_of_secrets_that_asks_for_objects_is_refused(content, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    file = tmp_path / "secrets.toml"
    file.write_text(content.format(mark=mark))
    file.chmod(0o600)
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"secrets\.toml is not valid TOML"):
        Secret("TOKEN").get()
    assert not mark.exists()


def test_x14_text_in_a_settings_file_stays_text(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('note = "!!python/object/apply:os.getcwd []"\n')
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="there is no setting 'note'"):
        assert settings() == {"note": "!!python/object/apply:os.getcwd []"}


@pytest.mark.parametrize("place", ["mysql://me:swordfish@db/runs", "mysql://me@db/runs?user=me&password=swordfish"])
def test_the_password_of_a_database_is_not_shown(place: str) -> None:
    with pytest.raises(prefectish.errors.HistoryWriteError, match="must be a path") as caught:
        open_store(place)
    assert "swordfish" not in str(caught.value)
