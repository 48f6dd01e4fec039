"""From the SVG that matplotlib writes to one that lives in a page: classes for styles, variables for colours.

Styles become classes so that the page's content security policy can forbid every style but the page's own sheet, and
colours become variables so that the same picture is readable in light and dark.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from markupsafe import Markup

SERIES = 6
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins that nobody would pick; the page's sheet says what they are."""
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"}
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def series_colour(number: int) -> str:
    """The stand-in of the n-th line or bar; they come again after SERIES."""
    return f"#0a0a{number % SERIES:02x}"


class Styles:
    """The classes of all pictures of a page, each once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, declarations: str) -> str:
        """The class for these declarations."""
        return self._names.setdefault(declarations, f"p{len(self._names)}")

    def sheet(self) -> str:
        """All of them as CSS."""
        return "\n".join(f".{name}{{{declarations}}}" for declarations, name in self._names.items())


def inline(text: str, *, anchor: str, title: str, description: str, styles: Styles) -> Markup:
    """The picture as an `<svg>` element whose ids begin with `anchor`, with words for who cannot see it.

    What has an id that begins with `series` gets the class `series`: one line or bar.
    """
    root = ElementTree.fromstring(text)  # noqa: S314 - matplotlib wrote it a moment ago
    used = {reference for element in root.iter() for reference in _references(element)}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # HTML knows it without a namespace
        _restyle(element, styles)
        _rename(element, anchor, used)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{anchor}-title {anchor}-description"}
    for tag, content in (("description", description), ("title", title)):
        element = ElementTree.Element("desc" if tag == "description" else tag, {"id": f"{anchor}-{tag}"})
        element.text = content
        root.insert(0, element)
    # ElementTree escaped every text and attribute.
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _references(element: ElementTree.Element) -> list[str]:
    found = [match for value in element.attrib.values() for match in _REFERENCE.findall(value)]
    return [*found, *([element.attrib[_LINK][1:]] if _LINK in element.attrib else [])]


def _restyle(element: ElementTree.Element, styles: Styles) -> None:
    kept = []
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if value.startswith("url("):
            element.set(name, value)  # an id, which is renamed with the others: hatches
        elif name and name != "font-family":  # the page's own
            kept.append(f"{name}:{_colour(value)}")
    coloured = [name for name in ("fill", "stroke") if element.get(name, "").startswith("#")]
    kept += [f"{name}:{_colour(element.attrib.pop(name))}" for name in coloured]
    classes = [styles.name(";".join(kept))] if kept else []
    if element.attrib.get("id", "").startswith("series"):
        classes.append("series")
    if classes:
        element.set("class", " ".join(classes))


def _rename(element: ElementTree.Element, anchor: str, used: set[str]) -> None:
    own = element.attrib.pop("id", None)
    if own in used:
        element.set("id", f"{anchor}-{own}")
    if target := element.attrib.pop(_LINK, None):
        element.set("href", f"#{anchor}-{target[1:]}")
    for name, value in list(element.attrib.items()):
        if "url(#" in value:
            element.set(name, _REFERENCE.sub(rf"url(#{anchor}-\1)", value))


def _colour(value: str) -> str:
    if value.startswith("#0a0a"):
        return f"var(--series-{int(value[5:], 16)})"
    return f"var({_VARIABLES[value]})" if value in _VARIABLES else value
