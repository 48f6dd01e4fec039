"""What the catalogue answers at its addresses: parse, ask the source, send."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, request

from catalogue.answers import PATH
from catalogue.home import HTML, HomePage
from catalogue.queries import EVERYTHING, query_of
from catalogue.schemas import ProductBody, ProductParameters
from catalogue.sources import JsonSource, Source
from chassis.errors import NotFound
from chassis.http import Ready, parse_id, parse_query, send
from chassis.openapi import Answer, operation
from chassis.shortcut import AtHand
from chassis.shortcut import fixed as at_hand

_CACHING = {
    "ETag": "strong validator of this answer",
    "Cache-Control": "how long it may be kept",
    "X-Data-Source": "`json`, `db`, or `json-fallback` while the database is lost",
}
_CONDITION = {"If-None-Match": "an ETag received before; 304 if it still is the answer's"}
_NOT_MODIFIED = Answer(text="What the client has is still right", headers=_CACHING)
_FILE_CACHING = {name: _CACHING[name] for name in ("ETag", "Cache-Control")}


def fixed(*, source: JsonSource, home_page: HomePage, files: Mapping[str, Ready]) -> dict[str, AtHand]:
    """What the endpoints below answer as long as the process lives, by path, if products come from memory."""
    return {
        "/": at_hand("home", home_page.answer()),
        PATH: at_hand("get_products", source.products(EVERYTHING)),
        **{f"{PATH}/{number}": at_hand("get_product", answer) for number, answer in source.by_id.items()},
        **{f"/static/{name}": at_hand("static", answer) for name, answer in files.items()},
    }


def init_app(app: Flask, *, source: Source, home_page: HomePage, files: Mapping[str, Ready]) -> None:
    """Add the endpoints of the catalogue to `app`."""

    @app.get("/")
    @operation(
        "Home page",
        tag="pages",
        answers={
            200: Answer(text="The page", media=HTML, headers=_CACHING),
            304: _NOT_MODIFIED,
        },
        problems=(504,),
        headers=_CONDITION,
    )
    def home() -> Response:
        """A page for people: the products with their pictures, and facts about the server."""
        return send(home_page.answer())

    @app.get(PATH)
    @operation(
        "Products",
        tag="products",
        query=ProductParameters,
        answers={
            200: Answer(
                text="The products asked for",
                model=ProductBody,
                many=True,
                headers={
                    **_CACHING,
                    "X-Total-Count": "how many products match, on all pages",
                    "Link": "first, prev, next and last page (RFC 8288), if the answer is one of several pages",
                },
            ),
            304: _NOT_MODIFIED,
        },
        problems=(400, 504),
        headers=_CONDITION,
    )
    def get_products() -> Response:
        """All products that match every given parameter.

        Without `page` and `per_page` they come in one answer, as long as they are not too many; then the first page
        comes, and `Link` leads to the others. A page beyond the last is empty.
        """
        query = query_of(parse_query(ProductParameters)) if request.query_string else EVERYTHING
        return send(source.products(query))

    @app.get(f"{PATH}/<product_id>")
    @operation(
        "One product",
        tag="products",
        path={"product_id": {"type": "integer", "minimum": 1}},
        answers={200: Answer(text="The product", model=ProductBody, headers=_CACHING), 304: _NOT_MODIFIED},
        problems=(404, 504),
        headers=_CONDITION,
    )
    def get_product(product_id: str) -> Response:
        """The product of that id. Anything that is no id is the id of no product."""
        answer = source.product(parse_id(product_id, what="product"))
        if answer is None:
            # Nobody may keep this answer: while the database is lost, the product may only be missing from the file.
            headers = {"Cache-Control": "no-store", "X-Data-Source": source.name}
            raise NotFound("There is no such product", headers=headers)
        return send(answer)

    @app.get("/static/<path:filename>", endpoint="static")
    @operation(
        "A file of the pages",
        tag="pages",
        path={"filename": {"type": "string", "examples": ["images/origami/001-crane.svg"]}},
        answers={
            200: Answer(text="The file", media="*/*", headers=_FILE_CACHING),
            304: Answer(text="What the client has is still right", headers=_FILE_CACHING),
        },
        problems=(404,),
        headers=_CONDITION,
    )
    def static(filename: str) -> Response:
        """A picture of a product, the style sheet, the icon. Products name theirs in `image_url`."""
        answer = files.get(filename)
        if answer is None:
            raise NotFound("There is no such file")
        return send(answer)
