"""`gateway health`: asks running nodes how they are, for a container's health check."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

from gateway.errors import OperatorError
from gateway.leaving import connected


def ask(urls: Iterable[str], *, live: bool, timeout: float) -> None:
    """Return if all of these nodes are ready, or with `live` answer at all; `timeout` in seconds, of each.

    Raises OperatorError with a line for each that is not.
    """
    if faults := list(_faults(urls, "/health/live" if live else "/health/ready", timeout)):
        raise OperatorError("\n".join(faults))


def _faults(urls: Iterable[str], path: str, timeout: float) -> Iterator[str]:
    for url in urls:
        with closing(connected(url, timeout)) as connection:
            try:
                connection.request("GET", urlsplit(url).path.rstrip("/") + path)
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException) as error:
                yield f"{url} does not answer: {str(error) or type(error).__name__}"
                continue
        if answer.status == http.client.NOT_FOUND:
            yield f"{url} serves no health: name the internal port (http_server.internal_port) with --url"
        elif answer.status != http.client.OK:
            yield f"{url} is not ready: {_reasons(said) or f'status {answer.status}'}"


def _reasons(said: bytes) -> str:
    """Return what the node says is wrong; empty if it says nothing that can be read."""
    try:
        return ", ".join(map(str, json.loads(said)["faults"]))
    except (ValueError, KeyError, TypeError):
        return ""
