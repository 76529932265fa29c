"""Figures: what is drawn, in which colours, and that they are the same each time."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from loadtests.reports import drawing
from loadtests.reports.drawing import NARROW, POINTS, Bar, Line, Panel, Point, Span, bars, course, tail
from loadtests.reports.svg import PALETTE, ROLES, SHEET, bare

SVG = "{http://www.w3.org/2000/svg}"
RISING: list[Point] = [(float(at), float(at)) for at in range(10)]


def read(text: str) -> ET.Element:
    """Return the root of a figure."""
    return ET.fromstring(text)  # noqa: S314 - we wrote it


def texts(root: ET.Element) -> list[str]:
    """Return all that is written."""
    return [it.text or "" for it in root.iter(f"{SVG}text")]


def lines(root: ET.Element, role: str) -> list[ET.Element]:
    """Return what is drawn in this colour."""
    return [it for it in root.iter(f"{SVG}path") if it.get("class") == f"s-{role}"]


def panel(*points: Point, may_be_log: bool = False, peaks: bool = False) -> str:
    """Return a figure with one line."""
    made = Panel(title="latency, ms", lines=[Line("p99", points, peaks)], may_be_log=may_be_log)
    return course([made], seconds=max(x for x, _ in points) + 1, told="one line")


def test_a_figure_is_the_same_each_time() -> None:
    """Nothing in it depends on the day or on chance."""
    assert panel(*RISING) == panel(*RISING)


def test_every_colour_is_of_the_palette() -> None:
    """Each has a light and a dark form, in the sheet that the figure brings; nothing asks for a style of its own."""
    figure = course(
        [Panel(title=f"panel {number}", lines=[Line(f"line {it}", RISING) for it in range(8)]) for number in range(2)],
        seconds=10.0,
        told="all",
        spans=[Span("ramp", 0.0, 5.0)],
        marks=[3.0],
    )
    assert set(re.findall(r"#[0-9a-f]{6}", bare(figure))) <= set(ROLES)
    assert "style=" not in figure
    assert SHEET in figure
    assert all(dark in SHEET and light in SHEET for light, dark in PALETTE.values())
    for element in read(bare(figure)).iter():
        for what, letter in (("fill", "f"), ("stroke", "s")):
            if element.get(what) in ROLES:
                assert f"{letter}-{ROLES[element.attrib[what]]}" in element.attrib["class"].split()


def test_what_is_referred_to_is_there() -> None:
    """Clip paths keep lines inside their plot: an empty one would hide them."""
    root = read(panel(*RISING))
    clips = {it.attrib["id"]: list(it) for it in root.iter(f"{SVG}clipPath")}
    used = {it.attrib["clip-path"] for it in root.iter() if "clip-path" in it.attrib}
    assert used
    assert {f"url(#{name})" for name, inside in clips.items() if inside} >= used


def test_text_is_text() -> None:
    """It can be read, searched for, and holds nothing that is not text."""
    hostile = '</text><script>alert(1)</script>&"$\\frac{1}{2}$\x1b\u202e_'
    one = course([Panel(title=hostile, lines=[Line(hostile, RISING), Line("_b", RISING)])], seconds=10, told=hostile)
    two = bars(hostile, [Bar(name=hostile, median=1, low=1, high=1)], hostile)
    three = tail(hostile, [Line(hostile, [(1.0, 1.0), (10.0, 2.0)]), Line("b", [(1.0, 1.0)])], told=hostile)
    for figure in (one, two, three):
        root = read(figure)
        assert not list(root.iter(f"{SVG}script"))
        assert any("script" in it for it in texts(root))
        assert not any("\x1b" in it or "\u202e" in it for it in texts(root))
        assert "\ufffd" in root.attrib["aria-label"]
    assert any("$" in it for it in texts(read(one)))


def test_names_may_be_in_any_script() -> None:
    """The reader's font shows them, whether or not matplotlib's own does."""
    assert {"\u8282\u70b9-1", "\U0001f680"} <= set(
        texts(
            read(bars("nodes", [Bar(name=it, median=1, low=1, high=1) for it in ("\u8282\u70b9-1", "\U0001f680")], ""))
        )
    )


def test_a_gap_breaks_the_line() -> None:
    """A node that was away for a while shows as one that was away."""
    (drawn,) = lines(read(panel((0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0), (4.0, 2.0))), "blue")
    assert 2 == drawn.attrib["d"].count("M")


def test_long_lines_are_thinned_and_keep_their_gaps() -> None:
    """To means, or to peaks where a mean would hide what matters."""
    points: list[Point] = [(float(at), None if 1000 <= at < 1100 else float(at % 10)) for at in range(3000)]
    means, peaks = drawing.thinned(points), drawing.thinned(points, peaks=True)
    assert len(means) <= POINTS
    assert {4.5, None} == {value for _, value in means}
    assert {9.0, None} == {value for _, value in peaks}
    assert points[:20] == drawing.thinned(points[:20])


def test_no_peak_falls_into_a_gap() -> None:
    """A second that stood alone between two stalls is the one that matters."""
    points: list[Point] = [(float(at), None) for at in range(3000)]
    points[1234] = (1234.0, 3516.0)
    thin = drawing.thinned(points, peaks=True)
    assert [(1230.0, 3516.0)] == drawing.lone(thin)
    assert not [value for _, value in drawing.thinned(points) if value is not None]


def test_a_point_without_neighbours_is_drawn() -> None:
    """A line through it alone would show nothing."""
    with_it, without = (
        drawing.course(
            [Panel(title="p", lines=[Line("max", [(0.0, 1.0), (1.0, 1.0), (2.0, None), (3.0, it), (4.0, None)])])],
            seconds=4.0,
            told="t",
        )
        for it in (5.0, None)
    )
    assert with_it.count("<path") == without.count("<path") + 1


@pytest.mark.parametrize(
    ("value", "top"), [(0.03, 0.05), (1.0, 1.0), (9.1, 10.0), (100.0, 100.0), (130.0, 200.0), (2100.0, 2500.0)]
)
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    """At or above the highest value."""
    assert top == pytest.approx(drawing.rounded_up(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.25, "0.25"), (12.5, "12.5"), (1250.0, "1,250"), (12_500_000.0, "12.5 M"), (2e9, "2 G")],
)
def test_amounts_are_short(value: float, text: str) -> None:
    """They stand beside an axis."""
    assert text == drawing.amount(value)


def test_an_axis_is_logarithmic_where_the_range_asks_for_it() -> None:
    """And only where it may be."""
    far: list[Point] = [(0.0, 0.4), (1.0, 300.0), (2.0, 0.0)]
    assert {"0.1", "1", "10", "100", "1,000"} <= set(texts(read(panel(*far, may_be_log=True))))
    assert {"0", "250", "500"} <= set(texts(read(panel(*far))))
    assert {"0", "5", "10"} <= set(texts(read(panel(*RISING, may_be_log=True))))


def test_nothing_measured_is_drawn_as_nothing() -> None:
    """An empty plot, and no error."""
    assert {"0", "0.5", "1"} <= set(texts(read(panel((0.0, None), may_be_log=True))))
    assert "closes" in texts(read(course([Panel(title="closes", lines=[])], seconds=1.0, told="")))
    assert "latency" in texts(read(tail("latency", [], told="")))
    assert "none" in texts(read(bars("none", [], "")))


def test_one_line_needs_no_legend() -> None:
    """Its title names it; several are named, in as many rows as they need."""
    alone = read(panel(*RISING))
    assert "p99" not in texts(alone)
    names = [f"127.0.0.1:800{number}" for number in range(6)]
    many = read(
        course([Panel(title="CPU", lines=[Line(it, RISING) for it in names])], seconds=10, told="", width=NARROW)
    )
    assert set(names) <= set(texts(many))
    placed = [it for it in many.iter(f"{SVG}text") if it.text in names]
    assert 1 < len({it.attrib["y"] for it in placed})
    assert all(float(it.attrib["x"]) + len(it.text or "") * drawing.LETTER <= NARROW for it in placed)


def test_long_names_lose_their_middle() -> None:
    """Their ends tell them apart."""
    names = [f"http://a-long-name-of-a-cluster.example.org:800{number}" for number in range(2)]
    root = read(course([Panel(title="", lines=[Line(it, RISING) for it in names])], seconds=10, told=""))
    shown = [it for it in texts(root) if it.startswith("http")]
    assert ["http://a-long-nam\u2026example.org:8000", "http://a-long-nam\u2026example.org:8001"] == shown


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (27.0, {"0 s", "5", "25"}),
        (600.0, {"0 min", "2", "10"}),
        (10_800.0, {"0 min", "30", "180"}),
        (86_400.0, {"0 h", "24"}),
    ],
)
def test_time_is_told_in_its_unit(seconds: float, labels: set[str]) -> None:
    """Seconds, minutes or hours, at round numbers."""
    made = Panel(title="x", lines=[Line("x", [(0.0, 1.0), (seconds, 1.0)])])
    assert labels <= set(texts(read(course([made], seconds=seconds, told="", width=NARROW))))


def test_phases_are_named_where_there_is_room() -> None:
    """All of them are shaded."""
    spans = [Span("ramp", 0.0, 40.0), Span("warm-up", 40.0, 41.0)]
    root = read(course([Panel(title="x", lines=[])], seconds=100.0, told="", spans=spans))
    assert 2 == len([it for it in root.iter(f"{SVG}path") if it.get("class") == "f-shade"])
    assert {"ramp"} == {"ramp", "warm-up"} & set(texts(root))


def test_marks_are_numbered() -> None:
    """One in each panel, the number above the first."""
    panels = [Panel(title=it, lines=[Line(it, RISING)]) for it in ("a", "b")]
    root = read(course(panels, seconds=10.0, told="", marks=[2.0, 7.5]))
    assert 4 == len(lines(root, "mark"))
    assert ["1", "2"] == [it.text for it in root.iter(f"{SVG}text") if it.get("class") == "f-mark"]


def test_a_tail_is_labelled_by_percentiles() -> None:
    """Each nine has its place; of very many, every other is named."""
    known: list[Point] = [(1.0, 1.0), (2.0, 2.0), (10.0, 3.0), (100.0, 50.0), (1000.0, 90.0)]
    assert {"50 %", "90 %", "99 %", "99.9 %"} <= set(texts(read(tail("x", [Line("a", known)], told=""))))
    long = set(texts(read(tail("x", [Line("a", [*known, (2e8, 91.0)])], told=""))))
    assert {"90 %", "99.9 %", "99.999 %"} <= long
    assert "99 %" not in long


def test_bars_show_how_far_apart_the_runs_were() -> None:
    """A whisker from the lowest to the highest; the one that matters stands out."""
    rows = [
        Bar(name="C loop", median=155_000, low=145_000, high=174_000),
        Bar(name="this gateway", median=120_000, low=120_000, high=120_000, emphasis=True),
    ]
    root = read(bars("Deliveries", rows, "per second"))
    assert {"Deliveries, per second", "C loop", "155,000", "120,000"} <= set(texts(root))
    assert 3 == len(lines(root, "text"))
    assert ["f-plain", "f-blue"] == [
        it.attrib["class"] for it in root.iter(f"{SVG}path") if it.get("class", "")[0] == "f"
    ]
    assert "C loop 155,000 (145,000 to 174,000)" in root.attrib["aria-label"]
    bold = {it.text for it in root.iter(f"{SVG}text") if it.get("font-weight") == "700"}
    assert {"Deliveries, per second", "this gateway", "120,000"} == bold
