"""The gateway with names that lead where a file says: `gunicorn tests.hostile.rebinding:app`.

The file is that of `HOSTILE_NAMES`: `{"a.evil.example": [["127.9.9.9"], ["127.0.0.2"]]}` gives the first list to the
first who asks and the second to all others.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from chassis.gunicorn import settings_or_exit
from gateway import create_app
from gateway.edge.upstream import resolve as ask_machine
from gateway.settings import Settings

_NAMES = json.loads(Path(os.environ["HOSTILE_NAMES"]).read_text(encoding="utf-8"))
_asked: Counter[str] = Counter()


async def resolve(name: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError if it has none."""
    answers = _NAMES.get(name)
    if answers is None:
        return await ask_machine(name, port)
    number = min(_asked[name], len(answers) - 1)
    _asked[name] += 1
    return list(answers[number])


app = create_app(settings_or_exit(Settings), addresses_of=resolve)
