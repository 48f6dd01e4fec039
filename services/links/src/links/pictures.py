"""QR pictures: from the store that keeps them, else drawn by segno and given to the store."""

from __future__ import annotations

import hashlib
import io
import logging
from typing import TYPE_CHECKING, Literal

import segno

from links.stores import StoreUnavailable

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from links.stores import Store

log = logging.getLogger(__name__)

Kind = Literal["svg", "png"]
TYPES: dict[Kind, str] = {"svg": "image/svg+xml", "png": "image/png"}
_QUIET_MODULES = 4
"""The white margin that the standard asks for; scanners need it on dark pages."""

_PNG_SCALE = 10


class Pictures:
    """The QR codes of short URLs.

    Args:
        metrics: gets `links_qr_total{result}`: `kept` from the store, `drawn`, or `bypass`: drawn because the store
            is away.
    """

    def __init__(self, store: Store, *, metrics: Metrics) -> None:
        self._store = store
        results = metrics.counter("links_qr_total", "QR pictures by where they came from", ("result",))
        self._results = {result: results.labels(result) for result in ("kept", "drawn", "bypass")}

    def get(self, short_url: str, kind: Kind) -> bytes:
        """The picture of `short_url`."""
        name = name_of(short_url, kind)
        try:
            kept = self._store.get(name)
        except StoreUnavailable:
            self._results["bypass"].inc()
            return draw(short_url, kind)
        if kept is not None:
            self._results["kept"].inc()
            return kept
        self._results["drawn"].inc()
        picture = draw(short_url, kind)
        try:
            self._store.put(name, picture, TYPES[kind])
        except StoreUnavailable as error:
            log.warning("A QR picture was not kept: %s", error)
        return picture


def name_of(short_url: str, kind: Kind) -> str:
    """Under which name a picture is kept: made of all that it shows, so that a new PUBLIC_URL gets new pictures."""
    return f"qr-{hashlib.sha256(short_url.encode()).hexdigest()[:32]}.{kind}"


def draw(text: str, kind: Kind) -> bytes:
    """`text` as a QR code, black on white, of which 15 % may be unreadable."""
    code = segno.make(text, error="m", micro=False)
    buffer = io.BytesIO()
    if kind == "svg":
        code.save(buffer, kind="svg", border=_QUIET_MODULES, light="#fff", omitsize=True, title=text, nl=False)
    else:
        code.save(buffer, kind="png", border=_QUIET_MODULES, scale=_PNG_SCALE)
    return buffer.getvalue()
