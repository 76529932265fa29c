from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.redis.envelope import Envelope
from gateway.protocol.values import PublishOptions
from gateway.types import ClientInfo, ConnectionId, Publication, UserId

# What release 0.1 wrote. A line is added with each change of the format; none is ever edited.
RECORDED = [
    (
        "97c4077b2261223a317dcf000001a3185c507bc0a0c0c0c0",
        Publication(b'{"a":1}', 7, "e", None, 1_800_000_000_123),
    ),
    (
        "97c4025b5dcd03e8a5616c696365a26331c4027b7dc4013181a16ba176",
        Publication(b"[]", 7, "e", ClientInfo(UserId("alice"), ConnectionId("c1"), b"{}", b"1"), 1000, tags={"k": "v"}),
    ),
]


@pytest.mark.parametrize(("blob", "expected"), RECORDED)
def test_what_an_older_release_wrote_is_read(blob: str, expected: Publication) -> None:
    """Blobs lie in streams over an upgrade: the recorded ones stay readable."""
    assert expected == Envelope().read_publication(bytes.fromhex(blob), 7, "e")


def test_missing_fields_have_defaults() -> None:
    """A blob with fewer fields than we know is read: so an older node's are after a field was appended."""
    assert Publication(b"{}", 1, "e") == Envelope().read_publication(msgspec.msgpack.encode([b"{}"]), 1, "e")


def test_unknown_fields_are_ignored() -> None:
    """A blob with more fields than we know is read: so a newer node's are during an upgrade."""
    newer = msgspec.msgpack.encode([b"{}", 5, None, "", None, None, None, "traceparent", {"more": [1]}])
    assert Publication(b"{}", 1, "e", time_ms=5) == Envelope().read_publication(newer, 1, "e")
    newer = msgspec.msgpack.encode(["u", "c", None, b"1", "more"])
    assert ClientInfo(UserId("u"), ConnectionId("c"), None, b"1") == Envelope().read_client(newer)


infos = st.none() | st.binary()
clients = st.builds(ClientInfo, st.text(), st.text(), infos, infos)
options = st.builds(
    PublishOptions,
    info=st.none() | clients,
    tags=st.none() | st.dictionaries(st.text(), st.text(), min_size=1),
    time_ms=st.integers(0, 2**53),
)


@given(st.binary(), options)
def test_a_publication_survives_the_way(data: bytes, chosen: PublishOptions) -> None:
    """What is packed is unpacked, whatever the bytes and texts."""
    envelope = Envelope()
    blob = envelope.publication(data, chosen)
    expected = Publication(data, 3, "e", chosen.info, chosen.time_ms, tags=chosen.tags)
    assert expected == envelope.read_publication(blob, 3, "e")


@given(clients)
def test_a_client_survives_the_way(who: ClientInfo) -> None:
    """What is packed is unpacked."""
    envelope = Envelope()
    assert who == envelope.read_client(envelope.client(who))


@given(st.binary())
def test_garbage_raises_value_errors_only(blob: bytes) -> None:
    """Bytes of strangers are read or refused in the one announced way."""
    with suppress(ValueError):
        Envelope().read_publication(blob, 1, "e")
    with suppress(ValueError):
        Envelope().read_client(blob)
