"""The part of Go's text/template that the template stages and line_format here use.

After pkg.go.dev/text/template: text and actions, `{{-` and `-}}` trim white space; pipelines of fields, variables,
strings and functions; if, else if, else, end; a variable is declared by `$name := pipeline`. A field that the data does
not have is no value: it prints as `<no value>`, and a function that wants a string refuses it. The functions are
Promtail's and Alloy's own (their documentation of the template stage); sprig's are not there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ACTION = re.compile(r"\{\{(?P<left>- )?(?P<code>.*?)(?P<right> -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<word>[.$\w]+)|(?P<mark>:=|[()|]))')
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}


class TemplateError(ValueError):
    """What Go would refuse, when it parses or when it executes."""


def _strings(function: Callable[..., str]) -> Callable[..., str]:
    def strict(*values: Any) -> str:
        if not all(isinstance(value, str) for value in values):
            raise TemplateError("invalid value; expected string")
        return function(*values)

    return strict


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "ToLower": _strings(str.lower),
    "ToUpper": _strings(str.upper),
    "TrimSpace": _strings(str.strip),
    "TrimSuffix": _strings(str.removesuffix),
    "TrimPrefix": _strings(str.removeprefix),
    "eq": lambda first, *others: any(first == other for other in others),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "not": lambda value: not value,
}


@dataclass(frozen=True)
class _Piece:
    text: str
    code: str | None


def execute(template: str, data: Mapping[str, str]) -> str:
    """What Go's template prints with this data. Raises TemplateError."""
    machine = _Machine(data)
    for piece in _pieces(template):
        machine.take(piece)
    if machine.depth:
        raise TemplateError("an `if` has no `end`")
    return "".join(machine.out)


def _pieces(template: str) -> Sequence[_Piece]:
    pieces: list[_Piece] = []
    at, trim = 0, False
    for found in _ACTION.finditer(template):
        text = template[at : found.start()]
        text = text.lstrip() if trim else text
        pieces.append(_Piece(text.rstrip() if found["left"] else text, found["code"].strip()))
        at, trim = found.end(), bool(found["right"])
    rest = template[at:]
    return [*pieces, _Piece(rest.lstrip() if trim else rest, None)]


def _words(pipeline: str) -> list[tuple[str, str]]:
    words, at = [], 0
    while at < len(pipeline):
        found = _TOKEN.match(pipeline, at)
        if not found or not found.lastgroup:
            raise TemplateError(f"not understood: {pipeline[at:]}")
        words.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return words


class _Machine:
    """Executes piece by piece. For each open `if`: is this branch taken, and was one of its branches before?"""

    def __init__(self, data: Mapping[str, str]) -> None:
        self.out: list[str] = []
        self._data = data
        self._variables: dict[str, Any] = {}
        self._open: list[tuple[bool, bool]] = []

    @property
    def depth(self) -> int:
        return len(self._open)

    @property
    def _on(self) -> bool:
        return all(taken for taken, _ in self._open)

    def take(self, piece: _Piece) -> None:
        if self._on:
            self.out.append(piece.text)
        code = piece.code
        if code is None:
            return
        if code.startswith("if "):
            taken = self._on and bool(self._value(code[3:]))
            self._open.append((taken, taken))
        elif code.startswith("else"):
            _, before = self._open.pop()
            taken = self._on and not before and (code == "else" or bool(self._value(code.removeprefix("else if "))))
            self._open.append((taken, before or taken))
        elif code == "end":
            self._open.pop()
        elif self._on:
            self._act(code)

    def _act(self, code: str) -> None:
        name, declared, pipeline = code.partition(":=")
        if declared:
            self._variables[name.strip()] = self._value(pipeline)
            return
        value = self._value(code)
        self.out.append("<no value>" if value is None else str(value))

    def _value(self, pipeline: str) -> Any:
        value, rest = self._pipeline(_words(pipeline.strip()))
        if rest:
            raise TemplateError(f"not understood: {pipeline}")
        return value

    def _pipeline(self, tokens: list[tuple[str, str]]) -> tuple[Any, list[tuple[str, str]]]:
        piped: list[Any] = []
        while True:
            operands: list[Any] = []
            while tokens and tokens[0] not in (("mark", ")"), ("mark", "|")):
                operand, tokens = self._operand(tokens)
                operands.append(operand)
            value = self._apply([*operands, *piped])
            if not tokens or tokens[0] == ("mark", ")"):
                return value, tokens
            piped, tokens = [value], tokens[1:]

    def _operand(self, tokens: list[tuple[str, str]]) -> tuple[Any, list[tuple[str, str]]]:
        (kind, text), rest = tokens[0], tokens[1:]
        if (kind, text) == ("mark", "("):
            value, rest = self._pipeline(rest)
            return value, rest[1:]
        if kind == "string":
            raw = text[1:-1]
            return raw if text[0] == "`" else re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], raw), rest
        if text.startswith("$"):
            return self._variables[text], rest
        if text.startswith("."):
            return self._data.get(text[1:]), rest
        if text not in FUNCTIONS:
            raise TemplateError(f"function {text!r} is not defined here")
        return FUNCTIONS[text], rest

    @staticmethod
    def _apply(values: list[Any]) -> Any:
        return values[0](*values[1:]) if values and callable(values[0]) else values[0]
