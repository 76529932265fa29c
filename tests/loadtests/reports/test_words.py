"""How reports write numbers and names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.reports import words


def test_what_never_came_has_no_latency() -> None:
    """It is no number at all."""
    assert "never" == words.latency(None)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (words.count, 12345.0, "12,345"),
        (words.rate, 19991.4, "19,991"),
        (words.rate, 20.0, "20"),
        (words.rate, 0.25, "0.2"),
        (words.latency, 0.844, "0.84 ms"),
        (words.latency, 12.34, "12.3 ms"),
        (words.latency, 1250.2, "1,250 ms"),
        (words.share, 1.214, "121 %"),
        (words.share, 0.0996, "10 %"),
        (words.share, 0.0041, "0.4 %"),
        (words.size, 512.0, "512 B"),
        (words.size, -2048.0, "-2.0 KiB"),
        (words.size, 83.4 * (1 << 20), "83.4 MiB"),
        (words.size, 24.0 * (1 << 30), "24.0 GiB"),
        (words.span, 2.31, "2.3 s"),
        (words.span, 20.0, "20 s"),
        (words.span, 119.7, "2 min"),
        (words.span, 600.0, "10 min"),
        (words.span, 5425.0, "1 h 30 min 25 s"),
        (words.number, 0.5, "0.5"),
        (words.number, 4321.0, "4,321"),
    ],
)
def test_numbers_have_their_unit_and_no_more_digits_than_say_something(
    write: Callable[[float], str], value: float, text: str
) -> None:
    """The same in the terminal, on the page and in the verdict."""
    assert text == write(value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("back_95_seconds", 2.31, ("back 95", "2.3 s")),
        ("slowest_ms", 12.0, ("slowest", "12.0 ms")),
        ("kept_bytes", 2048.0, ("kept", "2.0 KiB")),
        ("seconds", 3.0, ("seconds", "3")),
        ("rooms_seen", 12.0, ("rooms seen", "12")),
    ],
)
def test_figures_of_a_scenario_name_their_unit(name: str, value: float, told: tuple[str, str]) -> None:
    """It moves from the name to the value; a name without one stays whole."""
    assert told == words.named(name, value)


def test_text_stays_on_its_line_and_in_its_direction() -> None:
    """What would speak to a terminal, or turn the line around, is seen as something that was there."""
    assert "a b\ufffd[31mc\ufffdd\ufffd é" == words.clean("a\nb\x1b[31mc\u202ed\x00\u00a0é")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://127.0.0.1:8000/metrics", "127.0.0.1:8000"),
        ("https://a.example/b/metrics", "a.example/b"),
        ("node-1", "node-1"),
    ],
)
def test_a_node_is_named_by_where_it_is(url: str, where: str) -> None:
    """What all have in common is left out."""
    assert where == words.address(url)


def test_a_profile_from_a_file_may_hold_anything() -> None:
    """What is no number counts as none."""
    assert [20.0, 0.0, 0.0] == [words.field({"rate": 20, "size": "x"}, it) for it in ("rate", "size", "ramp")]
