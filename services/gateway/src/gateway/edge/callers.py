"""Whom a service of the storefront's own is told that a request is from, and the one form that a key may come in.

A service that keeps things by their owner (links) gets `X-Caller`, the name of the key, and `X-Caller-Scopes`. What a
client sends of those names goes nowhere (`headers`), so that what a service reads is always from here. Other services
are told nothing.

A browser without JavaScript can put a key nowhere but into a form. So it may be the field `key` of the form on the
page of short links. It is taken out here, as a key in a header is: no service ever sees one. If it is not good
enough the form is passed on all the same, marked `X-Caller-Refused`, because only the page can show it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from chassis.errors import BadRequest
from gateway.edge.body import Body, Message
from gateway.registry.house import TENANT as HOUSE

if TYPE_CHECKING:
    from gateway.edge.request import Request
    from gateway.edge.routes import Place
    from gateway.registry.keys import ApiKey

SERVICE = "links"
FORMS = frozenset({"/", "/links"})
"""Where that service takes its form."""

_FORM = b"application/x-www-form-urlencoded"
_FIELD = b"key"
_MOST_FIELDS = 50
"""The form has four. One of 64 KB could have 32,768, and all clients would wait while their names are read."""


def is_told(place: Place) -> bool:
    """Whether the service is told whom a request is from."""
    return place.tenant == HOUSE and place.service == SERVICE


def is_form(place: Place, request: Request) -> bool:
    """Whether the request is the form, in which the key may be."""
    if not is_told(place) or place.path not in FORMS or request.method != "POST":
        return False
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == _FORM


def lines(key: ApiKey | None) -> bytes:
    """What the service is told of a caller, each line with its CRLF. Names and scopes are plain words."""
    if key is None:
        return b""
    return f"X-Caller: {key.name}\r\nX-Caller-Scopes: {' '.join(sorted(key.scopes))}\r\n".encode()


def refused(status: int) -> bytes:
    """The same of one who may not do what is asked."""
    return b"X-Caller-Refused: %d\r\n" % status


async def take_key(request: Request) -> str | None:
    """Take the key out of a form, whose body is another one after this. None if there is none in it.

    Raises:
        Problem: there are two, or too many fields, or the body is too large or does not come.
    """
    if request.body is None:
        return None
    fields = (await request.body.whole(request.context.remaining_s())).split(b"&", _MOST_FIELDS)
    if len(fields) > _MOST_FIELDS:
        raise BadRequest("The form has too many fields")
    keys = [field for field in fields if _name(field) == _FIELD]
    if len(keys) > 1:
        raise BadRequest("The form has two keys")
    request.body = _body(b"&".join(field for field in fields if _name(field) != _FIELD))
    text = unquote_plus(keys[0].partition(b"=")[2].decode("latin-1"), errors="replace").strip() if keys else ""
    return text or None


def _name(field: bytes) -> bytes:
    return unquote_plus(field.partition(b"=")[0].decode("latin-1"), errors="replace").strip().encode()


def _body(data: bytes) -> Body:
    """A body that is here already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    return Body(receive, length=len(data), limit=len(data), expected=False)
