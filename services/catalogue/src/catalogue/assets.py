"""Pictures, style sheet and icon: read once, sent ready-made.

Flask's own way makes ETags of modification times, which differ from one replica to the next; these are made of the
content, so that a client may revalidate with any of them.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from chassis.http import Ready, ready

MAX_AGE_S = 3600
FOLDER = Path(str(resources.files("catalogue") / "static"))


def load(folder: Path = FOLDER) -> Mapping[str, Ready]:
    """The answers with the files of `folder`, by their path below it."""
    return {
        file.relative_to(folder).as_posix(): _answer(file)
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def _answer(file: Path) -> Ready:
    media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return ready(
        file.read_bytes(),
        ("Cache-Control", f"public, max-age={MAX_AGE_S}"),
        ("X-Content-Type-Options", "nosniff"),
        # A picture opened by itself is a document, and SVG may hold scripts.
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
        content_type=f"{media}; charset=utf-8" if media.startswith("text/") else media,
    )
