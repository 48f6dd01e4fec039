"""HTTP for the Flask services: what surrounds every request, and reading and answering without needless work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from flask import Flask, Response, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from chassis import context, logging
from chassis.errors import BadRequest, NotFound, Problem
from chassis.health import PROBE_ENDPOINTS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.datastructures import Headers
    from werkzeug.routing import Rule

    from chassis.metrics import Metrics

JSON = "application/json"
MAX_QUERY_FIELDS = 50
ENDPOINT = "chassis.endpoint"
"""Where what answers without Flask writes the endpoint's name into the environ."""

M = TypeVar("M", bound=BaseModel)


# --- what surrounds every request ---------------------------------------------------------------------------------


class Observe:
    """WSGI middleware: request id, trace, deadline, metrics and the request line of the log.

    Outside Flask on purpose: as hooks these cost a fifth of a small request. The time measured ends when the
    application has returned its answer; sending it is the server's.
    """

    def __init__(self, application: WSGIApplication, *, metrics: Metrics, timeout_ms: int) -> None:
        self.application = application
        self._metrics = metrics
        self._timeout_ms = timeout_ms

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began_s = time.perf_counter()
        get = environ.get
        ctx = context.begin(
            get("HTTP_X_REQUEST_ID"), get("HTTP_TRACEPARENT"), get("HTTP_X_REQUEST_TIMEOUT_MS"), self._timeout_ms
        )
        token = context.bind(ctx)
        status_code = 500
        endpoint = "unmatched"

        def respond(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            nonlocal status_code, endpoint
            status_code = int(status[:3])
            # Flask keeps its request in the environ until it has answered; its rule is None where no route matched.
            rule = getattr(get("werkzeug.request"), "url_rule", None)
            endpoint = name_of(rule) if rule is not None else get(ENDPOINT, "unmatched")
            headers.append(("X-Request-ID", ctx.request_id))
            return start_response(status, headers, exc_info)

        try:
            return self.application(environ, respond)
        finally:
            duration_s = time.perf_counter() - began_s
            method = environ["REQUEST_METHOD"]
            self._metrics.request(method, endpoint, status_code, duration_s)
            logging.access(
                method=method,
                path=get("PATH_INFO", ""),
                protocol=get("SERVER_PROTOCOL", ""),
                route=endpoint,
                status=status_code,
                duration_s=duration_s,
                remote_addr=get("REMOTE_ADDR", ""),
                quiet=endpoint in PROBE_ENDPOINTS,
            )
            context.unbind(token)


def init_app(app: Flask, *, metrics: Metrics, timeout_ms: int, max_body_bytes: int) -> None:
    """Wrap `app` in Observe, cap its request bodies (413) and add `/metrics`."""
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.url_map.merge_slashes = False

    @cache
    def expect_requests() -> None:  # with the first scrape, when all the routes are there
        for rule in app.url_map.iter_rules():
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                if name_of(rule) not in PROBE_ENDPOINTS:
                    metrics.expect_requests(method, name_of(rule))

    def answer_metrics() -> Response:
        expect_requests()
        text, content_type = metrics.exposition()
        return Response(text, content_type=content_type)

    app.add_url_rule("/metrics", "metrics", answer_metrics)
    app.wsgi_app = Observe(app.wsgi_app, metrics=metrics, timeout_ms=timeout_ms)  # type: ignore[method-assign]


def name_of(rule: Rule) -> str:
    """The `endpoint` of metrics and the `route` of logs: the view's name, without that of its blueprint."""
    name: str = rule.endpoint.rpartition(".")[2]
    return name


# --- reading requests ---------------------------------------------------------------------------------------------


def _refuse_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain the NUL character")
    return value


Text = Annotated[str, AfterValidator(_refuse_nul), Field(json_schema_extra={"pattern": "^[^\\u0000]*$"})]
"""A string that PostgreSQL can store. Lone surrogates never get here: no parser of ours lets them in."""


class Strict(BaseModel):
    """Base of all input models: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_query(model: type[M], *, invalid: int = 400) -> M:
    """The query string as `model`.

    Args:
        invalid: the status for what can be read and is not what `model` wants.

    Raises:
        BadRequest: not UTF-8, or a key twice.
        Problem: an unknown key, or a bad value; the detail names the field.
    """
    raw: bytes = request.query_string
    if not raw:
        return _validated(model, {}, invalid)
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadRequest("The query string is not valid UTF-8, or has too many fields") from error
    fields: dict[str, str] = {}
    for key, value in pairs:
        if key in fields:
            raise _bad_field(key, "must be given once")
        fields[key] = value
    return _validated(model, fields, invalid)


def parse_body(model: type[M], *, invalid: int = 400) -> tuple[M, bytes]:
    """The JSON body as `model`, and its bytes.

    pydantic's own parser reads it: nesting is bounded, lone surrogates and NaN are refused.

    Args:
        invalid: the status for a body that is JSON and not what `model` wants.

    Raises:
        Problem: 415 for another content type or a compressed body, 413 for a body over the limit, 400 for what is not
            JSON, `invalid` for anything else, naming the field.
    """
    if request.mimetype != JSON:
        raise Problem("The request body must be application/json", status=415)
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem("The request body must not be compressed", status=415)
    data = request.get_data(cache=False)
    limit = request.max_content_length
    if request.content_length is None and limit is not None and len(data) >= limit:
        raise Problem("The request body is too large", status=413)  # werkzeug only cuts off what comes in chunks
    try:
        return model.model_validate_json(data), data
    except ValidationError as error:
        raise bad_input(error, status=invalid) from None


def _validated(model: type[M], fields: Mapping[str, str], invalid: int) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise bad_input(error, status=invalid) from None


def bad_input(error: ValidationError, *, status: int = 400) -> Problem:
    """The problem for a pydantic error: one entry per field, and the first of them as the detail.

    Its status is `status`, and 400 where there was no JSON to speak of.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = []
    for each in found[:20]:
        field = ".".join(map(str, each["loc"])) if each["loc"] else "body"  # a field may have no name at all
        errors.append({"field": field, "message": _message(each["type"], each["msg"])})
    if found[0]["type"] == "json_invalid":
        status = 400
    return Problem(f"{errors[0]['field'] or '(no name)'}: {errors[0]['message']}", status=status, errors=errors)


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind in ("too_long", "too_short"):  # of a Text, which pydantic takes for a list
        message = message.replace("Value should", "should").replace(" items after validation", " characters")
    return message.removeprefix("Value error, ").removeprefix("Input ").encode("ascii", "replace").decode()


def _bad_field(field: str, message: str) -> BadRequest:
    return BadRequest(f"{field}: {message}", errors=[{"field": field, "message": message}])


def parse_id(text: str, *, what: str) -> int:
    """A positive 63-bit integer from a path.

    Raises:
        NotFound: anything else: there can be no such thing. `what` names it.
    """
    if text.isascii() and text.isdigit() and len(text) <= 19 and 0 < (number := int(text)) < 2**63:
        return number
    raise NotFound(f"There is no such {what}")


# --- answering ----------------------------------------------------------------------------------------------------


class Ready(NamedTuple):
    """An answer made once and sent many times: body, strong validator, and the headers that go with both."""

    body: bytes
    etag: str
    headers: tuple[tuple[str, str], ...]


def ready(body: bytes, *headers: tuple[str, str], content_type: str = JSON) -> Ready:
    """A Ready answer with an `ETag` computed from `body` and from `headers`."""
    digest = hashlib.blake2b(body, digest_size=12)
    for pair in headers:
        digest.update(repr(pair).encode())
    etag = f'"{digest.hexdigest()}"'
    described = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return Ready(body, etag, (("ETag", etag), *headers, *described))


class FinishedResponse(Response):
    """A response whose headers are complete: werkzeug need not copy them and work out the length again."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:  # noqa: ARG002 - werkzeug's signature
        """The headers as they are."""
        return self.headers


def send(answer: Ready, status: int = 200) -> Response:
    """`answer` as a response, or 304 without a body when the client's `If-None-Match` names it."""
    condition = request.environ.get("HTTP_IF_NONE_MATCH")
    if condition is not None and status == 200 and matches(condition, answer.etag):
        return Response(None, 304, headers=answer.headers)  # werkzeug drops what describes the body it does not have
    return FinishedResponse(answer.body, status, headers=answer.headers)


def matches(condition: str, etag: str) -> bool:
    """Whether an `If-None-Match` value names `etag`, by weak comparison (RFC 9110, 13.1.2)."""
    if condition == etag:
        return True
    return condition.strip() == "*" or etag in (part.strip().removeprefix("W/") for part in condition.split(","))
