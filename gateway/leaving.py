"""`gateway drain`: asks running nodes to empty themselves, and waits until they have."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Final, NamedTuple, TextIO
from urllib.parse import urlsplit

from gateway.errors import OperatorError
from gateway.settings import Settings
from gateway.settings.workers import worker_ports

ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to find who listens so
REQUEST_SECONDS: Final = 10.0  # for the node to answer at all; lines come each second
SLACK: Final = 10.0  # seconds beyond what the settings allow the node
LEAST_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Errand:
    """Which node is to be emptied; `timeout` in seconds, `wait` for its end."""

    url: str
    key: str
    wait: bool
    timeout: float


class Word(NamedTuple):
    """What is heard of one of several errands."""

    which: int
    left: int = 0  # connections
    drained: bool = False
    last: bool = False  # it is over
    fault: Exception | None = None


def errands(settings: Settings, *, url: str = "", wait: bool = False, timeout: float | None = None) -> Sequence[Errand]:
    """Fill in what the settings say: one node or all workers, unless `url` names one. Raises OperatorError."""
    key = settings.http_api.key.get_secret_value()
    if not key:
        raise OperatorError("http_api.key is empty, so nobody may ask: set it, or send SIGTERM, which drains too")
    shutdown = settings.shutdown
    if timeout is None:
        timeout = max(LEAST_TIMEOUT, shutdown.delay + shutdown.window + shutdown.timeout + SLACK)
    return [Errand(it, key, wait, timeout) for it in ([url] if url else node_urls(settings))]


def node_urls(settings: Settings) -> Sequence[str]:
    """Return where nodes with these settings serve their API. Raises OperatorError if only the node knows."""
    server = settings.http_server
    address, ports = server.address, [server.port]
    if server.internal_port is not None:
        address, ports = server.internal_address or address, list(worker_ports(settings))
    if not any(ports):
        raise OperatorError("the node has chosen its port itself: name it with --url")
    address = ANYWHERE.get(address, address)
    return [f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}" for port in ports]


def drain(wanted: Sequence[Errand], out: TextIO) -> None:
    """Begin the drains side by side, or join those that have begun, and tell `out` how they go together.

    One that fails keeps none of the others from its end. Raises OperatorError then, with a line for each.
    """
    heard: SimpleQueue[Word] = SimpleQueue()
    for index, errand in enumerate(wanted):
        Thread(target=_run, args=(index, errand, heard), daemon=True).start()  # Ctrl-C waits for none
    latest: dict[int, Word] = {}
    busy, faults = set(range(len(wanted))), list[Exception]()
    while busy:
        word = heard.get()
        if word.fault is not None:
            faults.append(word.fault)
        if word.last:
            busy.discard(word.which)
            continue
        latest[word.which] = word
        if wanted[word.which].wait and not word.drained and word.which == min(busy) and busy <= latest.keys():
            _say(out, _left(latest.values()), last=False)
    if faults:
        raise _together(faults)
    _say(out, "drained" if all(it.drained for it in latest.values()) else _left(latest.values()), last=True)


def _left(words: Iterable[Word]) -> str:
    return f"{sum(it.left for it in words)} connections left"


def _together(faults: Sequence[Exception]) -> Exception:
    """Return what to raise; what is no operator's business comes alone."""
    bugs = [it for it in faults if not isinstance(it, OperatorError)]
    return bugs[0] if bugs else OperatorError("\n".join(str(it) for it in faults))


def _run(index: int, errand: Errand, heard: SimpleQueue[Word]) -> None:
    try:
        for left, drained in _progress(errand):
            heard.put(Word(index, left, drained))
    except Exception as error:  # noqa: BLE001 - the root of a thread: whoever waits for it raises this
        heard.put(Word(index, last=True, fault=error))
    else:
        heard.put(Word(index, last=True))


def _progress(wanted: Errand) -> Iterator[tuple[int, bool]]:
    """Yield how many connections are left, and whether that is the end. Raises OperatorError."""
    until = time.monotonic() + wanted.timeout
    left = None
    with closing(_told(wanted)) as told:
        for left, drained in told:
            yield left, drained
            if drained or not wanted.wait:
                return
            if time.monotonic() > until:
                raise OperatorError(f"{left} connections are left after {wanted.timeout:g} s; the drain goes on")
    raise OperatorError(f"{wanted.url} went away before it was drained; {left} connections were left")


def _told(wanted: Errand) -> Generator[tuple[int, bool], None, None]:
    """Yield what the node says: how many are left, and whether it is done."""
    told = False
    with closing(connected(wanted.url, REQUEST_SECONDS)) as connection:
        try:
            body = json.dumps({"wait": wanted.wait})
            path = f"{urlsplit(wanted.url).path.rstrip('/')}/api/drain"
            connection.request("POST", path, body, {"X-API-Key": wanted.key, "Content-Type": "application/json"})
            with connection.getresponse() as answer:
                if answer.status != http.client.OK:
                    raise OperatorError(_refusal(wanted.url, answer.status))
                for line in answer:
                    said = json.loads(line)
                    said = said.get("result", said)
                    yield int(said["remaining"]), bool(said["drained"])
                    told = True
        except ConnectionRefusedError:
            raise OperatorError(f"no node answers at {wanted.url}: is it running? Name another with --url") from None
        except (OSError, http.client.IncompleteRead) as error:
            if not told:
                raise OperatorError(f"{wanted.url} could not be asked: {error}") from None
        except (http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
            raise OperatorError(f"{wanted.url} is no node of the gateway: its answer makes no sense") from None


def connected(url: str, timeout: float) -> http.client.HTTPConnection:
    """Return what will connect to a node; `timeout` in seconds. Raises OperatorError: that is no URL of one."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise OperatorError(f"--url {url}: should be as http://127.0.0.1:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=timeout)


def _refusal(url: str, status: int) -> str:
    if status == http.client.UNAUTHORIZED:
        return f"{url} does not accept the key: http_api.key must be that of the node"
    if status == http.client.NOT_FOUND:
        return f"{url} serves no API: name the internal port (http_server.internal_port) with --url"
    return f"{url} answered with status {status}"


def _say(out: TextIO, text: str, *, last: bool) -> None:
    """Write a line; on a terminal over the one before it."""
    if out.isatty():
        out.write(f"\r\x1b[K{text}" + "\n" * last)
    else:
        out.write(f"{text}\n")
    out.flush()
