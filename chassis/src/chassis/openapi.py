"""OpenAPI 3.1 from the code: `@operation` beside each endpoint says what the endpoint takes and answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import orjson
from flask import Flask, Response
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from chassis import docs_page, http
from chassis.errors import CONTENT_TYPE, title_of

V = TypeVar("V", bound=Callable[..., Any])
_ATTRIBUTE = "__operation__"
_REF = "#/components/schemas/{model}"
URI_TOO_LONG = 414
"""Answered by the server (`chassis.worker`) wherever a path or a query may have any length, so documented there."""

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class FieldError(BaseModel):
    """One bad field of a request."""

    field: str
    message: str


class ProblemBody(BaseModel):
    """Every error: RFC 9457, with `error` for old clients."""

    type: str
    title: str
    status: int
    detail: str
    error: str = Field(description="the same text as detail")
    request_id: str | None
    errors: list[FieldError] | None = Field(None, description="for bad input: the fields and what is wrong with them")


class PoolBody(BaseModel):
    """The connection pool of the worker that answers, in connections and waiting callers."""

    size: int
    in_use: int
    available: int
    waiting: int


class CheckBody(BaseModel):
    """One health check."""

    status: Literal["healthy", "degraded", "unhealthy"]
    message: str
    pool: PoolBody | None = None


class LiveBody(BaseModel):
    """The process is there."""

    status: Literal["alive"]


class ReadyBody(BaseModel):
    """Whether to send traffic here, and the check behind it."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckBody]


class HealthBody(BaseModel):
    """The state of the service in short."""

    status: Literal["healthy", "degraded", "unhealthy"]
    service: str
    version: str
    features: list[str]
    database: Literal["connected", "disconnected", "not_configured"]
    gcs: Literal["connected", "disconnected", "not_configured"] | None = Field(
        None, description="of a service that keeps files in Google Cloud Storage"
    )
    error: str | None = Field(None, description="the class name of what is wrong, if anything is")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one status carries: a pydantic model (`many`: an array of it) or another media type, and headers."""

    text: str
    model: type[BaseModel] | None = None
    many: bool = False
    media: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One documented operation; see `operation`."""

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    path: Mapping[str, Mapping[str, Any]]
    headers: Mapping[str, str]
    description: str
    scope: str | None = None


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is documented with the operations of an application and answered by something in front of it.

    Attributes:
        operations: path → (operationId, GET operation).
        security: name → security scheme; any one of them is enough for an operation that has a scope.
        server: where the paths begin, seen from the document.
    """

    operations: Mapping[str, tuple[str, Operation]] = field(default_factory=dict)
    security: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    server: str = "."


def operation(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Answer],
    problems: Iterable[int] = (),
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    path: Mapping[str, Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    scope: str | None = None,
) -> Callable[[V], V]:
    """Document a view function; its docstring becomes the description.

    Args:
        answers: status → Answer for what is not an error.
        problems: statuses answered as application/problem+json.
        query, body: the models that the endpoint gives to `parse_query` and `parse_body`.
        path: path parameter → JSON schema.
        headers: request header → meaning.
        scope: what a caller's key must have been given, where callers need one (`Beside.security`).
    """

    def attach(view: V) -> V:
        described = Operation(
            summary=summary, tag=tag, answers=answers, problems=tuple(problems), query=query, body=body,
            path=path or {}, headers=headers or {}, description=inspect.getdoc(view) or "", scope=scope,
        )  # fmt: skip
        setattr(view, _ATTRIBUTE, described)
        return view

    return attach


def build(app: Flask, *, title: str, version: str, description: str, beside: Beside | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of every documented view of `app`, and of what is `beside` it."""
    beside = beside or Beside()
    found = [(rule, operation_of(app, rule.endpoint)) for rule in app.url_map.iter_rules()]
    documented = [(rule, described) for rule, described in found if described is not None]
    others = beside.operations
    schemas, refs = _schemas([described for _, described in (*documented, *others.values())])
    paths: dict[str, dict[str, Any]] = {}
    for rule, described in sorted(documented, key=lambda pair: pair[0].rule):
        path = path_of(rule.rule)
        for method in _METHODS:
            if rule.methods and method in rule.methods:
                name = rule.endpoint.rpartition(".")[2]
                paths.setdefault(path, {})[method.lower()] = _operation(name, described, refs, beside.security)
    for path, (name, described) in others.items():
        paths[path] = {"get": _operation(name, described, refs, beside.security)}
    components: dict[str, Any] = {"schemas": schemas}
    if beside.security:
        components["securitySchemes"] = beside.security
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": beside.server}],
        "paths": paths,
        "components": components,
    }


def operation_of(app: Flask, endpoint: str) -> Operation | None:
    """What `@operation` said of an endpoint, None if it is not documented."""
    return getattr(app.view_functions.get(endpoint), _ATTRIBUTE, None) or OPERATORS.get(endpoint)


def path_of(rule: str) -> str:
    """A Flask rule as an OpenAPI path: `/a/<int:b>` → `/a/{b}`."""
    return re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule)


def init_app(app: Flask, *, title: str, version: str, description: str, beside: Beside | None = None) -> None:
    """Add `/openapi.json`, made at the first call and sent ready-made after that, and `/docs`. Call it last."""
    made: list[tuple[dict[str, Any], http.Ready]] = []

    def document() -> tuple[dict[str, Any], http.Ready]:
        if not made:
            built = build(app, title=title, version=version, description=description, beside=beside)
            made.append((built, http.ready(orjson.dumps(built), ("Cache-Control", "public, max-age=60"))))
        return made[0]

    def openapi() -> Response:
        return http.send(document()[1])

    app.add_url_rule("/openapi.json", "openapi", openapi)
    docs_page.init_app(app, lambda: document()[0])


def for_operators(summary: str, description: str, answers: Mapping[int, Answer]) -> Operation:
    """An operation without parameters and errors."""
    return Operation(
        summary=summary, description=description, tag="operators", answers=answers,
        problems=(), query=None, body=None, path={}, headers={},
    )  # fmt: skip


OPERATORS = {
    "health": for_operators(
        "The state of the service",
        "503 when something that the service cannot do without is lost.",
        {200: Answer(text="healthy or degraded", model=HealthBody), 503: Answer(text="unhealthy", model=HealthBody)},
    ),
    "health_live": for_operators(
        "Liveness", "Touches nothing.", {200: Answer(text="the process is alive", model=LiveBody)}
    ),
    "health_ready": for_operators(
        "Readiness",
        "503 while draining after SIGTERM, or when a required check is unhealthy.",
        {200: Answer(text="send traffic", model=ReadyBody), 503: Answer(text="send none", model=ReadyBody)},
    ),
    "metrics": for_operators(
        "Metrics", "For Prometheus, totals over all workers.", {200: Answer(text="metrics", media="text/plain")}
    ),
}
"""What the chassis itself adds to every service."""


def _schemas(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[tuple[type, str], Any]]:
    wanted: dict[tuple[type[BaseModel], Any], None] = {(ProblemBody, "serialization"): None}
    for described in operations:
        if described.query is not None:
            wanted[described.query, "validation"] = None
        if described.body is not None:
            wanted[described.body, "validation"] = None
        for answer in described.answers.values():
            if answer.model is not None:
                wanted[answer.model, "serialization"] = None
    refs, definitions = models_json_schema(list(wanted), ref_template=_REF)
    return definitions.get("$defs", {}), dict(refs)  # type: ignore[arg-type]


_PROBLEM_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "how to say who one is"},
    429: {
        "Retry-After": "seconds after which to try again",
        "RateLimit-Limit": "requests allowed in the window",
        "RateLimit-Policy": "the same, and the window in seconds",
        "RateLimit-Remaining": "of those, how many are left",
        "RateLimit-Reset": "seconds until the window ends",
    },
    503: {"Retry-After": "seconds after which to try again"},
}


def _operation(
    name: str,
    described: Operation,
    refs: Mapping[tuple[type, str], Any],
    security: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": name,
        "summary": described.summary,
        "description": described.description,
        "tags": [described.tag],
        "parameters": _parameters(described),
        "responses": {},
    }
    if described.scope is not None and security:
        result["security"] = [{scheme: [described.scope]} for scheme in security]
    if described.body is not None:
        schema = refs[described.body, "validation"]
        result["requestBody"] = {"required": True, "content": {http.JSON: {"schema": schema}}}
    for status, answer in described.answers.items():
        result["responses"][str(status)] = _response(answer, refs)
    for status in (*described.problems, *((URI_TOO_LONG,) if described.query or described.path else ())):
        headers = _PROBLEM_HEADERS.get(status, {})
        problem = Answer(text=title_of(status), model=ProblemBody, media=CONTENT_TYPE, headers=headers)
        result["responses"][str(status)] = _response(problem, refs)
    return result


def _parameters(described: Operation) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": dict(schema)}
        for name, schema in described.path.items()
    ]
    if described.query is not None:
        schema = described.query.model_json_schema(ref_template=_REF)
        required = schema.get("required", ())
        for name, value in schema.get("properties", {}).items():
            text = value.get("description", "")
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "description": text,
                    "schema": _not_null(value),
                }
            )
    for name, text in described.headers.items():
        parameters.append(
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        )
    return parameters


def _not_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter whose model says `… | None`: it may be absent, but a query cannot say null."""
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    return {**branches[0], **rest} if len(branches) == 1 else {**rest, **({"anyOf": branches} if branches else {})}


def _response(answer: Answer, refs: Mapping[tuple[type, str], Any]) -> dict[str, Any]:
    headers = {**answer.headers, "X-Request-ID": "the request's id, as it stands in the logs"}
    response: dict[str, Any] = {
        "description": answer.text,
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()},
    }
    if answer.model is not None:
        schema = refs[answer.model, "serialization"]
        response["content"] = {
            answer.media or http.JSON: {"schema": {"type": "array", "items": schema} if answer.many else schema}
        }
    elif answer.media is not None:
        response["content"] = {answer.media: {"schema": {"type": "string"}}}
    return response
