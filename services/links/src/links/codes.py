"""Codes of short links: made-up ones that nobody can guess, and what people may choose themselves."""

from __future__ import annotations

import secrets
import string

from links_lookup.lookup import CODE

LENGTH = 7
_ALPHABET = string.ascii_letters + string.digits

RESERVED = frozenset(
    {
        "about", "account", "admin", "api", "assets", "auth", "callback", "config", "contact", "dashboard", "docs",
        "favicon", "health", "help", "home", "index", "links", "login", "logout", "me", "metrics", "new",
        "null", "openapi", "password", "privacy", "qr", "register", "robots", "root", "security", "settings",
        "sign-in", "sign-up", "signin", "signup", "sitemap", "static", "status", "storefront", "support", "system",
        "terms", "undefined", "user", "users", "well-known", "www",
    }
)  # fmt: skip
"""Words that look official in a link, or that programs take for addresses, in whatever case."""


def generate() -> str:
    """A new code: 41 bits from the system's source of randomness."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH))


def check(code: str) -> str:
    """A code that somebody has chosen.

    Raises:
        ValueError: it cannot be one; the text says why.
    """
    if not CODE.fullmatch(code):
        raise ValueError("must be 3 to 32 letters (a-z, A-Z), digits, underscores or hyphens")
    if code.lower().strip("-_") in RESERVED:
        raise ValueError("is reserved, choose another one")
    return code
