"""Reads the part of Alloy's configuration syntax that this tree uses.

After the specification (grafana.com/docs/alloy/latest/get-started/configuration-syntax): a file is a list of blocks,
`name "label" { ... }`; a block has attributes, `name = expression`, and blocks. Expressions here are strings (also raw
ones), numbers, booleans, arrays, objects; whatever else (references, calls, sums) is kept as its text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)
    |(?P<raw>`[^`]*`)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<mark>[{}\[\](),=+])""",
    re.DOTALL | re.VERBOSE,
)
_LITERALS = {"true": True, "false": False, "null": None}


class AlloyError(ValueError):
    """The text is not of the syntax, or not of the part of it that is read here."""


@dataclass(frozen=True)
class Reference:
    """An expression that only Alloy can evaluate, as it stands in the file."""

    text: str


@dataclass
class Block:
    """`name "label" { attributes and blocks }`."""

    name: str
    label: str | None
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def parse(text: str) -> list[Block]:
    """The blocks of a file, in order. Raises AlloyError where they cannot be read."""
    reader = _Reader(list(_tokens(text)))
    body = reader.body(end="")
    if body.attributes:
        raise AlloyError(f"attributes outside a block: {', '.join(body.attributes)}")
    return body.blocks


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found or not found.lastgroup:
            raise AlloyError(f"line {text.count(chr(10), 0, at) + 1}: not understood: {text[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup != "space":
            yield _Token(found.lastgroup, found[0])


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = [*tokens, _Token("mark", "")]
        self._at = 0

    def body(self, *, end: str) -> Block:
        """What is between here and `end`."""
        body = Block("", None)
        while not self._take(end):
            name = self._next("name").text
            if self._take("="):
                if name in body.attributes:
                    raise AlloyError(f"{name} is set twice")
                body.attributes[name] = self._expression()
            else:
                label = json.loads(self._next("string").text) if self._now.kind == "string" else None
                self._expect("{")
                inner = self.body(end="}")
                body.blocks.append(Block(name, label, inner.attributes, inner.blocks))
        return body

    def _expression(self) -> Any:
        value = self._operand()
        while self._now.text == "+":
            self._at += 1
            value = Reference(f"{_source(value)} + {_source(self._operand())}")
        return value

    def _operand(self) -> Any:
        token = self._now
        self._at += 1
        if token.kind == "raw":
            return token.text[1:-1]
        if token.kind in ("string", "number"):
            return json.loads(token.text)
        if token.kind == "name":
            return self._named(token.text)
        if token.text == "[":
            return list(self._items("]", self._expression))
        if token.text == "{":
            return dict(self._items("}", self._pair))
        raise AlloyError(f"no expression begins with {token.text!r}")

    def _named(self, name: str) -> Any:
        if self._take("("):
            return Reference(f"{name}({', '.join(_source(value) for value in self._items(')', self._expression))})")
        return _LITERALS[name] if name in _LITERALS else Reference(name)

    def _pair(self) -> tuple[str, Any]:
        token = self._now
        self._at += 1
        key = json.loads(token.text) if token.kind == "string" else token.text
        self._expect("=")
        return key, self._expression()

    def _items(self, end: str, item: Any) -> Iterator[Any]:
        while not self._take(end):
            yield item()
            if self._now.text != end:
                self._expect(",")

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, mark: str) -> bool:
        if self._now != _Token("mark", mark):
            return False
        self._at += 1
        return True

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise AlloyError(f"{mark!r} is missing before {self._now.text!r}")

    def _next(self, kind: str) -> _Token:
        token = self._now
        if token.kind != kind:
            raise AlloyError(f"{kind} is missing before {token.text!r}")
        self._at += 1
        return token


def _source(value: Any) -> str:
    return value.text if isinstance(value, Reference) else json.dumps(value)
