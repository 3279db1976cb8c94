"""Send HTTP requests with httpx2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

from prefectish.optional_deps import load
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task


class HTTPTask(Task):
    """Send a request and return the body of the response; an error status fails the task.

    Parameters
    ----------
    url
        URL of the request.
    method
        HTTP method, in upper or lower case.
    headers, params
        HTTP headers, and query parameters of the URL.
    returns
        What to return: "auto" (JSON if the content type says so, else text), "json", "text", "bytes", or
        "status" (the status code, which is then never an error).
    request_timeout
        Seconds for each of connecting, sending, and waiting for the next part of the response. The task's `timeout` is
        for the whole request.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.
    """

    def __init__(
        self,
        url: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        returns: Literal["auto", "json", "text", "bytes", "status"] = "auto",
        request_timeout: float | None = 30.0,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if returns not in _READERS:
            raise ValueError(f"returns must be one of {', '.join(map(repr, _READERS))}, got {returns!r}")
        self.url = url
        self.method = method
        self.headers = headers
        self.params = params
        self.returns = returns
        self.request_timeout = request_timeout
        super().__init__(name, **options)

    def run(
        self,
        url: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: str | bytes | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Any:
        """Send the request; arguments that are not None override those of the constructor.

        Parameters
        ----------
        json, content
            Body of the request: a value sent as JSON, or a string or bytes.
        auth
            User name and password.

        Raises
        ------
        ValueError
            If there is no URL.
        httpx2.HTTPError
            If there was no response, or one with an error status.
        """
        url = self.url if url is None else url
        if not url:
            raise ValueError(f"{self.name}: no url; pass one to the task or to its call")
        httpx = load("httpx2", "http", "HTTPTask")
        answer = httpx.request(
            (self.method if method is None else method).upper(),
            url,
            headers=self.headers if headers is None else headers,
            params=self.params if params is None else params,
            json=json,
            content=content,
            auth=auth,
            timeout=self.request_timeout,
            follow_redirects=True,
        )
        if self.returns != "status":
            answer.raise_for_status()
        return _READERS[self.returns](answer)


def _by_content_type(answer: Any) -> Any:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    return answer.json() if kind == "application/json" or kind.endswith("+json") else answer.text


_READERS: dict[str, Any] = {
    "auto": _by_content_type,
    "json": lambda answer: answer.json(),
    "text": lambda answer: answer.text,
    "bytes": lambda answer: answer.content,
    "status": lambda answer: answer.status_code,
}
