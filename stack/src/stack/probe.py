"""One question over HTTP: does it answer 200?"""

import asyncio
import contextlib
from urllib.parse import urlsplit


async def answers(url: str, *, key: str | None = None, timeout_s: float = 2.0) -> bool:
    """True if GET `url` (http), with the API key `key`, is answered by 200; False for anything else, no answer at all
    included.
    """
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    keyed = f"X-API-Key: {key}\r\n" if key else ""
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{keyed}Connection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            with contextlib.closing(writer):
                writer.write(request.encode())
                status = await reader.readline()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
