"""The report: it shows what was recorded, links it to the raw data, believes none of it, and needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chassis.testing.browser import draw
from loadtest.evidence import report
from loadtest.evidence.numbers import demand, figure, number
from loadtest.evidence.record import Curves, Line, Part
from loadtest.evidence.report import pictures, svg
from loadtest.evidence.report.overview import VERDICTS, noise
from loadtest.evidence.report.svg import SERIES
from loadtest.tests.evidence_sample import HOSTILE, record

DATA = "2026-11-30-0123456789.json"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Element:
    """An element of the page, with all text inside it."""

    def __init__(self, tag: str, attributes: dict[str, str], parents: list[Element]) -> None:
        self.tag, self.attributes, self.parents, self.text = tag, attributes, parents, ""

    def within(self, tag: str, **attributes: str) -> bool:
        """Whether it lies in such an element."""
        return any(each.tag == tag and attributes.items() <= each.attributes.items() for each in self.parents)


class Reader(HTMLParser):
    """All elements, as a browser tells them from text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, [*self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> ends <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


@pytest.fixture(scope="module")
def html() -> str:
    """The page of the record that has everything."""
    return report.page(record(), data=DATA)


@pytest.fixture(scope="module")
def elements(html: str) -> list[Element]:
    """Its elements."""
    return Reader(html).elements


def rows(elements: list[Element], *, of: str) -> list[list[Element]]:
    """The elements in each row of the body of the tables of that class, rows of a group's name left out."""
    found = [each for each in elements if each.tag == "tr" and each.within("tbody") and _kind(each) == of]
    return [
        [each for each in elements if row in each.parents] for row in found if row.attributes.get("class") != "group"
    ]


def _kind(row: Element) -> str:
    if row.within("table", **{"class": "claims"}):
        return "claims"
    return "figures" if row.within("figure") else "tables"


@pytest.mark.parametrize(("of", "count"), [("claims", 9), ("tables", 4)])
def test_every_row_leads_to_its_raw_data(elements: list[Element], of: str, count: int) -> None:
    """Each claim and each row of a table links to runs that are in the page."""
    there = {each.attributes["id"] for each in elements if "id" in each.attributes}
    found = rows(elements, of=of)
    assert len(found) == count
    for row in found:
        links = [each.attributes["href"] for each in row if each.tag == "a"]
        assert links
        assert all(link.startswith("#run-") and link[1:] in there for link in links)


def test_a_link_leads_to_the_run_it_names(elements: list[Element]) -> None:
    """The claim about errors with retry shows the run `with retry`: its statuses, its histogram in short."""
    (row,) = (row for row in rows(elements, of="claims") if any("Retries hide it" in each.text for each in row))
    (link,) = (each for each in row if each.tag == "a")
    (raw,) = (each for each in elements if each.attributes.get("id") == link.attributes["href"][1:])
    (details,) = (each for each in raw.parents if each.tag == "details")
    assert "with retry" in details.text
    assert '"statuses": {"200": 5000}' in raw.text
    assert "characters in the data file" in raw.text


def test_every_link_leads_somewhere_and_every_id_is_there_once(elements: list[Element]) -> None:
    """Links of the pictures' own (markers, clips) too."""
    ids = [each.attributes["id"] for each in elements if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    inner = [value for each in elements for value in each.attributes.values() if value.startswith(("#", "url(#"))]
    named = {re.sub(r"^(url\()?#|\)$", "", value) for value in inner}
    assert named <= set(ids)
    labels = [each.attributes["aria-labelledby"] for each in elements if "aria-labelledby" in each.attributes]
    assert labels
    assert {name for label in labels for name in label.split()} <= set(ids)


def test_what_was_recorded_stays_text(html: str, elements: list[Element]) -> None:
    """Hostile strings make no element, no attribute, no style, no template; what no document may hold is replaced."""
    assert {each.tag for each in elements}.isdisjoint({"script", "img", "iframe", "object", "link", "base", "form"})
    assert not [name for each in elements for name in each.attributes if name.startswith("on")]
    assert not [each for each in elements if "style" in each.attributes]
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert any(each.tag == "h2" and each.text == shown for each in elements)
    assert any(each.tag == "title" and each.text == shown for each in elements)
    assert "{{ 7*7 }}" in html
    assert "\x00" not in html
    html.encode()


def test_it_needs_no_other_file_and_no_network(html: str, elements: list[Element]) -> None:
    """Links go to the page itself and to the data beside it; the policy forbids all but the page's own style sheet."""
    addresses = {
        value
        for each in elements
        for name, value in each.attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"} and not value.startswith("#")
    }
    assert addresses == {f"./{DATA}"}
    (sheet,) = (each.text for each in elements if each.tag == "style")
    assert "@import" not in sheet
    assert "url(" not in sheet
    (policy,) = (each for each in elements if each.attributes.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy.attributes["content"]
    assert len(html) < 3_000_000


def test_a_verdict_is_a_word(elements: list[Element]) -> None:
    """All of them are in the page; what does not hold says so in its own row, as plainly as what holds."""
    found = rows(elements, of="claims")
    shown = {
        each.text.strip()[2:] for row in found for each in row if "verdict" in each.attributes.get("class", "").split()
    }
    assert shown == set(VERDICTS)
    (cells,) = (
        [each.text.strip() for each in row if each.tag in {"td", "th"}]
        for row in found
        if any("less than a fifth" in each.text for each in row)
    )
    assert cells[0] == "✗ does not hold"
    assert cells[2:5] == ["≥ 0.8×", "0.710×", "0.690× to 0.740×"]


def test_noise_is_said_at_the_top(html: str) -> None:
    """Before any figure: how far rounds differed, on how many claims that leaves no verdict, and why."""
    top = html[: html.index('<h2 id="claims">')]
    assert "<strong>Rounds differ:</strong>" in top
    assert "The machine was too noisy for a verdict on 3 of 9 claims" in top
    assert "1 of 9 claims has too few rounds for a verdict" in top
    assert "4 rounds were left out of claims as void" in top


def test_what_claims_nothing_is_said_at_the_top() -> None:
    """A part without claims is about the machine: its title, which is its word, stands where noise is told."""
    less = record()
    less["parts"] = [less["parts"][1] | {"name": "yardstick", "title": "The machine: quiet", "claims": []}]
    html = report.page(less, data=DATA)
    assert '<a href="#part-yardstick">The machine: quiet</a>.</p>' in html[: html.index('<h2 id="claims">')]


def test_void_rounds_are_named(elements: list[Element]) -> None:
    """Why a claim has no verdict stands beside it, each reason once."""
    (row,) = (row for row in rows(elements, of="claims") if any("As fast as its twin" in each.text for each in row))
    assert [each.text for each in row if each.attributes.get("class") == "void"] == [
        "Left out: round 3: the generator used 91% of its core (2 rounds)",
        "Left out: round 4: the machine slept",
    ]


def test_a_picture_has_all_lines_and_bars_and_its_words(elements: list[Element]) -> None:
    """One shape a line or bar, a title, a description, and the figures as a table."""
    wanted = [picture for part in record()["parts"] for picture in part["pictures"]]
    figures = [each for each in elements if each.tag == "figure"]
    assert len(figures) == len(wanted)
    for shown, picture in zip(figures, wanted, strict=True):
        inside = [each for each in elements if shown in each.parents]
        series = [each for each in inside if "series" in each.attributes.get("class", "").split()]
        assert len(series) == len(picture.get("lines", picture.get("bars")))
        (svg,) = (each for each in inside if each.tag == "svg")
        title, description, *_ = (each for each in inside if svg in each.parents)
        assert (title.tag, description.tag) == ("title", "desc")
        assert title.text
        assert description.text
        assert any(each.tag == "table" for each in inside)
        assert ("nothing was measured" in svg.text) == (picture["title"] == "No lines")
        assert svg.attributes["role"] == "img"


def test_no_two_lines_or_bars_differ_by_colour_alone() -> None:
    """Dashes, markers and hatches all differ as long as colours do."""
    lines = [Line(name=str(n), points=[(0, n), (1, n)]) for n in range(SERIES)]
    shown = Part(name="p", title="P", pictures=[Curves(id="x", title="x", x="x", y="y", lines=lines)]).record()
    drawn = pictures._curves(shown["pictures"][0]).axes[0].lines
    assert len({str(line.get_marker()) for line in drawn}) == SERIES
    assert len({str(dashes) for dashes in pictures._DASHES}) == SERIES
    assert len(set(pictures._HATCHES)) == SERIES


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
def test_axes_are_as_asked(log_x: bool, log_y: bool) -> None:
    """Logarithmic where asked, unless there is nothing above zero to show there."""
    picture = record()["parts"][0]["pictures"][0] | {"log_x": log_x, "log_y": log_y}
    axes = pictures._curves(picture).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == tuple("log" if log else "linear" for log in (log_x, log_y))
    below = picture | {"lines": [{"name": "zero", "points": [(0, 0), (-1, -1)], "low": (), "high": ()}], "marks": []}
    axes = pictures._curves(below).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


def test_bars_are_logarithmic_where_asked() -> None:
    """The others begin at zero."""
    _, rates, shares = record()["parts"][0]["pictures"]
    assert pictures._bars(rates).axes[0].get_xscale() == "log"
    axes = pictures._bars(shares).axes[0]
    assert (axes.get_xscale(), axes.get_xlim()[0]) == ("linear", 0)


def test_the_same_record_gives_the_same_page(html: str) -> None:
    """To the byte, from the objects as from the file."""
    read = json.loads(json.dumps(record()))
    assert report.page(read, data=DATA) == html


def test_the_page_stays_small() -> None:
    """However much was recorded; what is cut says so."""
    large = record()
    large["parts"] = [large["parts"][0] | {"pictures": []}]
    run = large["parts"][0]["runs"]["before round 1"]
    large["parts"][0]["runs"] = {f"run {n}": {str(again): run for again in range(40)} for n in range(300)}
    html = report.page(large, data=DATA)
    assert len(html) < 3_000_000
    assert html.count("more characters in the data file") == 300


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quick": True}, "A look, not a result."),
        ({"complete": False}, "Not all of it."),
        ({"commit": "0123456789-dirty"}, "Not the commit."),
        ({"machine": record()["machine"] | {"pinned": False}}, "No core of its own."),
    ],
)
def test_it_says_what_makes_a_result_less(html: str, changes: dict[str, Any], words: str) -> None:
    """A quick run, a part of one, another state of the tree, and no core to spare are said at the top."""
    assert words not in html
    less = record() | changes
    less["parts"] = less["parts"][1:2]
    assert words in report.page(less, data=DATA)


def test_an_empty_record_is_a_page() -> None:
    """No part, no claim: nothing is made up."""
    html = report.page(record() | {"parts": []}, data=DATA)
    assert "Nothing was measured more than once" in html


def test_noise_is_that_of_the_claims_and_of_the_loads() -> None:
    """Spread of the middle claim and of the worst; rounds left out; loads that were void."""
    outcome = {"void": "the generator used 90% of its core"}
    claims = [
        {"values": values, "void": void, "verdict": "too noisy to say" if void else "holds", "interval": None}
        for values, void in (([9, 10, 11], []), ([10, 10, 10], ["x"]), ([5, 10, 15], []), ([0, 0], []), ([], ["y"]))
    ]
    seen = noise({"parts": [{"claims": claims, "runs": {"a": [outcome, {"void": ""}], "b": {"c": outcome}}}]})
    assert [seen.spread, seen.widest] == pytest.approx([0.2, 1.0])
    assert (seen.noisy, seen.few) == (2, 0)
    assert (seen.void_rounds, seen.loads, seen.void_loads, seen.quiet) == (2, 3, 2, False)


def test_the_terminal_shows_what_the_page_shows() -> None:
    """All verdicts, the reasons of those that are none, and nothing in brackets is markup."""
    changed = record(quick=True)
    changed["parts"][0]["claims"][0]["unit"] = "[red]"
    out = io.StringIO()
    Console(file=out, width=220).print(report.summary(changed))
    shown = out.getvalue()
    assert all(verdict in shown for verdict in VERDICTS)
    assert "Claims: a look, not a result" in shown
    assert "≥ 10 [red]" in shown
    assert "Does not hold: The gateway costs less than a fifth of the rate: 0.710×" in shown
    assert "Too noisy to say: As fast as its twin: round 3: the generator used 91% of its core (2 rounds)" in shown
    assert "3 holds, 1 does not hold, 3 too noisy to say, 1 too few rounds, 1 not measured" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.56, "1,230"), (0.012345, "0.0123"), (26.0, "26.0"), (999.6, "1,000"), (0.0, "0"), (-0.5, "-0.500"),
        (123456, "123,456"), (7, "7"), (True, "yes"), (1.5e-9, "1.50e-09"), (float("inf"), "∞"),
        (float("nan"), "not a number"), (1e15, "1,000,000,000,000,000"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    """And thousands separators; a whole number is a count, and stays what it is."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "text"),
    [
        (26.03, "x", 10, "26.0×"), (9.9996, "x", 10, "9.9996×"),
        (0.042, "%", None, "4.20 %"), (1.0, "%", 0.999, "100 %"),
        (0.99996, "%", 0.999, "99.996 %"), (50.0004, "ms", 50, "50.0004 ms"), (50.0, "ms", 50, "50.0 ms"),
        (87.31, "MiB", 128, "87.3 MiB"),
    ],
)  # fmt: skip
def test_a_figure_is_not_rounded_over_what_is_wanted(value: float, unit: str, wanted: float | None, text: str) -> None:
    """What just misses does not read as if it met it; nearly all is not all."""
    assert figure(value, unit, wanted=wanted) == text


def test_a_demand_is_exact() -> None:
    """It is nobody's measurement."""
    assert demand(0.9995, "%", "more") == "≥ 99.95 %"
    assert demand(1.2, "x", "less") == "≤ 1.2×"


def test_colours_can_be_read() -> None:
    """WCAG 2.2 in light and dark: 4.5 for text on its paper, 3 for what a picture is made of."""
    sheet = Path(svg.__file__).with_name("page.css").read_text()
    for theme in re.findall(r":root \{(.*?)\}", sheet, re.DOTALL):
        colours = dict(re.findall("--([a-z0-9-]+): (#[0-9a-f]{6})", theme))
        assert len(colours) == 20
        for text in ("ink", "muted", "link", "noisy"):
            assert _contrast(colours[text], colours["paper"]) >= 4.5, text
        for verdict in ("good", "bad", "noisy", "none"):
            assert _contrast(colours[verdict], colours[f"{verdict}-paper"]) >= 4.5, verdict
        for series in range(SERIES):
            assert _contrast(colours[f"series-{series}"], colours["paper"]) >= 3, series


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


FRAMES = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe width="1280" height="900" src="report.html#run-outage-with-retry"></iframe>
<iframe width="360" height="640" src="report.html#run-outage-with-retry"></iframe>
<script>
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement;
    frame.title = JSON.stringify({
      too_wide: root.scrollWidth - frame.contentWindow.innerWidth,
      figures: page.querySelectorAll("figure svg").length,
      paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      opened: page.querySelector(":target").closest("details").open,
    });
  }
});
</script>"""
"""What looks at the page from outside: inside, its own policy forbids every script."""


@pytest.fixture
def site(html: str, tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the page, its data and what looks at it, and nothing else."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "report.html").write_text(html, encoding="utf-8")
    (site / "frames.html").write_text(FRAMES)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    """It keeps no log."""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it(site: str, tmp_path: Path, dark: bool) -> None:
    """At a desk and on a phone, light and dark: nothing on the console, no scrolling sideways; a link opens its run."""
    drawn = draw(f"{site}/frames.html", tmp_path, dark=dark)
    assert "CONSOLE" not in drawn.log
    seen = [json.loads(each.attributes["title"]) for each in Reader(drawn.html).elements if each.tag == "iframe"]
    assert len(seen) == 2
    for frame in seen:
        assert frame == {
            "too_wide": min(frame["too_wide"], 0),
            "figures": sum(len(part["pictures"]) for part in record()["parts"]),
            "paper": "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)",
            "opened": True,
        }
