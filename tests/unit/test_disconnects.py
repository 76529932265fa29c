from __future__ import annotations

from collections import Counter

import pytest

from gateway import disconnects
from gateway.disconnects import DISCONNECTS, Disconnect
from gateway.errors import ERRORS, ErrorReply

COMES_BACK = {1002, 1003, 1007, 1009, 1011, 1012, 3000, 3001, 3004, 3005, 3006, 3008, 3010, 3011, 3012, 3013}


@pytest.mark.parametrize("disconnect", DISCONNECTS, ids=lambda it: str(it.code))
def test_the_range_of_a_code_says_whether_the_client_comes_back(disconnect: Disconnect) -> None:
    """SDKs decide by the range alone, so each code stands in the range of its meaning."""
    assert (disconnect.code in COMES_BACK) == disconnect.reconnect


@pytest.mark.parametrize(("code", "back"), [(3499, True), (3500, False), (3999, False), (4000, True), (4500, False)])
def test_ranges_end_where_the_protocol_says(code: int, back: bool) -> None:
    """The edges of the ranges, for codes that operators choose themselves."""
    assert back == Disconnect(code, "").reconnect
    assert Disconnect(5000, "").reconnect


def test_codes_and_reasons_are_unique() -> None:
    """A code means one thing, in logs, metrics and SDKs."""
    assert {1} == set(Counter(it.code for it in DISCONNECTS).values())
    assert {1} == set(Counter(it.reason for it in DISCONNECTS).values())


def test_reasons_fit_a_close_frame() -> None:
    """A close frame holds 125 bytes, two of them the code."""
    assert all(1 <= len(it.reason.encode()) <= 123 for it in DISCONNECTS)


def test_codes_may_be_sent_in_a_close_frame() -> None:
    """RFC 6455 reserves 1004, 1005, 1006 and 1015; below 3000 only registered codes may stand."""
    assert all(it.code in {1002, 1003, 1007, 1009, 1011, 1012} or 3000 <= it.code <= 4999 for it in DISCONNECTS)


def test_the_table_holds_every_constant() -> None:
    """Nothing that can be sent is missing from metrics and docs, and the table is in order."""
    constants = [it for it in vars(disconnects).values() if isinstance(it, Disconnect)]
    assert sorted(it.code for it in constants) == [it.code for it in DISCONNECTS]


def test_unsubscribe_codes_invite_from_2500_on() -> None:
    """SDKs subscribe again from 2500 on: only what the client can mend by itself stands there."""
    codes = {it.code for it in vars(disconnects).values() if isinstance(it, disconnects.Unsubscribed)}
    assert {2000, 2500, 2501} == codes


def test_error_codes_are_unique_and_in_the_protocols_range() -> None:
    """Below 100 is the SDKs' own range."""
    assert {1} == set(Counter(it.code for it in ERRORS).values())
    assert all(100 <= it.code < 2000 and it.message for it in ERRORS)


def test_temporary_errors_are_the_two_worth_a_retry() -> None:
    """SDKs repeat a command on a temporary error: only what time can mend may say so."""
    assert {100, 111} == {it.code for it in ERRORS if it.temporary}


def test_an_error_can_say_more_under_the_same_code() -> None:
    """The text may tell more; code and kind stay."""
    assert ErrorReply(111, "slower", temporary=True) == ERRORS[-2].saying("slower")
