"""API keys: their texts and digests, the ring of them, and the file of the admin key."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from chassis.settings import SettingsError
from gateway.registry.keys import ADMIN, MAX_TEXT, SCOPES, ApiKey, Keyring, digest, generate, read_admin_key


def make(text: str, *, key_id: int = 1, revoked: bool = False, revision: int = 1) -> ApiKey:
    """A key with this text."""
    return ApiKey(key_id, f"key {key_id}", digest(text), frozenset({"users:read"}), None, revoked, revision)


def test_a_generated_key_cannot_be_guessed() -> None:
    """256 random bits behind a prefix that says what it is; no two are alike."""
    keys = {generate() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"sf_[A-Za-z0-9_-]{43}", key) for key in keys)


@pytest.mark.parametrize("text", ["sf_x", "", "\x00", "ü", "\ud800", "x" * 10_000])
def test_only_a_digest_is_kept(text: str) -> None:
    """SHA-256 of the text, whatever it is; the key itself is in no field and no representation."""
    assert digest(text) == hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    assert len(text) < 3 or text not in repr(make(text))


def test_scopes() -> None:
    """A key may do what its scopes say; `admin` is all of them."""
    key = make("k")
    assert [scope for scope in SCOPES if key.allows(scope)] == ["users:read"]
    admin = replace(key, scopes=frozenset({ADMIN}))
    assert all(admin.allows(scope) for scope in SCOPES)


def test_a_key_is_found_by_its_whole_text() -> None:
    """Nothing that is merely like it will do, its own digest included."""
    text = generate()
    ring = Keyring()
    ring.replace([make(text)])
    assert ring.find(text) is not None
    for other in ("", text[:-1], f"{text} ", text.upper(), digest(text).hex(), "x" * (MAX_TEXT + 1), "\ud800", "\x00"):
        assert ring.find(other) is None


def test_a_revoked_key_is_nobodys_at_once() -> None:
    """With the change that revokes it, not later; and a key of the same text made anew is found again."""
    ring = Keyring()
    ring.apply([make("text", key_id=1)])
    assert ring.find("text") is not None
    ring.apply([make("text", key_id=1, revoked=True, revision=2)])
    assert ring.find("text") is None
    assert [key.revoked for key in ring] == [True]
    ring.apply([make("text", key_id=2, revision=3)])
    assert (found := ring.find("text")) is not None
    assert found.id == 2


def test_an_old_change_does_not_undo_a_newer_one() -> None:
    """A revocation stands when the news of the key's creation comes after it."""
    ring = Keyring()
    ring.apply([make("text", revoked=True, revision=5)])
    ring.apply([make("text", revision=4)])
    assert ring.find("text") is None


def test_fixed_keys_stay() -> None:
    """Whatever the registry says, also of a stored key with the same text; they are not among the stored ones."""
    fixed = replace(make("fixed", key_id=0), scopes=frozenset({ADMIN}))
    ring = Keyring([fixed])
    ring.replace([make("other", key_id=7), make("fixed", key_id=8, revoked=True)])
    assert ring.find("fixed") is fixed
    assert [key.id for key in ring] == [7, 8]
    ring.replace([])
    assert ring.find("fixed") is fixed
    assert ring.find("other") is None


def test_the_admin_key_of_a_file(tmp_path: Path) -> None:
    """White space around it does not count; without a file there is none."""
    text = generate()
    (tmp_path / "key").write_text(f"{text}\n")
    key = read_admin_key(tmp_path / "key")
    assert key is not None
    assert (key.name, key.digest, key.scopes) == ("admin", digest(text), frozenset({"admin"}))
    assert read_admin_key(None) is None


@pytest.mark.parametrize("content", ["", "short", "x" * 31, "x" * 257, "two words " * 4, "ü" * 40, "\x00" * 40])
def test_a_bad_admin_key_stops_the_start(tmp_path: Path, content: str) -> None:
    """One line that names the variable and what it wants, and not the key."""
    (tmp_path / "key").write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_admin_key(tmp_path / "key")
    line = str(caught.value)
    assert line.startswith("GATEWAY_ADMIN_KEY_FILE: got ")
    assert "want a file with a key of 32 to 256" in line
    assert "\n" not in line
    assert not content or content not in line


def test_a_missing_admin_key_file_stops_the_start(tmp_path: Path) -> None:
    """So does a directory: no text of the system is repeated, only what kind of error it was."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match=r"^GATEWAY_ADMIN_KEY_FILE: got .* \(\w+Error\), want a file"):
            read_admin_key(path)
