"""Requests that two parsers could read differently, byte for byte, and what may come of each.

In the bytes `@ID@@ID@` stands for eight characters that are new for each use, `@PATH@` for a path of the service that
is asked, `@TYPE@` for a media type that it takes. What is hidden in a body asks for `/smuggled/@ID@@ID@`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

ID, PATH, TYPE = b"@ID@@ID@", b"@PATH@", b"@TYPE@"
HOST = b"Host: a\r\n"
NAMED = b"X-Request-ID: r-" + ID + b"\r\n"
GET = b"GET @PATH@ HTTP/1.1\r\n" + HOST + NAMED
POST = b"POST @PATH@ HTTP/1.1\r\n" + HOST + NAMED + b"Content-Type: @TYPE@\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled/" + ID + b" HTTP/1.1\r\nHost: a\r\nX-Request-ID: s-" + ID + b"\r\n\r\n"


class Case(NamedTuple):
    """A request.

    Attributes:
        sent: its bytes.
        gateway: the status that the gateway answers; None: any below 500, as long as it answers this very request.
        service: whether a service refuses it as well, with 4xx and the end of the connection. Behind a gateway it may
            read things more generously, but never as two requests.
        whole: False if more of it is waited for, so that what follows belongs to it.
    """

    name: str
    sent: bytes
    gateway: int | None = 400
    service: bool = True
    whole: bool = True

    def bytes_for(self, path: bytes, *, media: bytes = b"application/json", mark: bytes = b"01234567") -> bytes:
        """What to send to a server; `mark` is eight characters."""
        return self.sent.replace(ID, mark).replace(PATH, path).replace(TYPE, media)


def sized(body: bytes, *, head: bytes = POST) -> bytes:
    """A request with this body and its length."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _heads() -> Iterator[Case]:
    yield Case("no host", b"GET @PATH@ HTTP/1.1\r\n" + NAMED + b"\r\n", service=False)
    yield Case("two hosts", GET + HOST + b"\r\n")
    yield Case("two different hosts", GET + b"Host: b\r\n\r\n")
    for name, host in {
        "empty": b"", "with a space": b"a b", "with a path": b"a/b", "with a user": b"a@b", "two in one": b"a, b",
        "with a query": b"a?b", "with a backslash": b"a\\b", "with quotes": b'"a"', "half an IPv6 address": b"[::1",
        "with a word as its port": b"a:b", "percent": b"a%00b", "over 127": b"\xe9",
    }.items():  # fmt: skip
        yield Case(f"host {name}", b"GET @PATH@ HTTP/1.1\r\nHost: " + host + b"\r\n" + NAMED + b"\r\n", service=False)
    yield Case("bare LF", b"GET @PATH@ HTTP/1.1\nHost: a\n\n")
    yield Case("bare LF after the request line", b"GET @PATH@ HTTP/1.1\n" + HOST + NAMED + b"\r\n")
    yield Case("bare LF after a field", GET + b"X: 1\n\r\n")
    yield Case("bare LF before the end", GET + b"X: 1\r\n\n")
    yield Case("bare LF as the end, and a request", GET + b"X: 1\r\n\n" + SMUGGLED)
    yield Case("LF CR", GET + b"X: 1\n\r\r\n\r\n")
    yield Case("bare CR in a field", GET + b"X: 1\rY: 2\r\n\r\n")
    yield Case("bare CR in a name", GET + b"X\rY: 2\r\n\r\n")
    yield Case("bare CR as the end of lines", b"GET @PATH@ HTTP/1.1\rHost: a\r\r\n\r\n")
    yield Case("CR CR LF", GET + b"X: 1\r\r\n\r\n")
    yield Case("CR in a value hides a length", POST + b"X: 1\rContent-Length: 5\r\n\r\n")
    yield Case("obsolete folding", GET + b"X: 1\r\n 2\r\n\r\n")
    yield Case("folding with a tab", GET + b"X: 1\r\n\t2\r\n\r\n")
    yield Case("folding of the first field", b"GET @PATH@ HTTP/1.1\r\n Host: a\r\n\r\n")
    yield Case("a folded length", POST + b"Content-Length:\r\n 5\r\n\r\nabcde")
    yield Case("a folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n")
    yield Case("folding into a coding", POST + b"X: 1\r\n Transfer-Encoding: chunked\r\n\r\n")
    yield Case("an empty folded line", GET + b"X: 1\r\n \r\n\r\n")
    yield Case("space before the colon", GET + b"X : 1\r\n\r\n")
    yield Case("tab before the colon", GET + b"X\t: 1\r\n\r\n")
    yield Case("space before the colon of a length", POST + b"Content-Length : 3\r\n\r\nabc")
    yield Case("space before the colon of a coding", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")
    yield Case("no colon", GET + b"X\r\n\r\n")
    yield Case("no name", GET + b": 1\r\n\r\n")
    for name, byte in {"NUL": 0, "control": 1, "backspace": 8, "form feed": 12, "escape": 27, "DEL": 127}.items():
        yield Case(f"{name} in a name", GET + b"X%cY: 1\r\n\r\n" % byte)
        yield Case(f"{name} in a value", GET + b"X: 1%c2\r\n\r\n" % byte)
    for byte in b'()<>@,;\\"/[]?={} \xff':
        yield Case(f"byte {byte:#x} in a name", GET + b"X%cY: 1\r\n\r\n" % byte)
    yield Case("a field of 9000", GET + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431)
    yield Case("a name of 9000", GET + b"a" * 9000 + b": 1\r\n\r\n", 431)
    yield Case("200 fields", GET + b"X: 1\r\n" * 200 + b"\r\n", 431)
    yield Case("10,000 fields", GET + b"X: 1\r\n" * 10_000 + b"\r\n", 431)
    yield Case("a megabyte of fields", GET + (b"X: " + b"a" * 1000 + b"\r\n") * 1000 + b"\r\n", 431)
    yield Case("a line of 9000", b"GET @PATH@?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    yield Case("a line of a megabyte", b"GET @PATH@?" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    yield Case("nothing but bytes", bytes(range(256)) * 8)
    yield Case("a TLS hello", bytes.fromhex("16030100c8010000c40303") + b"\x00" * 190 + b"\r\n\r\n")
    yield Case("a PROXY line", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GET + b"\r\n")
    yield Case("half a head", GET + b"X: 1\r\n", whole=False)
    yield Case("half a request line", b"GET @PATH@ HT", whole=False)


def _lines() -> Iterator[Case]:
    def line(name: str, text: bytes, status: int | None = 400, *, service: bool = True) -> Case:
        return Case(name, text + b"\r\n" + HOST + NAMED + b"\r\n", status, service)

    yield line("no version", b"GET @PATH@")
    for version in (
        b"HTTP/1.2",
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"HTTP/3",
        b"HTTP/1",
        b"HTTP/01.1",
        b"HTTP/1.10",
        b"http/1.1",
    ):
        lenient = version == b"HTTP/1.2"
        yield line(version.decode() + " as a version", b"GET @PATH@ " + version, service=not lenient)
    yield line("HTTP 1.1", b"GET @PATH@ HTTP 1.1")
    yield line("a version of another script", "GET @PATH@ HTTP/\u0661.1".encode())
    yield line("two spaces", b"GET  @PATH@ HTTP/1.1")
    yield line("two spaces before the version", b"GET @PATH@  HTTP/1.1")
    yield line("space at the end", b"GET @PATH@ HTTP/1.1 ")
    yield line("space at the beginning", b" GET @PATH@ HTTP/1.1")
    yield line("space in the target", b"GET @PATH@ x HTTP/1.1")
    yield line("tab between", b"GET\t@PATH@ HTTP/1.1")
    yield line("CR in the line", b"GET @PATH@\rx HTTP/1.1")
    yield line("lower-case method", b"get @PATH@ HTTP/1.1")
    yield line("method with a slash", b"GE/T @PATH@ HTTP/1.1")
    yield line("method with a colon", b"GET: @PATH@ HTTP/1.1")
    yield line("no method", b" @PATH@ HTTP/1.1")
    yield line("method of 40", b"A" * 40 + b" @PATH@ HTTP/1.1")
    yield line("fragment", b"GET @PATH@#x HTTP/1.1", service=False)
    yield line("fragment behind a query", b"GET @PATH@?a#x HTTP/1.1", service=False)
    for name, byte in {"NUL": 0, "control": 1, "DEL": 127, "byte over 127": 255, "quote-less space": 0xA0}.items():
        yield line(f"{name} in the target", b"GET @PATH@%c HTTP/1.1" % byte)
    yield line("target without a slash", b"GET api/products HTTP/1.1")
    yield line("no target", b"GET  HTTP/1.1")
    yield line("star", b"OPTIONS * HTTP/1.1", service=False)
    yield line("star of another method", b"GET * HTTP/1.1")
    yield line("another host in the target", b"GET http://b@PATH@ HTTP/1.1", service=False)
    yield line("a user in the target", b"GET http://a@b@PATH@ HTTP/1.1", service=False)
    yield line("an address in the target", b"GET http://127.0.0.1:1@PATH@ HTTP/1.1", service=False)
    yield line("a target of another scheme", b"GET ftp://a@PATH@ HTTP/1.1", service=False)
    yield line("a file as the target", b"GET file:///etc/passwd HTTP/1.1", service=False)
    yield line("a target without a host", b"GET http:///x HTTP/1.1", service=False)
    yield line("half an IPv6 address in the target", b"GET http://[::1/x HTTP/1.1")
    yield line("dot segments", b"GET /api/products/../../metrics HTTP/1.1", service=False)
    yield line("escaped dot segments", b"GET /api/products/%2e%2e/%2e%2e/metrics HTTP/1.1", service=False)
    yield Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    yield line("CONNECT to a path", b"CONNECT @PATH@ HTTP/1.1", 405)
    yield Case(
        "CONNECT, and a request inside",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n" + NAMED + b"\r\n",
        405,
        service=False,
    )
    yield line("TRACE", b"TRACE @PATH@ HTTP/1.1", 405, service=False)
    yield line("our own path in another case", b"GET /HEALTH/LIVE HTTP/1.1", None, service=False)
    yield line("two slashes", b"GET //b@PATH@ HTTP/1.1", None, service=False)
    yield line("a backslash", b"GET /\\b@PATH@ HTTP/1.1", None, service=False)
    yield line("escaped line ends", b"GET @PATH@%0d%0aX:%201%0d%0a%0d%0a HTTP/1.1", None, service=False)
    yield line("an escaped NUL", b"GET @PATH@%00 HTTP/1.1", None, service=False)
    yield line("half an escape", b"GET @PATH@%f HTTP/1.1", None, service=False)
    yield line("an overlong escape", b"GET @PATH@/%c0%ae%c0%ae/ HTTP/1.1", None, service=False)


def _lengths() -> Iterator[Case]:
    for name, length in {
        "with a sign": b"+3", "negative": b"-3", "hexadecimal": b"0x3", "with an underscore": b"1_0", "empty": b"",
        "with a space": b"3 3", "with a comma": b"3, 3", "two in one": b"3, 4", "with an exponent": b"3e0",
        "with a point": b"3.0", "of another script": "٣".encode(), "superscript": "³".encode(), "a letter": b"3a",
        "quoted": b'"3"', "with a semicolon": b"3;a=b", "a control before": b"\x0b3", "a no-break space": b"\xa03",
        "of 5000 digits": b"9" * 5000, "of 4000 zeros and a minus": b"-" + b"0" * 4000,
    }.items():  # fmt: skip
        yield Case(f"length {name}", POST + b"Content-Length: " + length + b"\r\n\r\nabc" + SMUGGLED)
    # Not malformed, only more than anybody takes.
    yield Case(
        "length of 2**63", POST + b"Content-Length: 9223372036854775808\r\n\r\nabc", 413, whole=False, service=False
    )
    yield Case(
        "length of 2**64 + 3",
        POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
        413,
        whole=False,
        service=False,
    )
    yield Case("the same length twice", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
    yield Case("two lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc")
    yield Case(
        "a length of 0 and one that hides",
        POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    )
    yield Case(
        "a length in other words", POST + b"Content_Length: 0\r\nContent-Length: 3\r\n\r\nabc", None, service=False
    )
    yield Case("a hidden request of its length", sized(SMUGGLED), None, service=False)
    yield Case("a hidden request of a GET", sized(SMUGGLED, head=GET), None, service=False)
    yield Case("a hidden request of a HEAD", sized(SMUGGLED, head=GET.replace(b"GET", b"HEAD", 1)), None, service=False)
    yield Case(
        "a hidden request of a DELETE", sized(SMUGGLED, head=GET.replace(b"GET", b"DELETE", 1)), None, service=False
    )
    yield Case("a length with zeros", POST + b"Content-Length: 0003\r\n\r\nabc", None, service=False)
    yield Case("a length with tabs", POST + b"Content-Length:\t3\t\r\n\r\nabc", None, service=False)
    yield Case("half a body", POST + b"Content-Length: 1000\r\n\r\nabc", None, whole=False, service=False)
    yield Case("a length in HTTP/1.0", sized(SMUGGLED).replace(b"HTTP/1.1", b"HTTP/1.0", 1), None, service=False)


def _codings() -> Iterator[Case]:
    last = b"\r\n\r\n0\r\n\r\n"
    for name, coding in {
        "gzip": b"gzip", "gzip, chunked": b"gzip, chunked", "deflate, chunked": b"deflate,chunked",
        "identity": b"identity", "identity, chunked": b"identity, chunked", "chunked, identity": b"chunked, identity",
        "chunked, chunked": b"chunked, chunked", "xchunked": b"xchunked", "chunkedx": b"chunked x", "cow": b"cow",
        "quoted": b'"chunked"', "vertical tab": b"\x0bchunked", "NUL": b"chunked\x00", "comma before": b",chunked",
        "comma after": b"chunked,", "empty": b"", "a parameter": b"chunked;q=1", "semicolon": b"chunked;",
        "no-break space": b"\xa0chunked", "over 127": "chunk\u0435d".encode(), "kelvin": "chun\u212aed".encode(),
        "LF": b"\nchunked", "CR": b"chunked\r", "form feed": b"chunked\x0c",
    }.items():  # fmt: skip
        lenient = name in ("gzip, chunked", "deflate, chunked", "identity, chunked")
        yield Case(f"coding: {name}", POST + b"Transfer-Encoding: " + coding + last, service=not lenient)
        yield Case(
            f"coding and length: {name}",
            POST + b"Content-Length: %d\r\nTransfer-Encoding: " % (5 + len(SMUGGLED)) + coding + last + SMUGGLED,
        )
    lengths = b"Content-Length: %d\r\n" % (5 + len(SMUGGLED))
    yield Case("CL.TE", POST + lengths + b"Transfer-Encoding: chunked" + last + SMUGGLED)
    yield Case("TE.CL", CHUNKED + b"Content-Length: 4\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n")
    yield Case("a length of 0 and chunks", CHUNKED + b"Content-Length: 0\r\n\r\n0\r\n\r\n" + SMUGGLED)
    yield Case("chunks twice", CHUNKED + b"Transfer-Encoding: chunked" + last)
    yield Case("chunks, then identity", CHUNKED + b"Transfer-Encoding: identity" + last)
    yield Case("cow, then chunks", POST + b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked" + last)
    yield Case("chunks in HTTP/1.0", CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + last[2:] + SMUGGLED)
    yield Case(
        "chunks and a length in HTTP/1.0, kept",
        CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n" + lengths[:-2] + last + SMUGGLED,
    )
    yield Case(
        "chunks by another name",
        POST + b"Transfer_Encoding: chunked\r\n" + lengths + last[2:] + SMUGGLED,
        None,
        service=False,
    )
    yield Case("chunks in capitals", POST + b"TRANSFER-ENCODING: CHUNKED" + last, None, service=False)
    yield Case(
        "chunks of a GET",
        GET + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + last,
        None,
        service=False,
    )
    yield Case("chunks that hide", CHUNKED + b"\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + last, None, service=False)
    yield Case("TE instead", POST + b"TE: chunked\r\nContent-Length: 3\r\n\r\nabc", None, service=False)
    yield Case(
        "a coding named hop by hop", CHUNKED + b"Connection: Transfer-Encoding\r\n\r\n0\r\n\r\n", None, service=False
    )
    yield Case(
        "a length named hop by hop", sized(SMUGGLED, head=POST + b"Connection: Content-Length\r\n"), None, service=False
    )


def _chunks() -> Iterator[Case]:
    for name, size in {
        "no number": b"zz", "with 0x": b"0x3", "negative": b"-3", "with a sign": b"+3", "empty": b"",
        "with a space": b"3 ", "after a space": b" 3", "with a tab": b"\t3", "with an underscore": b"1_0",
        "of another script": "٣".encode(), "with NUL": b"3\x00", "an h": b"3h", "two": b"3 3", "a comma": b"3,3",
        "with CR": b"3\r", "of 40 digits": b"f" * 40,
    }.items():  # fmt: skip
        # A size of any number of digits is a size: of more than anybody takes, or of leading zeros.
        large = name == "of 40 digits"
        yield Case(
            f"chunk size {name}", CHUNKED + b"\r\n" + size + b"\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
            gateway=None if large else 400, service=not large, whole=not large,
        )  # fmt: skip
        yield Case(
            f"second chunk size {name}", CHUNKED + b"\r\n3\r\nabc\r\n" + size + b"\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
            gateway=None if large else 400, service=not large, whole=not large,
        )  # fmt: skip
    yield Case("chunk too long for its size", CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED)
    yield Case("chunk without its end", CHUNKED + b"\r\n3\r\nabc0\r\n\r\n" + SMUGGLED)
    yield Case("chunk with LF as its end", CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n" + SMUGGLED)
    yield Case("chunks with bare LF", CHUNKED + b"\r\n3\nabc\n0\n\n" + SMUGGLED)
    yield Case("LF behind the size", CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n" + SMUGGLED)
    yield Case("LF behind the last size", CHUNKED + b"\r\n3\r\nabc\r\n0\n\r\n" + SMUGGLED)
    yield Case("CR behind the size", CHUNKED + b"\r\n3\rabc\r\n0\r\n\r\n" + SMUGGLED)
    for name, extension in {
        "LF": b"a\nb", "CR": b"a\rb", "NUL": b"a\x00", "LF in quotes": b'a="\n"', "CR in quotes": b'a="\r"',
        "half a quote": b'a="', "a request line": b"a\nGET /smuggled/x HTTP/1.1",
    }.items():  # fmt: skip
        yield Case(f"chunk extension with {name}", CHUNKED + b"\r\n3;" + extension + b"\r\nabc\r\n0\r\n\r\n" + SMUGGLED)
        yield Case(
            f"last chunk extension with {name}", CHUNKED + b"\r\n3\r\nabc\r\n0;" + extension + b"\r\n\r\n" + SMUGGLED
        )
    yield Case("a lawful chunk extension", CHUNKED + b'\r\n3;a=b;c="d"\r\nabc\r\n0\r\n\r\n', None, service=False)
    # As long as nobody's patience is tried, it is lawful.
    yield Case(
        "chunk extension of 9000", CHUNKED + b"\r\n3;" + b"a" * 9000 + b"\r\nabc\r\n0\r\n\r\n", None, service=False
    )
    yield Case(
        "chunk size of 9000 digits", CHUNKED + b"\r\n" + b"0" * 9000 + b"3\r\nabc\r\n0\r\n\r\n", None, service=False
    )
    yield Case("chunk size with zeros", CHUNKED + b"\r\n0000000000003\r\nabc\r\n0\r\n\r\n", None, service=False)
    yield Case("many zeros as the last size", CHUNKED + b"\r\n3\r\nabc\r\n0000000\r\n\r\n", None, service=False)
    yield Case("an upper-case size", CHUNKED + b"\r\nA\r\n0123456789\r\n0\r\n\r\n", None, service=False)
    for name, trailer in {
        "a length": b"Content-Length: 5", "a coding": b"Transfer-Encoding: chunked", "a host": b"Host: b",
        "a key": b"Authorization: Bearer x", "TE": b"TE: chunked", "trailer": b"Trailer: x", "no colon": b"x",
        "a space before the colon": b"X : 1", "folding": b"X: 1\r\n 2", "NUL": b"X: \x00", "bare LF": b"X: 1\nY: 2",
        "a request": SMUGGLED[:-4],
    }.items():  # fmt: skip
        # The gateway throws trailers away unread, but for those that may be none, and for lines that end wrongly.
        unread = name in ("no colon", "a space before the colon", "folding", "NUL")
        yield Case(
            f"trailer: {name}", CHUNKED + b"\r\n3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n",
            gateway=None if unread else 400,
        )  # fmt: skip
    for name, field in {
        "a caller": b"X-Caller: admin",
        "an address": b"X-Forwarded-For: ::1",
        "an id": b"X-Request-ID: t",
    }.items():
        yield Case(f"trailer: {name}", CHUNKED + b"\r\n3\r\nabc\r\n0\r\n" + field + b"\r\n\r\n", None, service=False)
    yield Case("trailers without end", CHUNKED + b"\r\n0\r\n" + b"X: 1\r\n" * 60_000, None, whole=False, service=False)
    yield Case("no last line end", CHUNKED + b"\r\n3\r\nabc\r\n0\r\n" + SMUGGLED)
    yield Case("no last chunk", CHUNKED + b"\r\n3\r\nabc\r\n" + SMUGGLED)
    yield Case("half a chunk", CHUNKED + b"\r\nff\r\nabc", None, whole=False, service=False)
    yield Case("half a size", CHUNKED + b"\r\nf", None, whole=False, service=False)


def _others() -> Iterator[Case]:
    body = b"Content-Length: 3\r\n\r\nabc"
    yield Case("an expectation", POST + b"Expect: 200-maybe\r\n" + body)
    yield Case("two expectations", POST + b"Expect: 100-continue, x\r\n" + body)
    yield Case("an expectation twice", POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\n" + body, service=False)
    yield Case("an empty expectation", POST + b"Expect:\r\n" + body)
    yield Case("100-continue", POST + b"Expect: 100-continue\r\n" + body, None, service=False)
    yield Case("100-continue in capitals", POST + b"Expect: 100-CONTINUE\r\n" + body, None, service=False)
    yield Case(
        "100-continue in HTTP/1.0",
        (POST + b"Expect: 100-continue\r\n" + body).replace(b"/1.1", b"/1.0"),
        None,
        service=False,
    )
    yield Case("100-continue of a GET", GET + b"Expect: 100-continue\r\n\r\n", None, service=False)
    yield Case(
        "100-continue with chunks", CHUNKED + b"Expect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n", None, service=False
    )
    yield Case("100-continue that hides", sized(SMUGGLED, head=POST + b"Expect: 100-continue\r\n"), None, service=False)
    yield Case(
        "100-continue that is too large",
        POST + b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n",
        413,
        service=False,
        whole=False,
    )
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    yield Case("h2c", GET + upgrade + b"\r\n", None, service=False)
    yield Case("h2c with a body", sized(SMUGGLED, head=POST + upgrade), None, service=False)
    websocket = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    websocket += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    yield Case("a websocket", GET + websocket + b"\r\n", None, service=False)
    yield Case("a websocket of another version", GET + websocket.replace(b"13", b"777") + b"\r\n", None, service=False)
    yield Case("HTTP/1.0 without a host", b"GET @PATH@ HTTP/1.0\r\n" + NAMED + b"\r\n", None, service=False)
    yield Case(
        "HTTP/1.0 kept", b"GET @PATH@ HTTP/1.0\r\nConnection: keep-alive\r\n" + NAMED + b"\r\n", None, service=False
    )
    yield Case("an empty line before", b"\r\n" + GET + b"\r\n", None, service=False)
    yield Case(
        "white space around a value", b"GET @PATH@ HTTP/1.1\r\nHost:\ta \t\r\n" + NAMED + b"\r\n", None, service=False
    )
    yield Case("a method of its own", GET.replace(b"GET", b"PURGE", 1) + b"\r\n", None, service=False)
    yield Case("close", GET + b"Connection: close\r\n\r\n", None, service=False)
    yield Case("close and keep", GET + b"Connection: close, keep-alive\r\n\r\n", None, service=False)
    yield Case("close twice", GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n", None, service=False)
    yield Case(
        "the same host in the target", b"GET http://a@PATH@ HTTP/1.1\r\n" + HOST + NAMED + b"\r\n", None, service=False
    )
    yield Case("two media types", POST + b"Content-Type: text/plain\r\n" + body)
    yield Case("the path in a field", GET + b"Script_Name: /api\r\nPath_Info: /metrics\r\n\r\n", None, service=False)
    yield Case(
        "the path in a field with a hyphen",
        GET + b"Script-Name: /api\r\nPath-Info: /metrics\r\n\r\n",
        None,
        service=False,
    )
    yield Case("two schemes", GET + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n", None, service=False)


CASES: tuple[Case, ...] = (*_heads(), *_lines(), *_lengths(), *_codings(), *_chunks(), *_others())
