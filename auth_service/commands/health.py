"""What `auth-service health` asks of a running service."""

from __future__ import annotations

import http.client
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

from auth_service.errors import OperatorError

SECONDS: Final = 3.0  # a service that is ready answers within one, whatever its database does


def ask(url: str, *, live: bool) -> None:
    """Return if the service is ready, or with `live` answers at all. Raises OperatorError, in one line."""
    with closing(_connected(url)) as connection:
        try:
            connection.request("GET", f"{urlsplit(url).path.rstrip('/')}/health/{'live' if live else 'ready'}")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise OperatorError(f"{url} does not answer: {str(error) or type(error).__name__}") from None
    if status != http.client.OK:
        raise OperatorError(f"{url} is not ready: status {status}")


def _connected(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise OperatorError(f"--url {url}: should be as http://127.0.0.1:8001")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=SECONDS)
