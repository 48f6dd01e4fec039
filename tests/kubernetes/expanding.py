"""The rule that lets a migration run beside old pods: it adds, and what it takes away nobody has used for a release."""

from __future__ import annotations

import re

TAKES_AWAY = {
    "drops something": r"\bDROP\s+(?:TABLE|COLUMN|VIEW|FUNCTION|TYPE|SEQUENCE|SCHEMA)\b",
    "renames something": r"\bRENAME\b",
    "changes a type": r"\bALTER\s+(?:COLUMN\s+)?\S+\s+(?:SET\s+DATA\s+)?TYPE\b",
    "forbids what old code may write": r"\bSET\s+NOT\s+NULL\b",
    "empties a table": r"\bTRUNCATE\b",
}
NEEDS_A_VALUE = re.compile(
    r"\bADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?!CONSTRAINT\b)[^,;]*\bNOT\s+NULL\b[^,;]*",
    re.IGNORECASE,
)
NEW_RULE = re.compile(
    r"\bADD\s+CONSTRAINT\b[^;]*\b(?:CHECK|FOREIGN\s+KEY|UNIQUE)\b(?:(?!\bNOT\s+VALID\b)[^;])*(?:;|$)", re.IGNORECASE
)


def breaks(statement: str) -> list[str]:
    """What of this SQL could break code of the release before; nothing for a statement that only adds."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", " ", statement, flags=re.DOTALL)
    found = [what for what, pattern in TAKES_AWAY.items() if re.search(pattern, text, re.IGNORECASE)]
    filled = re.compile(r"\b(?:DEFAULT|GENERATED)\b", re.IGNORECASE)
    if any(not filled.search(column[0]) for column in NEEDS_A_VALUE.finditer(text)):
        found.append("adds a column that old code does not fill")
    if NEW_RULE.search(text):
        found.append("adds a rule that old code does not know")
    return found


def is_earlier(release: str, than: str) -> bool:
    """Whether a release comes before another."""
    return [int(part) for part in release.split(".")] < [int(part) for part in than.split(".")]
