"""Who may do what: where keys are read, what each path and method needs, and how a refusal looks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chassis.errors import BadRequest, Problem
from chassis.metrics import Metrics
from gateway.edge import access as access_module
from gateway.edge.access import ANY, Access, Forbidden, Unauthorized, required, required_of_registry
from gateway.registry.keys import ADMIN, SCOPES, ApiKey, Keyring, digest

READER, REVOKED, FIXED = "sf_reader", "sf_revoked", "an-admin-key-of-more-than-32-characters"


class Setting:
    """An Access with a few keys."""

    def __init__(self) -> None:
        self.metrics = Metrics(service="gateway", version="1", commit="c")
        self.ring = Keyring([ApiKey(0, "admin", digest(FIXED), frozenset({ADMIN}), None, revoked=False)])
        self.ring.replace(
            [
                ApiKey(1, "reader", digest(READER), frozenset({"users:read"}), None, revoked=False),
                ApiKey(2, "old", digest(REVOKED), frozenset({ADMIN}), None, revoked=True),
            ]
        )
        self.access = Access(self.ring, metrics=self.metrics)

    def who(self, **headers: str) -> tuple[str | None, bool]:
        """(name of the key that is found, whether Authorization is kept from the service)."""
        request = ask(**headers)
        text = self.access.text_of(request)
        key = None if text is None else self.access.find(request, text)
        return (key.name if key else None), request.strip_authorization

    def failures(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("gateway_auth_failures_total", {"reason": reason}) or 0


def ask(**headers: str) -> Any:
    """A request with these fields, as far as this module looks at one."""
    named = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return SimpleNamespace(headers=named, lines=list(named.items()), client="192.0.2.1", strip_authorization=False)


@pytest.fixture
def setting() -> Setting:
    """One for this test."""
    return Setting()


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_a_key_in_authorization(setting: Setting, scheme: str) -> None:
    """The scheme's case and the white space do not count. The field goes to no service."""
    assert setting.who(authorization=f"{scheme}{READER}") == ("reader", True)


def test_a_key_in_a_field_of_its_own(setting: Setting) -> None:
    """Beside it, `Authorization` of another scheme is somebody else's affair and is passed on."""
    assert setting.who(x_api_key=READER) == ("reader", False)
    assert setting.who(x_api_key=FIXED, authorization="Basic dTpw") == ("admin", False)


def test_the_same_key_twice(setting: Setting) -> None:
    """It is one key."""
    assert setting.who(x_api_key=READER, authorization=f"Bearer {READER}")[0] == "reader"


def test_two_keys_are_refused(setting: Setting) -> None:
    """Two that differ could be read differently by those behind; valid or not, it is 400."""
    for other in (FIXED, "unknown", ""):
        with pytest.raises(BadRequest, match="different keys"):
            setting.who(x_api_key=READER, authorization=f"Bearer {other}")
    assert setting.failures("ambiguous") == 3


def test_authorization_is_there_once(setting: Setting) -> None:
    """A second one could hold a key that would reach a service. A comma alone is no second one."""
    twice = ask(authorization=f"Basic dTpw,Bearer {READER}")
    assert setting.access.text_of(twice) is None
    twice.lines = [(b"authorization", b"Basic dTpw"), (b"authorization", f"Bearer {READER}".encode())]
    with pytest.raises(BadRequest, match="twice"):
        setting.access.text_of(twice)


@pytest.mark.parametrize(
    "text", ["", "unknown", f"{READER},{READER}", REVOKED, READER.upper(), "x" * 5000, "\x00", "\xff\xfe"]
)
def test_what_is_no_valid_key(setting: Setting, text: str) -> None:
    """It is nobody's, in either field: also one given twice in two fields, and one that was revoked."""
    assert setting.who(authorization=f"Bearer {text}")[0] is None
    assert setting.who(x_api_key=text)[0] is None


def test_which_authorization_reaches_a_service(setting: Setting) -> None:
    """No key of ours, be it fixed or revoked or mistyped; a token that is none of ours does."""
    assert [setting.who(authorization=f"Bearer {text}")[1] for text in (FIXED, REVOKED, "sf_mistyped", "a.b.c")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_a_revocation_counts_from_the_next_request_on(setting: Setting) -> None:
    """Nothing remembers what a key was."""
    assert setting.who(x_api_key=READER)[0] == "reader"
    setting.ring.apply([ApiKey(1, "reader", digest(READER), frozenset(), None, revoked=True, revision=2)])
    assert setting.who(x_api_key=READER)[0] is None


@pytest.mark.parametrize(
    ("method", "service", "path", "needed"),
    [
        ("GET", "catalogue", "/", None),
        ("GET", "catalogue", "/api/products", None),
        ("GET", "catalogue", "/api/products/7", None),
        ("POST", "catalogue", "/api/products", None),
        ("GET", "catalogue", "/static/a.svg", None),
        ("GET", "catalogue", "/openapi.json", None),
        ("GET", "catalogue", "/docs/assets/a.js", None),
        ("GET", "catalogue", "/api/productsX", ADMIN),
        ("GET", "catalogue", "/metrics", ADMIN),
        ("GET", "catalogue", "/health", ADMIN),
        ("GET", "catalogue", "//", ADMIN),
        ("GET", "user", "/", ADMIN),
        ("GET", "user", "/metrics", ADMIN),
        ("GET", "user", "/docs", None),
        ("POST", "user", "/api/v1/users", None),
        ("OPTIONS", "user", "/api/v1/users/7", None),
        ("GET", "user", "/api/v1/users", "users:read"),
        ("HEAD", "user", "/api/v1/users/7", "users:read"),
        ("POST", "user", "/api/v1/users/", "users:write"),
        ("POST", "user", "/api/v1/users/7", "users:write"),
        ("PATCH", "user", "/api/v1/users/7", "users:write"),
        ("PUT", "user", "/api/v1/users/7", "users:write"),
        ("DELETE", "user", "/api/v1/users/7", "users:write"),
        ("BREW", "user", "/api/v1/users", "users:write"),
        ("get", "user", "/api/v1/users", "users:write"),
        ("GET", "user", "/api/v1/users2", ADMIN),
        ("GET", "user", "/api/v1//users", ADMIN),
        ("GET", "user", "/API/V1/USERS", ADMIN),
        ("OPTIONS", "user", "/metrics", ADMIN),
        ("GET", "links", "/", None),
        ("GET", "links", "/links", None),
        ("HEAD", "links", "/links/", None),
        ("POST", "links", "/links", "links:write"),
        ("POST", "links", "/", "links:write"),
        ("GET", "links", "/linksX", ADMIN),
        ("GET", "links", "/s/abc", None),
        ("GET", "links", "/qr/abc.svg", None),
        ("GET", "links", "/static/form.css", ADMIN),
        ("GET", "links", "/sabc", ADMIN),
        ("POST", "links", "/api/v1/links", "links:write"),
        ("GET", "links", "/api/v1/links/abc", "links:write"),
        ("OPTIONS", "links", "/api/v1/links", None),
        ("GET", "links", "/health/ready", ADMIN),
        ("GET", "other", "/", ADMIN),
    ],
)  # fmt: skip
def test_what_the_house_needs(method: str, service: str, path: str, needed: str | None) -> None:
    """Products, sign-up, redirects and documents are open, users and links have scopes, and all else is admin's:
    by whichever of the edge's paths it is reached.
    """
    assert required("storefront", service, path, method) == needed


def test_what_other_tenants_need() -> None:
    """Any key, on any path, by any method."""
    for service, path in (("user", "/api/v1/users"), ("catalogue", "/"), ("x", "/docs")):
        for method in ("GET", "POST", "OPTIONS"):
            assert required("acme", service, path, method) == ANY


@pytest.mark.parametrize(
    ("method", "needed"),
    [("GET", "routes:read"), ("HEAD", "routes:read"), ("POST", "routes:write"), ("PATCH", "routes:write"),
     ("DELETE", "routes:write"), ("OPTIONS", None), ("BREW", "routes:write")],
)  # fmt: skip
def test_what_the_registry_needs(method: str, needed: str | None) -> None:
    """To look is one scope, to change another."""
    assert required_of_registry(method) == needed


@pytest.mark.parametrize("needed", SCOPES)
def test_no_scope_is_worth_another(setting: Setting, needed: str) -> None:
    """A key lets through what its own scopes say and nothing else; `admin` all. The refusal names what is needed."""
    reader, admin = setting.ring.find(READER), setting.ring.find(FIXED)
    setting.access.authorize(admin, needed, presented=True)
    if needed == "users:read":
        setting.access.authorize(reader, needed, presented=True)
        return
    with pytest.raises(Forbidden) as caught:
        setting.access.authorize(reader, needed, presented=True)
    assert caught.value.status == 403
    assert needed in caught.value.detail
    assert setting.failures("scope") == 1


def test_any_key_will_do_where_any_is_needed(setting: Setting) -> None:
    """But for one that is not valid."""
    setting.access.authorize(setting.ring.find(READER), ANY, presented=True)
    with pytest.raises(Unauthorized):
        setting.access.authorize(None, ANY, presented=True)


def test_how_a_refusal_looks(setting: Setting) -> None:
    """401 with a challenge (RFC 6750); what was given is not repeated."""
    for presented, challenge in (
        (False, 'Bearer realm="storefront"'),
        (True, 'Bearer realm="storefront", error="invalid_token"'),
    ):
        with pytest.raises(Problem) as caught:
            setting.access.authorize(None, "users:read", presented=presented)
        assert (caught.value.status, caught.value.headers) == (401, {"WWW-Authenticate": challenge})
    assert setting.failures("missing") == 1
    assert access_module.CHALLENGE == 'Bearer realm="storefront"'


def test_what_is_open_needs_nothing(setting: Setting) -> None:
    """Not even for a bad key."""
    setting.access.authorize(None, None, presented=True)
