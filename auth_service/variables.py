"""Which variables of the environment are ours, and what somebody meant who misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

PREFIX: Final = "AUTH_"
PASSWORD_VARIABLE: Final = "AUTH_USER_PASSWORD"  # noqa: S105 - the name of a variable, read by `user add`

# what Kubernetes injects for a Service named `auth` or `auth-<word>`
_KUBERNETES: Final = re.compile(
    r"(?P<service>AUTH(?:_[A-Z0-9_]+?)??)_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)"
)


def faults(environ: Mapping[str, str], settings: Iterable[str]) -> Iterator[str]:
    """Yield a line for each variable that looks like a setting and is none."""
    known = {f"{PREFIX}{name.upper()}" for name in settings}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or name == PASSWORD_VARIABLE or _injected(name, environ):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        yield f"{name}: no such setting{f'; did you mean {near[0]}?' if near else ''}"


def _injected(name: str, environ: Mapping[str, str]) -> bool:
    match = _KUBERNETES.fullmatch(name)
    return match is not None and (match["service"] == "AUTH" or f"{match['service']}_SERVICE_HOST" in environ)
