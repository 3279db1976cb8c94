"""Requests that change something: forms of pages and JSON of programs, checked and carried out by one path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from prefectish.errors import NotDeployed, ParameterError, PrefectishError, RunNotActive
from prefectish.ui.access import Access
from prefectish.ui.actions import ACTIONS, Action
from prefectish.ui.queries.forms import values_of
from prefectish.ui.queries.registry import deployment_detail
from prefectish.ui.records import Asked, Record
from prefectish.ui.rendering import show
from prefectish.ui.requests import Answer, first_error, source_of
from prefectish.ui.security import is_inside, root_of

#: Bytes of a body, at most.
MAX_BODY = 1_000_000
READ_ONLY = "this page is read-only; start `prefectish ui` without --read-only to ask for something"
NO_CSRF = "the form was not one of this page: reload the page, and try again"


def form(name: str) -> Answer:
    """Return what answers a form of a page: a fragment for scripts, else the way back."""
    action = ACTIONS[name]

    async def answer(request: Request) -> Response:
        body = await _body(request)
        given = await _form(request, body)
        _check(request, given.get("csrf"))
        asked = await _carried_out(request, action, lambda: _record(request, action, given))
        if "hx-request" in request.headers:
            return show(request, "fragments/asked.html", asked)
        back = given.get("back", "")
        return RedirectResponse(f"{root_of(request)}{back if is_inside(back) else ''}", 303)

    return answer


def program(name: str) -> Answer:
    """Return what answers a request of a program."""
    action = ACTIONS[name]

    async def answer(request: Request) -> Response:
        body = await _body(request)
        _check(request, None)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise HTTPException(415, f"the body must be application/json, got {kind or 'no type'}")
        asked = await _carried_out(request, action, lambda: _json(action, body))
        return Response(asked.model_dump_json(), media_type="application/json")

    return answer


async def _body(request: Request) -> bytes:
    found = bytearray()
    try:
        async for chunk in request.stream():
            found += chunk
            if len(found) > MAX_BODY:
                raise HTTPException(413, f"a body must have at most {MAX_BODY:,} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the connection was closed") from None
    return bytes(found)


async def _form(request: Request, body: bytes) -> dict[str, str]:
    """Return the fields of a form; empty ones are left out."""

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise HTTPException(415, f"the body must be a form, got {kind or 'no type'}")
    found: FormData = await Request(request.scope, receive).form(max_files=0)  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if isinstance(value, str) and value != ""}


def _check(request: Request, csrf: str | None) -> None:
    access: Access = request.app.state.access
    if access.read_only:
        raise HTTPException(403, READ_ONLY)
    needs_csrf = request.scope.get("state", {}).get("needs_csrf", False)
    if needs_csrf and not access.is_form_of_page(csrf):
        raise HTTPException(403, NO_CSRF)


async def _carried_out(request: Request, action: Action, wanted: Callable[[], Record]) -> Asked:
    """Carry a request out; HTTPException says why not."""

    def act() -> Asked:
        try:
            return action.act(source_of(request), request.path_params, wanted())
        except ValidationError as error:
            raise HTTPException(400, first_error(error)) from None
        except (RunNotActive, NotDeployed) as error:
            raise HTTPException(409, str(error)) from None
        except PrefectishError as error:
            if isinstance(error, ParameterError):
                raise HTTPException(400, str(error)) from None
            raise
        except (ValueError, TypeError) as error:
            raise HTTPException(400, str(error)) from None

    try:
        return await run_in_threadpool(act)
    finally:
        source_of(request).forget_answers()


def _record(request: Request, action: Action, given: Mapping[str, str]) -> Record:
    """Return the body of a form as a record; that of a run has the parameters of its flow as fields."""
    if "parameters" not in action.body.model_fields:
        return action.body.model_validate({name: given[name] for name in given.keys() & action.body.model_fields})
    path = request.path_params
    fields = deployment_detail(source_of(request), path["project"], path["name"]).form
    return action.body.model_validate({"parameters": values_of(fields, given)})


def _json(action: Action, body: bytes) -> Record:
    return action.body.model_validate_json(body or b"{}")
