from __future__ import annotations

from math import inf

import pytest

from loadtests.plan import wording
from loadtests.plan.workload import PlanError


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("0.5", 0.5), ("250_000", 250_000), ("250k", 250_000), ("0.25M", 250_000), ("1G", 10**9), ("1e3", 1000)],
)
def test_numbers_with_units(text: str, number: float) -> None:
    """Thousands, millions and billions may be short."""
    assert wording.parsed(text) == number


@pytest.mark.parametrize("text", ["", "k", "1kk", "ten", "1 0", "0x10", "1m"])
def test_what_is_no_number(text: str) -> None:
    """Anything else is refused, with examples; `m` is not taken for a million."""
    with pytest.raises(PlanError, match="is no number; these are"):
        wording.parsed(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.07, "0.07"), (3, "3"), (12.6, "13"), (99_999, "99,999"), (100_000, "100 k"), (2.5e6, "2.5 M"),
     (33.3e6, "33.3 M"), (5e9, "5 G"), (inf, "never ends")],
)  # fmt: skip
def test_counts(value: float, text: str) -> None:
    """Counts are exact while that is short, and three digits afterwards."""
    assert wording.count(value) == text


def test_sizes_times_and_shares() -> None:
    """Bytes by 1,024, bits by 1,000, minutes from five on, and shares that are not 0 do not look like it."""
    assert wording.size(1536) == "1.5 KiB"
    assert wording.size(3 * 2**40) == "3 TiB"
    assert wording.size(5000 * 2**40) == "5,000 TiB"
    assert wording.bits(1500) == "1.5 kbit/s"
    assert wording.bits(0) == "0 bit/s"
    assert wording.seconds(59.6) == "60 s"
    assert wording.seconds(600) == "10 min"
    assert wording.seconds(inf) == "never"
    assert wording.share(0) == "0 %"
    assert wording.share(0.004) == "0.4 %"
    assert wording.share(1.96) == "196 %"


def test_ranges() -> None:
    """A range in which all reads the same is none; ends are in order; an end that cannot be is asked."""
    assert wording.spanned(3, 3.1, 3.2, wording.seconds) == "3 s"
    assert wording.spanned(9, 12, 17, wording.count) == "12 (9-17)"
    assert wording.spanned(17, 12, 9, wording.count) == "12 (9-17)"
    assert wording.spanned(9, 12, None, wording.count) == "12 (9-?)"
    assert wording.between(9, 10, 0, wording.count) == "0-10"
