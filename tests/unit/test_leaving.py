from __future__ import annotations

from contextlib import ExitStack
from io import StringIO
from typing import Any

import pytest

from gateway.errors import OperatorError
from gateway.leaving import Errand, drain, errands, node_urls
from gateway.settings import Settings
from tests.support.answering import answering


def settings(**sections: Any) -> Settings:
    """Return settings with a key."""
    return Settings.model_validate({"http_api": {"key": "k"}, **sections})


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"address": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"address": "::"}, "http://[::1]:8000"),
        ({"address": "10.0.0.1", "internal_port": 9000}, "http://10.0.0.1:9000"),
        ({"address": "0.0.0.0", "internal_address": "127.0.0.9", "internal_port": 9000}, "http://127.0.0.9:9000"),
    ],
)
def test_a_node_is_found_by_its_settings(server: dict[str, Any], url: str) -> None:
    """On the internal port if there is one, and on this machine if it listens everywhere."""
    assert [url] == node_urls(settings(http_server=server))


def test_a_port_that_only_the_node_knows_must_be_named() -> None:
    """Port 0 is any."""
    with pytest.raises(OperatorError, match="--url"):
        node_urls(settings(http_server={"internal_port": 0}))


def test_the_wait_is_as_long_as_the_settings_allow() -> None:
    """At least a minute, unless a time was given."""
    assert 60.0 == errands(settings(shutdown={"window": 1, "timeout": 2}))[0].timeout
    assert 145.0 == errands(settings(shutdown={"delay": "10s", "window": "2m", "timeout": "5s"}))[0].timeout
    assert 3.0 == errands(settings(), timeout=3.0)[0].timeout


HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "answered with status 503"),
        (b"SSH-2.0-OpenSSH\r\n", "is no node of the gateway"),
        (b"", "could not be asked"),
        (HEAD + b"<html>\n", "is no node of the gateway"),
        (HEAD + b"[]\n", "is no node of the gateway"),
        (HEAD + b'{"error":{"code":100,"message":"no"}}', "is no node of the gateway"),
        (
            CHUNKED + b'20\r\n{"remaining":7,"drained":false}\n\r\n5\r\n{"re',
            "went away before it was drained; 7 connections were left",
        ),
        (HEAD + b'{"remaining":7,"drained":false}\n', "went away before it was drained; 7 connections were left"),
    ],
)
def test_what_is_no_drained_node_is_told_in_one_line(answer: bytes, says: str) -> None:
    """Whoever answers, and however: the operator reads a line that names the address."""
    with answering(answer, until=b"}") as (url, _), pytest.raises(OperatorError) as raised:
        drain([Errand(url, "k", wait=True, timeout=60.0)], StringIO())
    assert str(raised.value).startswith(url)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port"])
def test_an_url_that_is_none_is_told(url: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(OperatorError, match=r"--url .*: should be as http://127\.0\.0\.1:8000"):
        drain([Errand(url, "k", wait=True, timeout=60.0)], StringIO())


# --- several at once


def test_all_workers_are_found_by_their_settings() -> None:
    """Each by its own internal port; one that is named is asked alone."""
    several = settings(http_server={"workers": 3, "internal_port": 9000})
    assert ["http://127.0.0.1:9000", "http://127.0.0.1:9001", "http://127.0.0.1:9002"] == node_urls(several)
    assert ["http://other:1"] == [it.url for it in errands(several, url="http://other:1")]


def lines(*told: tuple[int, bool]) -> bytes:
    """Build the answer of a node that tells this."""
    return HEAD + b"".join(
        b'{"remaining":%d,"drained":%s}\n' % (left, b"true" if drained else b"false") for left, drained in told
    )


def drained_together(*answers: bytes, wait: bool = True) -> tuple[list[str], str]:
    """Drain nodes that answer so; return the lines that were told, and the error."""
    out = StringIO()
    with ExitStack() as stack:
        urls = [stack.enter_context(answering(it, until=b"}"))[0] for it in answers]
        try:
            drain([Errand(it, "k", wait=wait, timeout=60.0) for it in urls], out)
        except OperatorError as error:
            return out.getvalue().splitlines(), str(error)
    return out.getvalue().splitlines(), ""


def test_several_are_drained_when_all_are() -> None:
    """They are counted together, and whoever is still busy sets the pace."""
    told, error = drained_together(lines((2, False), (0, True)), lines((3, False), (1, False), (0, True)))
    assert "" == error
    assert "drained" == told[-1]
    counts = [int(it.split()[0]) for it in told[:-1]]
    assert set(counts) <= {0, 1, 2, 3, 5}
    assert sorted(counts, reverse=True) == counts


def test_without_waiting_the_sum_is_told() -> None:
    """One line, when all have begun."""
    assert (["5 connections left"], "") == drained_together(lines((2, False)), lines((3, False)), wait=False)
    assert (["drained"], "") == drained_together(lines((0, True)), lines((0, True)), wait=False)


def test_one_that_fails_keeps_no_other_from_its_end() -> None:
    """All are asked, and the operator reads a line for each that failed."""
    ended, error = drained_together(lines((2, False), (0, True)), b"SSH-2.0-OpenSSH\r\n", lines((4, False)))
    assert "drained" not in ended
    assert {"is no node of the gateway: its answer makes no sense", "4 connections were left"} == {
        it.partition(" ")[2].removeprefix("went away before it was drained; ") for it in error.splitlines()
    }


def test_a_bug_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no operator can mend keeps its traceback, though it happened in another thread."""
    monkeypatch.setattr("gateway.leaving.connected", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drain([Errand("http://127.0.0.1:1", "k", wait=True, timeout=60.0)] * 2, StringIO())
