"""What a load test needs before it can start: a gateway that answers, and keys."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

KEY_FILE = Path(".run/admin-key")
TIMEOUT_S = 5.0


class LoadError(RuntimeError):
    """The test cannot start; the message is one line that names the remedy."""


def read_keys(path: Path) -> list[str]:
    """API keys from a file, one a line. Raises LoadError."""
    try:
        keys = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no text"
        raise LoadError(f"{path}: {why}: `make run` writes it; --key-file names another") from None
    if not keys:
        raise LoadError(f"{path} is empty: it should hold API keys, one a line")
    return keys


def check_gateway(host: str, key: str) -> None:
    """Ask for what needs a key. Raises LoadError if nothing answers, something else does, or the key is refused."""
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LoadError(f"--host {host!r} is no address: http://127.0.0.1:8000 is one")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path}/api/v1/routes?per_page=1", headers={"X-API-Key": key})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        raise LoadError(
            f"no gateway answers on {host}: start `make run` in another shell, and leave it running; "
            "GATEWAY_PORT or --host for another address"
        ) from None
    finally:
        connection.close()
    if status in (401, 403):
        raise LoadError(f"{host} refuses the key ({status}): --key-file names a file with keys of this gateway")
    if status != 200:
        raise LoadError(f"{host} answers {status} where its routes should be: is it the gateway, and is it well?")
