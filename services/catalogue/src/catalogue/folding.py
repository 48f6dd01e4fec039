"""One meaning of "the same letters" for search and sorting, in Python and in PostgreSQL.

The database has the same function in SQL (`catalogue_fold`, migration 0001), because rows come into it by plain SQL
too. Neither asks a locale: what `lower()` does to anything but ASCII differs from one PostgreSQL to the next.
"""

from __future__ import annotations

import re
import unicodedata

_MARKS = re.compile("[\u0300-\u036f]+")
_CASES = {
    ord(letter): letter.casefold()
    for letter in map(chr, range(0x80, 0x588))  # Latin, Greek, Cyrillic, Armenian
    if len(letter.casefold()) == 1
}


def fold(text: str) -> str:
    """`text` without accents and in small letters: `Crêpe ÉTOILE` → `crepe etoile`.

    NFKD, then without U+0300 to U+036F, then ASCII, Latin, Greek, Cyrillic and Armenian capitals made small.
    """
    if text.isascii():
        return text.lower()
    return _MARKS.sub("", unicodedata.normalize("NFKD", text)).translate(_CASES).translate(_ASCII_CASES)


_ASCII_CASES = {code: chr(code + 32) for code in range(ord("A"), ord("Z") + 1)}
