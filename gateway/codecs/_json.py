"""JSON as the codecs need it: never failing on the way out, forgiving to a cut emoji on the way in."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

REMEMBERED: Final = 4096  # names and what they look like in JSON; a look into a dict costs a third of `lru_cache`
_QUOTED: Final[dict[str, bytes]] = {}

_LF: Final = 0x0A  # looking for a number in bytes is five times faster than for a slice
_CR: Final = 0x0D
_BACKSLASH: Final = 0x5C

# A backslash occurs in JSON only inside strings, where it begins an escape. So the first alternative runs over all that
# is well, escape by escape and pairs of surrogates as one, and the second can only be a surrogate without a partner.
_MENDABLE: Final = re.compile(
    rb"(?:[^\\]+|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)


def dump(value: Any) -> bytes:
    """Encode plain values; unlike orjson alone it takes lone surrogates (a token's claims may hold them)."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def quoted(text: str) -> bytes:
    """Encode one of those names that come again and again: channels, users, clients."""
    known = _QUOTED.get(text)
    if known is None:
        if len(_QUOTED) >= REMEMBERED:
            _QUOTED.clear()
        known = _QUOTED[text] = dump(text)
    return known


def one_line(data: bytes) -> bytes:
    """Return raw JSON without line ends, which separate messages in a frame; `null` for nothing.

    A raw line end stands only between tokens, so a blank can take its place.
    """
    if _LF in data or _CR in data:
        return data.replace(b"\n", b" ").replace(b"\r", b" ")
    return data or b"null"


def mend_surrogates(data: bytes) -> bytes:
    r"""Replace escaped surrogates without a partner by U+FFFD.

    `JSON.stringify` writes `"\ud83d"` for a text that was cut in the middle of an emoji; parsers here refuse that.
    """
    if _BACKSLASH not in data:
        return data
    return _MENDABLE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)
