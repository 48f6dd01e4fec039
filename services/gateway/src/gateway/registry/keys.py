"""API keys: what one may do, and all of them as every worker holds them in memory.

Only a digest of a key is ever stored. A plain SHA-256 is enough: a key is 256 random bits, which no dictionary finds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chassis.settings import SettingsError

ADMIN = "admin"
PREFIX = "sf_"
SCOPES = ("routes:read", "routes:write", "users:read", "users:write", "links:write", ADMIN)
MAX_TEXT = 256
"""A text longer than this is no key, and is not worth hashing."""
_FILE_TEXT = re.compile(r"[!-~]{32,256}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the holder of a key may do.

    Attributes:
        digest: SHA-256 of the key's text.
        scopes: some of `SCOPES`; `admin` implies the others.
        limit: its own rate limit, `600/min`, instead of the one that the settings give to keys.
        revision: the registry's revision that made it what it is; 0 for what comes from the settings.
    """

    id: int
    name: str
    digest: bytes
    scopes: frozenset[str]
    limit: str | None
    revoked: bool
    revision: int = 0

    def allows(self, scope: str) -> bool:
        """Whether it has `scope`, or all of them."""
        return scope in self.scopes or ADMIN in self.scopes


def generate() -> str:
    """The text of a new key. The prefix lets people, and scanners for leaked secrets, see what it is."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(text: str) -> bytes:
    """What is stored of a key: SHA-256 of its text. Any text will do, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_admin_key(path: Path | None) -> ApiKey | None:
    """The key in the file of `GATEWAY_ADMIN_KEY_FILE`, with scope `admin`; None without a file.

    Raises:
        SettingsError: it cannot be read, or what is in it is too short to be a key. The line never repeats it.
    """
    if path is None:
        return None
    want = "want a file with a key of 32 to 256 printable characters"
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"GATEWAY_ADMIN_KEY_FILE: got {str(path)!r} ({type(error).__name__}), {want}") from None
    if not _FILE_TEXT.fullmatch(text):
        raise SettingsError(f"GATEWAY_ADMIN_KEY_FILE: got {str(path)!r} with {len(text)} characters, {want}")
    return ApiKey(id=0, name=ADMIN, digest=digest(text), scopes=frozenset({ADMIN}), limit=None, revoked=False)


class Keyring:
    """Every key of the registry, revoked ones included, beside the fixed ones of the settings.

    Args:
        fixed: keys that no replacement removes and no change revokes.
    """

    def __init__(self, fixed: Iterable[ApiKey] = ()) -> None:
        self._fixed = {key.digest: key for key in fixed}
        self._stored: dict[int, ApiKey] = {}
        self._by_digest: dict[bytes, ApiKey] = dict(self._fixed)

    def __iter__(self) -> Iterator[ApiKey]:
        """The stored keys by their ids; not the fixed ones, which are nobody else's to keep."""
        return iter(sorted(self._stored.values(), key=lambda key: key.id))

    def __len__(self) -> int:
        return len(self._stored)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """These are all the stored keys from now on."""
        self._stored = {key.id: key for key in keys}
        self._index()

    def apply(self, keys: Iterable[ApiKey]) -> None:
        """These have changed or are new. A change that is older than what is held already is left out."""
        for key in keys:
            held = self._stored.get(key.id)
            if held is None or key.revision >= held.revision:
                self._stored[key.id] = key
        self._index()

    def _index(self) -> None:
        by_digest = {key.digest: key for key in self._stored.values() if not key.revoked}
        by_digest.update(self._fixed)
        self._by_digest = by_digest

    def find(self, text: str) -> ApiKey | None:
        """The key with this text, None if there is none or it has been revoked.

        What time the look-up takes tells of the digest at most, and from a digest no text can be made.
        """
        if len(text) > MAX_TEXT:
            return None
        wanted = digest(text)
        key = self._by_digest.get(wanted)
        return key if key is not None and hmac.compare_digest(key.digest, wanted) else None
