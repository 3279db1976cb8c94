"""What is refused before anything is looked up: strange hosts, requests without the token, forms of other sites."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefectish.ui.access import Access
from prefectish.ui.records import Refusal

#: Nothing is fetched from elsewhere, nothing is inline, no other page shows this one in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: How long a browser keeps the cookie, in seconds.
COOKIE_AGE = 30 * 86400
NO_TOKEN = "no valid token: open the link that `prefectish ui` prints, with its ?token=..."


class Guard:
    """Lets requests through to the application, or says why not."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and answer it; other messages of the server go through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = refusal(HTTPConnection(scope), self._access) if scope["type"] == "http" else _no_such_protocol
        await (answer or self._app)(scope, receive, _with_headers(send))


def refusal(request: HTTPConnection, access: Access) -> Response | None:
    """Return the answer to a request that does not reach the application; None if it does."""
    host = request.headers.get("host")
    if not access.allows_host(host):
        return refused(request, 403, f"host {host!r} is not allowed; start with `prefectish ui --allowed-host NAME`")
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:  # no database has such a text
        return refused(request, 400, "an address must not have the character NUL")
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if access.knows(bearer):
        return None
    if "token" in request.query_params:
        return _let_in(request, access)
    if not access.knows(request.cookies.get(access.cookie)):
        return refused(request, 401, NO_TOKEN)
    if request.scope["method"] in SAFE_METHODS:
        return None
    if not access.allows_origin(request.headers.get("origin")):
        return refused(request, 403, f"a form of {request.headers['origin']!r} is not a form of this page")
    request.scope.setdefault("state", {})["needs_csrf"] = not access.is_form_of_page(
        request.headers.get("x-csrf-token")
    )
    return None


def _let_in(request: HTTPConnection, access: Access) -> Response:
    """Keep the token of a link in a cookie, and lead to the address without it."""
    if request.scope["method"] != "GET" or not access.knows(request.query_params["token"]):
        return refused(request, 401, NO_TOKEN)
    path = request.scope["path"].lstrip("/")
    rest = [(name, value) for name, value in parse_qsl(request.scope["query_string"].decode()) if name != "token"]
    if path:  # the cookie is for the folder of the address: get it at the root
        query = urlencode({"token": access.token, "next": quote(path) + (f"?{urlencode(rest)}" if rest else "")})
        return RedirectResponse(f"{root_of(request)}?{query}", 303)
    after = request.query_params.get("next", "")
    answer = RedirectResponse(f"./{after}" if is_inside(after) else "./", 303)
    answer.set_cookie(
        access.cookie,
        access.token,
        max_age=COOKIE_AGE,
        path=None,
        secure=request.scope["scheme"] == "https",  # as a proxy on this machine says by X-Forwarded-Proto
        httponly=True,
        samesite="lax",
    )
    return answer


def is_inside(address: str) -> bool:
    """Whether an address relative to the base of the page stays in it.

    Examples
    --------
    >>> is_inside("runs/1?x=//y"), is_inside("//evil.example"), is_inside("https://evil.example"), is_inside("../x")
    (True, False, False, False)
    >>> is_inside("%2e%2e/x")  # which is ".." to a browser
    False
    """
    path = unquote(address.partition("?")[0].partition("#")[0])
    return (
        address.isprintable()
        and not address.startswith(("/", "\\"))
        and ":" not in path
        and "\\" not in path
        and ".." not in path.split("/")
    )


def root_of(request: HTTPConnection) -> str:
    """Return the base of the page relative to the address of a request, whatever a proxy has put before it."""
    return "../" * (request.scope["path"].count("/") - 1) or "./"


def refused(request: HTTPConnection, status: int, why: str) -> Response:
    """Return an answer that says why."""
    if request.scope["path"].startswith("/api"):
        return JSONResponse(Refusal(error=why).model_dump(), status, dict(HEADERS))
    return PlainTextResponse(f"prefectish: {why}\n", status, dict(HEADERS))


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sent


async def _no_such_protocol(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008, "reason": "there are no web sockets here"})
