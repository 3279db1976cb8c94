"""What a request says: filters, pages, forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from prefectish.ui.records import Record
from prefectish.ui.source import Source

R = TypeVar("R", bound=Record)
#: Answers a request.
Answer = Callable[[Request], Awaitable[Response]]


def source_of(request: Request) -> Source:
    """Return the history that is shown."""
    source: Source = request.app.state.source
    return source


def shared(compute: Callable[[Request], str], media_type: str) -> Answer:
    """Return what answers a request with a text, which all get who ask for the same address in the same moment."""

    async def answer(request: Request) -> Response:
        source = source_of(request)
        key = request.scope["path"], request.scope["query_string"]
        text = source.recent(key)
        if text is None:
            text = await run_in_threadpool(source.answered, key, lambda: compute(request))
        return Response(text, media_type=media_type)

    return answer


def record_of(model: type[R], request: Request) -> R:
    """Return the query of an address as a record; empty values are none. HTTPException 400 if they do not fit."""
    given = {name: value for name, value in request.query_params.items() if value and name in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise HTTPException(400, first_error(error)) from None


def first_error(error: ValidationError) -> str:
    """Return the first thing that does not fit, in words."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return f"{where}: {first['msg']}, got {str(first['input'])[:80]!r}"
