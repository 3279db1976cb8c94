"""What a request says: filters, pages, forms."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from prefectish.ui.records import Record
from prefectish.ui.source import Source

R = TypeVar("R", bound=Record)


def source_of(request: Request) -> Source:
    """Return the history that is shown."""
    source: Source = request.app.state.source
    return source


def record_of(model: type[R], request: Request) -> R:
    """Return the query of an address as a record; empty values are none. HTTPException 400 if they do not fit."""
    given = {name: value for name, value in request.query_params.items() if value and name in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(
            400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
        ) from None


def page_number(request: Request) -> int:
    """Return which page of a list is wanted, from 1."""
    return number(request, "page", 1)


def number(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query of an address, at least 0; HTTPException 400 if it is none."""
    text = request.query_params.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 12:
        raise HTTPException(400, f"{name} must be a whole number, got {text!r}")
    return int(text)
