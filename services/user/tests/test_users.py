"""One user: created, read, changed, replaced, deleted, and found by name or address."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

MakeApp = Callable[..., Flask]
Sql = Callable[..., list[tuple[Any, ...]]]
ADA = {"username": "ada", "email": "ada@example.com", "full_name": "Ada Lovelace"}


def create(client: FlaskClient, **fields: str | None) -> dict[str, str]:
    """The body of a created user."""
    answer = client.post("/api/v1/users", json={**ADA, **fields})
    assert answer.status_code == 201, answer.text
    return answer.get_json()  # type: ignore[no-any-return]


def test_a_user_is_created_at_an_address_where_it_can_be_read(client: FlaskClient) -> None:
    """POST answers 201 with all fields, `Location` and `ETag`; the address answers the same."""
    created = client.post("/api/v1/users", json=ADA)
    assert created.status_code == 201
    assert {name: created.get_json()[name] for name in ADA} == ADA
    assert created.headers["Location"] == f"/api/v1/users/{created.get_json()['id']}"
    read = client.get(created.headers["Location"])
    assert (read.status_code, read.data) == (200, created.data)
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.headers["Cache-Control"] == "private, no-cache"


def test_times_have_an_explicit_utc_offset(client: FlaskClient) -> None:
    """`created_at` and `updated_at` are ISO 8601 with +00:00, and are now."""
    user = create(client)
    for name in ("created_at", "updated_at"):
        assert user[name].endswith("+00:00")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(user[name])) < timedelta(minutes=1)


def test_full_name_is_optional(client: FlaskClient) -> None:
    """Without it, with null and with an empty one the full name is null."""
    bodies: list[dict[str, Any]] = [{}, {"full_name": None}, {"full_name": " "}]
    for number, body in enumerate(bodies):
        name = f"user{number}"
        answer = client.post("/api/v1/users", json={"username": name, "email": f"{name}@example.com", **body})
        assert answer.get_json()["full_name"] is None


def test_white_space_around_values_is_taken_off(client: FlaskClient) -> None:
    """As the former service did."""
    user = create(client, username=" ada ", email="\tada@example.com\n", full_name="  Ada Lovelace ")
    assert {name: user[name] for name in ADA} == ADA


def test_a_user_name_has_3_to_50_letters_digits_dots_underscores_hyphens(client: FlaskClient) -> None:
    """Anything else is 400, and the answer names the field."""
    values: list[Any] = [
        "ab",
        "a" * 51,
        "with space",
        "a/b",
        "naïve",
        "",
        "a\nb",
        "\uff19" * 3,
        "abc\u200b",
        12345,
        None,
        ["abc"],
    ]
    for username in values:
        answer = client.post("/api/v1/users", json={**ADA, "username": username})
        assert answer.status_code == 400
        assert answer.get_json()["errors"][0]["field"] == "username"


def test_good_user_names(client: FlaskClient) -> None:
    """Both lengths at the edge are in, and so is every kind of character."""
    values: list[Any] = ["abc", "a" * 50, "A.b_c-9", "..."]
    for username in values:
        assert create(client, username=username, email=f"a{values.index(username)}@example.com")["username"] == username


def test_an_email_address_must_be_valid(client: FlaskClient) -> None:
    """Anything else is 400, and the answer names the field and does not repeat the address."""
    values: list[Any] = [
        "invalid",
        "a@",
        "@b.com",
        "a@b",
        "a b@example.com",
        "a@example.com,b@example.com",
        "",
        5,
        None,
        "a" * 250 + "@example.com",
        "a@-example.com",
        "a\x00@example.com",
        "<a@example.com>",
    ]
    for email in values:
        answer = client.post("/api/v1/users", json={**ADA, "email": email})
        assert answer.status_code == 400
        assert answer.get_json()["errors"][0]["field"] == "email"


def test_good_email_addresses(client: FlaskClient) -> None:
    """Tags, subdomains, international addresses and the domain that is reserved for tests are taken."""
    values: list[Any] = ["a@example.com", "first.last+tag@sub.example.co.uk", "jürgen@bücher.example", "x@y.test"]
    for email in values:
        assert create(client, username=f"user{values.index(email)}", email=email)["email"] == email


@pytest.mark.parametrize(
    ("username", "email"),
    [
        ("ada", "other@example.com"),
        ("other", "ada@example.com"),
        ("other", "ADA@Example.COM"),
        ("ada", "ada@example.com"),
    ],
)
def test_a_taken_name_or_address_is_409(client: FlaskClient, username: str, email: str) -> None:
    """The address whatever its case; the answer does not say which of both it was, nor repeat it."""
    create(client)
    answer = client.post("/api/v1/users", json={"username": username, "email": email})
    assert answer.status_code == 409
    assert answer.get_json()["error"] == "Username or email already exists"
    assert "ada" not in answer.get_json()["detail"]


def test_addresses_outside_ascii_are_the_same_in_any_case_too(client: FlaskClient) -> None:
    """Ä is ä."""
    create(client, email="ÄRGER@example.com")
    assert client.post("/api/v1/users", json={"username": "other", "email": "ärger@example.com"}).status_code == 409


@pytest.mark.parametrize("email", ["cafe\u0301@example.com", "a@ｅｘａｍｐｌｅ.com", " a@Bücher.Example\n"])  # noqa: RUF001
def test_an_address_is_found_as_it_was_sent(client: FlaskClient, email: str) -> None:
    """It is stored in one spelling; whoever looks for it by the other finds it."""
    user = create(client, email=email)
    assert user["email"] != email
    for written in (email, user["email"]):
        assert client.get("/api/v1/users", query_string={"email": written}).get_json()["users"] == [user]


def test_user_names_tell_upper_from_lower_case(client: FlaskClient) -> None:
    """Only e-mail addresses do not."""
    create(client)
    assert client.post("/api/v1/users", json={"username": "Ada", "email": "a2@example.com"}).status_code == 201


def test_patch_changes_what_is_sent(client: FlaskClient) -> None:
    """The other fields stay, `updated_at` and the ETag move on, `created_at` does not."""
    user = create(client)
    address = f"/api/v1/users/{user['id']}"
    before = client.get(address)
    answer = client.patch(address, json={"email": "new@example.com"})
    assert answer.status_code == 200
    assert {**answer.get_json(), "updated_at": 0} == {**user, "email": "new@example.com", "updated_at": 0}
    assert answer.get_json()["updated_at"] > user["updated_at"]
    assert answer.headers["ETag"] != before.headers["ETag"]
    assert client.patch(address, json={"full_name": None}).get_json()["full_name"] is None


def test_a_bad_patch_is_400(client: FlaskClient) -> None:
    """Nothing to change, null where there must be a value, and what is no field of a user."""
    address = f"/api/v1/users/{create(client)['id']}"
    values: list[Any] = [{}, {"username": None}, {"email": None}, {"id": 7}, {"username": "x"}, [], "text", 5]
    for body in values:
        assert client.patch(address, json=body).status_code == 400, body


def test_put_replaces_every_field(client: FlaskClient) -> None:
    """A full name that is not sent is gone; a missing required field is 400."""
    address = f"/api/v1/users/{create(client)['id']}"
    answer = client.put(address, json={"username": "grace", "email": "grace@example.com"})
    assert (answer.get_json()["username"], answer.get_json()["full_name"]) == ("grace", None)
    assert client.put(address, json={"username": "grace"}).status_code == 400


@pytest.mark.parametrize("method", ["patch", "put"])
def test_an_update_to_what_another_has_is_409(client: FlaskClient, method: str) -> None:
    """To what the user itself has it is fine."""
    create(client)
    other = create(client, username="other", email="other@example.com")
    body = {"username": "other", "email": "Ada@example.com"}
    assert getattr(client, method)(f"/api/v1/users/{other['id']}", json=body).status_code == 409
    body = {"username": "other", "email": "Other@example.com"}
    assert getattr(client, method)(f"/api/v1/users/{other['id']}", json=body).status_code == 200


def test_delete_leaves_nothing_behind(client: FlaskClient) -> None:
    """204 without a body, then 404; name and address are free, the id is not given again."""
    user = create(client)
    address = f"/api/v1/users/{user['id']}"
    answer = client.delete(address)
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert client.get(address).status_code == client.delete(address).status_code == 404
    assert create(client)["id"] != user["id"]


def test_what_is_no_id_of_a_user_is_404(client: FlaskClient) -> None:
    """Malformed or unknown: there is no such user."""
    texts = ["999", "0", "-1", "x", "1.0", "01x", "9" * 19, "9" * 400, "%00", "%F0%9F", "1%2F2", " 1"]
    for method, text in product(("get", "patch", "put", "delete"), texts):
        answer = getattr(client, method)(
            f"/api/v1/users/{text}", **({} if method in ("get", "delete") else {"json": ADA})
        )
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"


def test_if_none_match_saves_the_body(client: FlaskClient) -> None:
    """304 with the ETag while the user is as it was, 200 when it is not."""
    address = f"/api/v1/users/{create(client)['id']}"
    etag = client.get(address).headers["ETag"]
    for condition in (etag, f'"x", W/{etag}', "*"):
        answer = client.get(address, headers={"If-None-Match": condition})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
    client.patch(address, json={"full_name": "Augusta"})
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("method", ["patch", "put", "delete"])
def test_if_match_stops_a_change_that_was_meant_for_another_state(client: FlaskClient, method: str) -> None:
    """412 for an old, weak, foreign or malformed ETag, nothing is changed; the current one and `*` let it through."""
    user = create(client)
    address = f"/api/v1/users/{user['id']}"
    old = client.get(address).headers["ETag"]
    client.patch(address, json={"full_name": "Augusta"})
    current = client.get(address).headers["ETag"]
    options = {} if method == "delete" else {"json": ADA}
    for bad in (
        old,
        f"W/{current}",
        '"x"',
        "x",
        '"1-999999999999999999999"',
        '"999-2"',
        f'"{user["id"]}-9999999999999999999"',
    ):
        answer = getattr(client, method)(address, headers={"If-Match": bad}, **options)
        assert answer.status_code == 412, bad
    assert client.get(address).headers["ETag"] == current
    answer = getattr(client, method)(address, headers={"If-Match": f'"other", {current}'}, **options)
    assert answer.status_code in (200, 204)
    gone = client.get(address).status_code == 404
    assert getattr(client, method)(address, headers={"If-Match": "*"}, **options).status_code == (404 if gone else 200)


def test_no_update_is_lost(make_app: MakeApp, database_url: str) -> None:
    """Of many that read the same state and write with its ETag, exactly one succeeds; the others get 412."""
    app = make_app(DATABASE_URL=database_url)
    address = f"/api/v1/users/{create(app.test_client())['id']}"
    etag = app.test_client().get(address).headers["ETag"]

    def update(number: int) -> int:
        body = {"full_name": f"Writer {number}"}
        return app.test_client().patch(address, json=body, headers={"If-Match": etag}).status_code

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(update, range(6))) == [200] + [412] * 5


def test_users_are_found_by_exact_name_and_address(client: FlaskClient) -> None:
    """In the shape of a page; both together must both fit; nobody found is an empty page."""
    create(client)
    create(client, username="ada2", email="ada2@example.com")
    for query, names in (
        ("username=ada", ["ada"]),
        ("email=ada@example.com", ["ada"]),
        ("email=ADA@Example.com", ["ada"]),
        ("username=ada&email=ada@example.com", ["ada"]),
        ("username=ada&email=ada2@example.com", []),
        ("username=ADA", []),
        ("username=ad", []),
        ("username=", []),
        ("username=ada&page=2", []),
    ):
        answer = client.get(f"/api/v1/users?{query}")
        assert answer.status_code == 200
        assert [user["username"] for user in answer.get_json()["users"]] == names, query
        assert answer.headers["X-Cache"] == "BYPASS"
    found = client.get("/api/v1/users?username=ada").get_json()
    assert {name: found[name] for name in ("page", "per_page", "total", "pages")} == {
        "page": 1, "per_page": 50, "total": 1, "pages": 1,
    }  # fmt: skip


def test_the_count_of_users_follows_every_kind_of_change(client: FlaskClient, sql: Sql) -> None:
    """One at a time, many at once, undone ones, and TRUNCATE: `total` is what count(*) is."""

    def total() -> int:
        counted = sql("SELECT count(*) FROM users")[0][0]
        kept = sql("SELECT sum(users) FROM users_total")[0][0]
        assert counted == kept
        return int(counted)

    user = create(client)
    client.post("/api/v1/users", json=ADA)  # taken
    assert total() == 1
    sql("INSERT INTO users (username, email) SELECT 'bulk' || n, n || '@example.com' FROM generate_series(1, 50) AS n")
    assert total() == 51
    sql("INSERT INTO users (username, email) VALUES ('bulk1', 'x@example.com') ON CONFLICT DO NOTHING")
    sql("DELETE FROM users WHERE username LIKE 'bulk4_'")
    assert total() == 41
    client.delete(f"/api/v1/users/{user['id']}")
    assert total() == 40
    sql("TRUNCATE users")
    assert total() == 0
