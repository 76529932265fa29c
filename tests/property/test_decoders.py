"""Bytes of a peer become commands or a DecodeError, whatever they are, and soon."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contracts.codec import Codec, Dialect
from gateway.disconnects import Disconnect
from gateway.errors import DecodeError, ErrorReply
from gateway.protocol.messages import Command, Echo, Message, Publish, Rpc, Send
from tests.support.codecs import codecs_on_disk, hello, opened

CODECS = codecs_on_disk()
EVERY = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
COMMANDS = get_args(Command)
FRAME = 65_536  # the default limit of a message
BUDGET = 0.020  # seconds of CPU for one frame

VALID = [
    b'{"id":1,"connect":{"token":"t","subs":{"x":{"recover":true,"offset":1,"epoch":"e"}}}}',
    b'{"id":2,"subscribe":{"channel":"x","recover":true,"tf":{"op":"and"},"delta":"fossil","flag":3}}',
    b'{"id":3,"publish":{"channel":"x","data":{"a":[1,2.5e3,"\\u00fc\\ud83d\\ude00",null,true]}}}',
    b'{"id":4,"history":{"channel":"x","limit":-1,"since":{"offset":1,"epoch":"e"},"reverse":true}}',
    b'{"id":5,"rpc":{"method":"m","data":1}}\n{"send":{"data":1}}\n{}',
    b'{"id":6,"refresh":{"token":"t"}}\n{"id":7,"sub_refresh":{"token":"t"}}\n',
    b'{"type":"auth","token":"t"}',
    b'{"type":"chat","message":"hi \\ud83d\\ude00","room":"dev"}',
    b'{"type":"private_chat","target_user":"bob","message":"hi"}',
    b'{"type":"history","limit":5}',
    b'{"type":"join","room":"dev","since":"1@e"}',
    "/pm bob grüß dich".encode(),
]

NASTY = [
    b"",
    b"\n" * FRAME,
    b" " * FRAME,
    b"\x00" * FRAME,
    b"\xff" * FRAME,
    b"{}\n" * (FRAME // 3),
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"id":1,"publish":{"channel":"x","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    b'{"type":"chat","message":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"id":1e400}',
    b'{"id":' + b"9" * 10_000 + b"}",
    b'{"id":1,"publish":{"channel":"x","data":1e400}}',
    b'{"id":1,"publish":{"channel":"x","data":' + b"9" * 60_000 + b"}}",
    b'{"type":"history","limit":1e400}',
    b'{"type":"history","limit":' + b"9" * 60_000 + b"}",
    b'{"id":1,"id":2,"publish":{"channel":"x","channel":"y","data":1,"data":2}}',
    b'{"type":"chat","type":"auth","message":"a","message":"b","token":"t"}',
    b'{"id":NaN}',
    b'{"type":"history","limit":NaN}',
    b'{"id":1,"publish":{"channel":"x","data":[NaN,Infinity]}}',
    b'{"id":1,"publish":{"channel":"\\ud800","data":"\\udfff"}}',
    b'{"id":1,"subscribe":{"channel":"\\udc00\\ud800"}}',
    b'{"type":"chat","message":"\\ud800"}',
    b'{"type":"private_chat","target_user":"\\udead","message":"\\ud800\\u0041"}',
    b'{"type":"\\ud800"}',
    b'{"type":"chat","message":"\xed\xa0\x80"}',
    b'{"type":"chat","message":"' + b"\\ud800" * 10_000 + b'"}',
    b'{"type":"chat","message":"' + b"\\\\" * 32_000 + b'\\ud800"}',
    b'{"id":1,"publish":{"channel":"x","data":"' + b"\\\\a" * 21_000 + b'\\ud800"}}',
    b'{"id":1,"rpc":{}}\n' * (FRAME // 18),
    b'{"id":1,"rpc":{}}\n' * (FRAME // 18 - 2) + b'{"\\ud800"',
    b'{"id":1,"connect":{"subs":{' + b",".join(b'"%d":{"recover":true}' % n for n in range(2_500)) + b"}}}",
    b"/pm " + b" " * 60_000,
    b"/" + b"x" * 60_000,
    b'{"type":"' + b"x" * 60_000 + b'"}',
    b'{"type":"join","room":"' + b"x" * 60_000 + b'"}',
    b'{"type":"join","room":"dev","since":"' + b"9" * 60_000 + b'@e"}',
    b"\xef\xbb\xbf{}",
    b"hi\x00there",
]

BYTES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a valid frame, cut or with something put in the place of something else."""
    frame = draw(st.sampled_from(VALID))
    start = draw(st.integers(0, len(frame)))
    end = draw(st.integers(start, len(frame)))
    other = draw(st.sampled_from(VALID))
    return frame[:start] + draw(st.sampled_from([b"", b'"', b"{", b"\n", b"\\", b"\xff", b"1", other])) + frame[end:]


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """Return a frame with the right names and any values."""
    names = (
        "id",
        "channel",
        "data",
        "token",
        "type",
        "message",
        "room",
        "limit",
        "since",
        "subs",
        "flag",
        "tf",
        "offset",
    )
    value = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "chat", "join", "1@e"])
    inner = st.dictionaries(st.sampled_from(names), value | st.dictionaries(st.sampled_from(names), value), max_size=5)
    outer = draw(inner)
    request = draw(st.sampled_from(["connect", "subscribe", "publish", "history", "send", "rpc", "sub_refresh"]))
    return json.dumps(outer | {request: draw(inner)}).encode()


def check_command(command: Any) -> None:
    """Assert that this is a command that nobody can choke on."""
    assert isinstance(command, COMMANDS)
    for name in ("channel", "to_user", "token", "method"):
        (getattr(command, name, None) or "").encode()
    if isinstance(command, Publish | Message | Rpc | Send) and command.data:
        json.loads(command.data.decode(), parse_int=len, parse_constant=_no_constant)
        assert b"\n" not in command.data


def _no_constant(name: str) -> None:
    raise AssertionError(name)


def check(dialect: Dialect, payload: bytes, *, text: bool) -> None:
    """Assert that bytes become commands, or the one exception with a refusal in it."""
    try:
        commands = dialect.decode(payload, text=text)
    except DecodeError as error:
        assert isinstance(error.refusal, Disconnect | ErrorReply)  # noqa: PT017 - either outcome is right
        commands = error.before  # type: ignore[assignment]  # commands, as the next lines prove
    for command in commands:
        check_command(command)


@EVERY
@given(payload=BYTES | damaged() | retyped(), text=st.booleans(), identified=st.booleans())
def test_any_bytes(codec: Codec, payload: bytes, *, text: bool, identified: bool) -> None:
    """Noise, JSON of any shape, and valid frames with one thing wrong."""
    check(opened(codec) if identified else codec.dialect(hello()), payload, text=text)


@EVERY
@pytest.mark.parametrize("payload", [*VALID, *NASTY], ids=lambda payload: repr(payload[:30]))
@pytest.mark.parametrize("text", [True, False])
def test_known_trouble(codec: Codec, payload: bytes, *, text: bool) -> None:
    """What is known to break parsers."""
    check(opened(codec), payload, text=text)
    check(codec.dialect(hello()), payload, text=text)


@EVERY
@pytest.mark.parametrize("payload", NASTY, ids=lambda payload: repr(payload[:30]))
def test_no_frame_takes_long(codec: Codec, payload: bytes) -> None:
    """No frame within the default limit keeps the loop for longer than the budget."""
    assert len(payload) <= FRAME
    assert min(_cpu_seconds(codec, payload) for _ in range(5)) < BUDGET


def _cpu_seconds(codec: Codec, payload: bytes) -> float:
    """Return what decoding costs; what a coverage tracer costs does not count."""
    dialect = opened(codec)
    tracer = sys.gettrace()
    sys.settrace(None)
    begin = time.thread_time()
    with contextlib.suppress(DecodeError):
        dialect.decode(payload, text=True)
    seconds = time.thread_time() - begin
    sys.settrace(tracer)
    return seconds


@EVERY
@pytest.mark.parametrize("text", [True, False])
def test_echo_alone_takes_everything(codec: Codec, *, text: bool) -> None:
    """A frame of noise is a command for nobody but echo."""
    dialect = opened(codec)
    if codec.name == "echo":
        (command,) = dialect.decode(b"\xff\xfe", text=text)
        assert Echo(command.ref, b"\xff\xfe", text) == command
    else:
        with pytest.raises(DecodeError):
            dialect.decode(b"\xff\xfe", text=text)
