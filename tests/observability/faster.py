"""Rules for a system that is a minute old: what takes an hour to be noticed in production is noticed in seconds."""

import re

_INTERVALS = r"(?m)^(\s*(?:- )?(?:scrape_interval|scrape_timeout|evaluation_interval|interval): ).*$"
_SUBQUERY = r"\[\w+:\w*\]"
_WINDOW = r"\[(\d+)[sm]\]"
_LONG_MIN = 15
_HOLD = r"(?m)^(\s*for: ).*$"
_SCRAPE_TOOK = r"(scrape_duration_seconds\{[^}]*\} > )5\b"
_AGE = r"(?:age|oldest)_seconds\[[^]]*\]\)+ > "


def faster(text: str, *, interval_s: int = 2) -> str:
    """An expression or a file of rules with short intervals and steps; windows, thresholds and `for:` stay."""
    text = re.sub(_INTERVALS, rf"\g<1>{interval_s}s", text)
    text = re.sub(_SUBQUERY, f"[5m:{interval_s}s]", text)
    return re.sub(r"\boffset \w+", f"offset {2 * interval_s}s", text)


def hasty(text: str, *, window_s: int = 4, age_s: int = 3) -> str:
    """The same, evaluated and scraped every second, that also judges within seconds.

    Windows of minutes become `window_s` (of a quarter of an hour, in which things happen several times, thrice that),
    subqueries twice that, `for:` a second. What is compared with an age (how old routes are, how long an event has
    waited) is compared with `age_s`, and a scrape has taken long after half a second. Windows of hours and days stay:
    they ask whether there ever was something. A file system in memory counts as a disk.
    """
    text = faster(text, interval_s=1)
    text = text.replace("[5m:1s]", f"[{2 * window_s}s:1s]")
    text = re.sub(rf"({_AGE})\d+", rf"\g<1>{age_s}", text)
    text = re.sub(_WINDOW, lambda found: f"[{3 * window_s if int(found[1]) >= _LONG_MIN else window_s}s]", text)
    text = text.replace('fstype!~"tmpfs|', 'fstype!~"')
    text = re.sub(_SCRAPE_TOOK, r"\g<1>0.5", text)
    return re.sub(_HOLD, r"\g<1>1s", text)
