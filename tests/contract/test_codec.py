"""What every codec owes its callers, over all that are found on disk."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import types
from gateway.contracts.codec import Codec
from gateway.disconnects import DISCONNECTS
from gateway.errors import ErrorReply
from gateway.protocol import messages
from gateway.protocol.messages import Command, PublicationPush, Publish, Push, Reply
from gateway.types import Channel, Publication
from tests.support.codecs import codecs_on_disk, decode, hello, opened

CODECS = codecs_on_disk()
EVERY = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())

# Any text at all, lone surrogates too: a token's claims may hold them.
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
CHANNEL = st.one_of(st.sampled_from(["chat:lobby", "chat:", "#alice", "#", "notifications:all", "news", ""]), TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DATA = st.one_of(
    st.builds(lambda value, indent: json.dumps(value, indent=indent).encode(), JSON, st.sampled_from([None, 0, 2])),
    st.builds(lambda text: json.dumps({"message": text}).encode(), TEXT),
    st.just(b""),
)
COUNT = st.integers(min_value=0) | st.integers(0, 3)


def publications() -> st.SearchStrategy[Publication]:
    """Return publications of any kind."""
    return st.builds(
        Publication,
        data=DATA,
        offset=COUNT,
        epoch=TEXT,
        info=st.none() | infos(),
        time_ms=st.integers(),
        tags=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    )


def infos() -> st.SearchStrategy[types.ClientInfo]:
    """Return client infos of any kind."""
    return st.builds(types.ClientInfo, TEXT, TEXT, st.none() | DATA, st.none() | DATA)


def of(kind: type[types.Record | types.Compact]) -> st.SearchStrategy[Any]:
    """Return instances of a message type, whatever its fields hold."""
    known = {
        "channel": CHANNEL,
        "publication": publications(),
        "publications": st.lists(publications(), max_size=3),
        "position": st.none() | positions(),
        "since": st.none() | positions(),
        "top": positions(),
        "info": infos(),
        "clients": st.dictionaries(TEXT, infos(), max_size=2),
        "users": st.lists(TEXT, max_size=3),
        "data": st.none() | DATA,
        "payload": st.binary(max_size=20),
        "ttl": st.none() | COUNT,
        "code": st.sampled_from([0, 2000, 2500, 2501]),
        "subs": st.deferred(lambda: st.lists(of(messages.SubscribeResult), max_size=2)),
    }
    plain = {"str": TEXT, "int": COUNT, "bool": st.booleans(), "ConnectionId": TEXT, "UserId": TEXT}
    told = {
        name: hint for base in reversed(kind.__mro__) for name, hint in vars(base).get("__annotations__", {}).items()
    }
    values = {name: known[name] if name in known else plain[told[name]] for name in kind.__match_args__}
    return st.builds(kind, **values)


def positions() -> st.SearchStrategy[types.Position]:
    """Return positions of any kind."""
    return st.builds(types.Position, COUNT, TEXT)


RESULTS = st.one_of([of(kind) for kind in get_args(messages.Result)])
ERROR_REPLIES = st.builds(ErrorReply, COUNT, TEXT, st.booleans())
PUSHES = st.one_of([of(kind) for kind in get_args(Push)])
SHARED = st.one_of([of(kind) for kind in (PublicationPush, messages.JoinPush, messages.LeavePush)])
COMMANDS = get_args(Command)


def check_payload(payload: bytes) -> None:
    """Assert that these bytes are one JSON object on one line."""
    assert isinstance(payload, bytes)
    assert b"\n" not in payload
    assert b"\r" not in payload
    assert isinstance(json.loads(payload), dict)


@EVERY
def test_attributes(codec: Codec) -> None:
    """A codec says how it is called, chosen, framed and kept alive."""
    assert codec is CODECS[codec.name]
    assert codec.subprotocols
    assert "" not in codec.subprotocols
    assert codec.text in {True, False}
    assert codec.heartbeat in {"application", "frame"}


def test_all_are_found() -> None:
    """The four codecs are on disk, and no two answer to the same subprotocol."""
    assert {"chat", "notifications", "echo", "centrifuge_json"} <= CODECS.keys()
    subprotocols = [name for codec in CODECS.values() for name in codec.subprotocols]
    assert len(set(subprotocols)) == len(subprotocols)


@EVERY
def test_open_begins_with_connect(codec: Codec) -> None:
    """What the handshake asks begins with a connect, and is asked once."""
    dialect = codec.dialect(hello(token="jwt", since="1@e"))
    asked = dialect.open()
    assert all(isinstance(command, COMMANDS) for command in asked)
    assert not asked or isinstance(asked[0], messages.Connect)


@EVERY
@pytest.mark.parametrize("disconnect", DISCONNECTS, ids=lambda disconnect: str(disconnect.code))
def test_farewell(codec: Codec, disconnect: Any) -> None:
    """There is a farewell, perhaps an empty one, for every disconnect."""
    assert all(isinstance(payload, bytes) for payload in opened(codec).farewell(disconnect))


@EVERY
@given(ref=COUNT, result=RESULTS | ERROR_REPLIES)
def test_replies_never_raise(codec: Codec, ref: int, result: Any) -> None:
    """Whatever a reply holds, it is encoded, as JSON but for what an echo gives back."""
    encoded = opened(codec).encode(Reply(ref, result))
    assert all(isinstance(command, COMMANDS) for command in encoded.commands)
    for payload in encoded.payloads:
        if not isinstance(result, messages.EchoResult):
            check_payload(payload)


@EVERY
@given(push=PUSHES)
def test_pushes_never_raise(codec: Codec, push: Push) -> None:
    """Whatever a push holds, it is encoded as JSON on one line or not shown."""
    encoded = opened(codec).encode(push)
    for payload in encoded.payloads:
        check_payload(payload)
    assert all(isinstance(command, COMMANDS) for command in encoded.commands)


@EVERY
@given(push=PUSHES)
def test_shared_push(codec: Codec, push: Push) -> None:
    """The shared encoding is the same each time, one line of JSON or nothing."""
    payload = codec.push(push)
    assert payload == codec.push(push)
    if payload is not None:
        check_payload(payload)


@EVERY
@given(push=SHARED)
def test_everybody_gets_the_same(codec: Codec, push: Push) -> None:
    """A plain client's own encoding of publications, joins and leaves is the shared one."""
    payload = codec.push(push)
    encoded = opened(codec).encode(push)
    assert ([] if payload is None else [payload]) == list(encoded.payloads)
    assert list(encoded.commands) == []


@EVERY
@given(value=JSON)
def test_data_survives(codec: Codec, value: Any) -> None:
    """Whoever shows a publication shows its data as it was published."""
    for channel in ("chat:lobby", "#alice", "notifications:all"):
        payload = codec.push(PublicationPush(Channel(channel), Publication(json.dumps({"it": value}).encode())))
        if payload is not None:
            shown = json.loads(payload)
            pub = shown["push"]["pub"] if "push" in shown else shown
            assert {"it": value} == pub["data"]


@given(text=st.text(min_size=1, max_size=50).filter(str.strip))
def test_protocols_understand_each_other(text: str) -> None:
    """What a chat client says an SDK reads, and the other way round."""
    chat, centrifuge = CODECS["chat"], CODECS["centrifuge_json"]
    (said,) = decode(opened(chat), {"type": "chat", "message": text})
    line = {"id": 1, "publish": {"channel": "chat:lobby", "data": {"message": text}}}
    (published,) = decode(opened(centrifuge), line)
    for command in (said, published):
        assert isinstance(command, Publish)
        push = PublicationPush(command.channel, Publication(command.data, 1, "e"))
        for codec in (chat, centrifuge):
            payload = codec.push(push)
            assert payload is not None
            shown = json.loads(payload)
            assert text == (shown["push"]["pub"]["data"]["message"] if "push" in shown else shown["content"])
