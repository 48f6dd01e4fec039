"""One error base, one handler, one shape: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Response
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException

from chassis import context

if TYPE_CHECKING:
    from chassis.metrics import Metrics

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """An error that a client sees.

    Args:
        detail: what went wrong, for the person who reads it; never a driver's text.
        errors: for bad input, one `{"field", "message"}` each.
        headers: further response headers.
    """

    status = 500
    slug = ""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status or self.status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})


class BadRequest(Problem):
    """400: the request is not well formed; `errors` names the fields."""

    status = 400


class NotFound(Problem):
    """404: there is no such thing."""

    status = 404


class Conflict(Problem):
    """409: it clashes with what is there."""

    status = 409


class PreconditionFailed(Problem):
    """412: the thing is not in the state that `If-Match` names. `what` is what clients call it."""

    status = 412
    slug = "precondition-failed"

    def __init__(self, what: str) -> None:
        super().__init__(f"The {what} has changed since: fetch it again")


class Unavailable(Problem):
    """503: a dependency is lost or everything is busy. Always says when to come back.

    Args:
        retry_after_s: seconds for `Retry-After`.
    """

    status = 503
    slug = "unavailable"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class DeadlineExceeded(Problem):
    """504: the request's own time ran out."""

    status = 504
    slug = "deadline-exceeded"

    def __init__(self, detail: str = "The request ran out of time") -> None:
        super().__init__(detail)


def title_of(status: int) -> str:
    """The standard phrase of a status, for example `Not Found`."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_bytes(
    status: int, detail: str, *, slug: str = "", errors: Sequence[Mapping[str, str]] = (), request_id: str | None = None
) -> bytes:
    """The JSON body of a problem. `request_id` defaults to the current request's; `slug` becomes the type's name."""
    request = context.current()
    body: dict[str, Any] = {
        "type": f"urn:problem:{slug}" if slug else "about:blank",
        "title": title_of(status),
        "status": status,
        "detail": detail,
        "error": detail,
        "request_id": request_id or (request.request_id if request else None),
    }
    if errors:
        body["errors"] = errors
    return orjson.dumps(body)


def init_app(app: Flask, *, metrics: Metrics) -> None:
    """Answer every exception of `app` as a problem, and count the server's own in `app_errors_total`."""

    def answer(problem: Problem) -> Response:
        if problem.status >= 500:
            metrics.count_error(problem.slug or type(problem).__name__)
        body = problem_bytes(problem.status, problem.detail, slug=problem.slug, errors=problem.errors)
        return Response(body, problem.status, headers=problem.headers, content_type=CONTENT_TYPE)

    def http_error(error: HTTPException) -> Response:
        if error.code is None or error.code < 400:  # a redirect that werkzeug raises
            return Response(error.get_response().get_data(), error.code, headers=dict(error.get_headers()))
        headers = dict(error.get_headers())
        headers.pop("Content-Type", None)
        return answer(Problem(HTTP_DETAIL.get(error.code, title_of(error.code)), status=error.code, headers=headers))

    def unreadable(_error: Exception) -> Response:  # gunicorn reads a body when the application does
        return answer(BadRequest("The request body is not well formed, or ended early"))

    def unexpected(error: Exception) -> Response:
        log.error("Unexpected %s", type(error).__name__, exc_info=error)
        metrics.count_error(type(error).__name__)
        return Response(problem_bytes(500, "Something went wrong on our side"), 500, content_type=CONTENT_TYPE)

    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(ParseException, unreadable)
    app.register_error_handler(NoMoreData, unreadable)
    app.register_error_handler(Exception, unexpected)


HTTP_DETAIL = {
    400: "The request is not well formed",
    404: "There is nothing at this address",
    405: "This address does not take that method",
    413: "The request body is too large",
    415: "The request body must be application/json",
}
"""What we say for the errors that werkzeug raises; its own texts are written for HTML pages."""
