"""Who is let in to the page, and who is told why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefectish import Flow, task

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")

from starlette.testclient import TestClient

from prefectish.ui.access import Access, BadHost, TokenUnsafe, default_hosts, home_token
from prefectish.ui.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a token that nobody guesses"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    with Flow("numbers") as flow:
        task(lambda x: x + 1, name="add").map([1, 2, 3])
    path = tmp_path / "history.db"
    flow.run(history=path)
    return path


@pytest.fixture
def browser(history: Path) -> Iterator[TestClient]:
    with TestClient(create_app(history, token=TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False) as made:
        yield made


def test_x20_nothing_is_shown_without_the_token(browser: TestClient) -> None:
    for path in ("/", "/static/x", "/api/runs", "/?token=wrong", "/nowhere"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert "open the link" in answer.text
        assert "numbers" not in answer.text


def test_the_token_of_a_link_becomes_a_cookie_of_the_page(browser: TestClient) -> None:
    answer = browser.get(f"/?token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "./"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path" not in cookie  # of the prefix under which a proxy serves the page
    assert "numbers" in browser.get("/").text


def test_a_link_to_an_inner_page_gets_its_cookie_at_the_root(browser: TestClient) -> None:
    answer = browser.get(f"/runs/1?token={TOKEN}&tab=logs")
    assert answer.headers["location"].startswith("../?token=")
    assert "set-cookie" not in answer.headers
    again = browser.get("/", params=dict(part.split("=") for part in ["token=" + TOKEN, "next=runs/1"]))
    assert again.headers["location"] == "./runs/1"


@pytest.mark.parametrize(
    "after", ["//evil.example", "https://evil.example", "../../x", "/\\evil", "javascript:x", "%2e%2e/x"]
)
def test_a_link_does_not_lead_elsewhere(browser: TestClient, after: str) -> None:
    assert browser.get("/", params={"token": TOKEN, "next": after}).headers["location"] == "./"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "x@localhost", ""])
def test_x21_a_request_for_another_host_is_refused(browser: TestClient, host: str) -> None:
    browser.get(f"/?token={TOKEN}")
    answer = browser.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert "--allowed-host" in answer.text


def test_a_host_can_be_allowed(history: Path) -> None:
    app = create_app(history, token=TOKEN, allowed_hosts=["hub.example.org"])
    browser = TestClient(app, base_url="https://hub.example.org", follow_redirects=False)
    assert browser.get(f"/?token={TOKEN}").status_code == 303


def test_x22_every_answer_has_a_strict_policy(browser: TestClient) -> None:
    browser.get(f"/?token={TOKEN}")
    for path in ("/", "/nowhere"):
        headers = browser.get(path).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_x20_the_token_is_kept_in_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    token = home_token()
    assert home_token() == token
    file = tmp_path / "home" / "ui-token"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(TokenUnsafe, match="others can read"):
        home_token()


def test_two_pages_on_one_host_have_cookies_of_their_own() -> None:
    assert Access("a" * 30).cookie != Access("b" * 30).cookie
    assert os.path.basename(Access("a" * 30).cookie) == Access("a" * 30).cookie


def test_a_fault_of_the_page_is_said(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefectish.ui.queries.registry.agents_page", None)
    app = create_app(history, token=TOKEN)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    for address in ("/agents", "/api/agents"):
        answer = client.get(address, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 500
        assert "TypeError; the log of the server says where" in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_prefix_of_a_proxy_is_none_of_the_page(browser: TestClient) -> None:
    browser.get(f"/?token={TOKEN}")
    run = browser.get("/api/runs").json()["runs"][0]["id"]
    for address, base in (("/", "./"), (f"/runs/{run}", "../"), (f"/runs/{run}/tasks/0/items/1", "../../../../../")):
        text = browser.get(address).text
        assert f'<base href="{base}">' in text
        assert 'href="/' not in text
        assert 'src="/' not in text
        assert 'action="/' not in text


def test_the_link_of_a_read_only_page_opens_no_other(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn")
    from prefectish.ui import serving, sockets

    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    links = {}
    for read_only in (False, True):
        with sockets.listen("127.0.0.1", 0) as opened:
            served = serving.prepare(history, opened, read_only=read_only)
            links[read_only] = served.link, TestClient(served.server.config.app, base_url="http://127.0.0.1")
    for read_only, (_, client) in links.items():
        for of, (link, _) in links.items():
            token = link.partition("?token=")[2]
            answer = client.get("/api/runs", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == (200 if of is read_only else 401)


def test_the_cookie_of_a_page_behind_tls_is_not_sent_without_it(history: Path) -> None:
    for scheme in ("http", "https"):
        browser = TestClient(create_app(history, token=TOKEN), base_url=f"{scheme}://localhost", follow_redirects=False)
        assert ("Secure" in browser.get(f"/?token={TOKEN}").headers["set-cookie"]) is (scheme == "https")


@pytest.mark.parametrize("origin", ["null", "", "http://", "http://[", "https://evil.example", "http://x@localhost"])
def test_x21_a_form_of_another_site_is_refused(browser: TestClient, origin: str) -> None:
    browser.get(f"/?token={TOKEN}")
    answer = browser.post("/limits/set", data={"name": "db", "size": "1"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert "is not a form of this page" in answer.text


@pytest.mark.parametrize("path", ["/javascript:alert(1)//", "/https://evil.example/", "///evil.example"])
def test_x22_an_address_that_is_not_there_leads_nowhere_else(browser: TestClient, path: str) -> None:
    browser.get(f"/?token={TOKEN}")
    answer = browser.get(f"http://127.0.0.1:8000{path}")
    assert answer.status_code == 404
    for scheme in ("javascript:", "https:", "//evil"):
        assert f'href="{scheme}' not in answer.text


LONG, LARGE = "x" * 30_000, str(10**30)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"runs/{LONG}", 404),
        (f"runs/RUN/tasks/{LARGE}", 404),
        (f"runs/RUN/tasks/0/items/{LARGE}", 404),
        (f"runs/RUN/tasks/0/find?text={LONG}", 400),
        (f"runs/RUN/failures?text={LONG}", 400),
        (f"runs/RUN/failures?cause={LARGE}", 400),
        (f"runs/RUN/failures?page={LARGE}", 400),
        (f"runs/RUN/logs?after={LARGE}", 400),
        (f"?page={LARGE}", 400),
        (f"?page={2**31 - 1}", 200),
        (f"?text={LONG}", 400),
        ("?since=0001-01-01", 400),
        ("?text=a%00b", 400),
        ("runs/a%00b", 400),
    ],
)
def test_what_no_database_takes_is_refused(browser: TestClient, address: str, status: int) -> None:
    browser.get(f"/?token={TOKEN}")
    run = browser.get("/api/runs").json()["runs"][0]["id"]
    address = address.replace("RUN", run)
    for before in ("/", "/api/runs" if address.startswith("?") else "/api/"):
        answer = browser.get(before + address)
        assert answer.status_code == status, answer.text[:300]


@pytest.mark.parametrize("body", [{"name": "db", "size": 10**30}, {"name": "d\0b", "size": 1}, {"name": "", "size": 1}])
def test_a_limit_that_no_database_takes_is_refused(browser: TestClient, body: dict[str, object]) -> None:
    answer = browser.post("/api/limits/set", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 400
    assert "name" in answer.text or "size" in answer.text


@pytest.mark.parametrize("name", ["hub.example.org:8443", "https://hub.example.org", "*.example.org", "", "a/b", "x@y"])
def test_a_host_that_no_request_names_is_not_allowed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("uvicorn")
    from prefectish.ui import serving, sockets

    with sockets.listen("127.0.0.1", 0) as opened, pytest.raises(BadHost, match="without a port, got"):
        serving.prepare(tmp_path / "history.db", opened, allowed_hosts=[name])
    monkeypatch.setattr("prefectish.config.setting", lambda _: [name])
    with pytest.raises(BadHost):
        default_hosts({})
