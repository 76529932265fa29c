"""Frames of a Centrifuge client to commands.

A frame that is blank or broken is 3501. A binary frame that does not even begin like JSON comes from a client that
speaks Protobuf to a JSON connection: 3506.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.codecs._json import mend_surrogates
from gateway.codecs.centrifuge_json import requests
from gateway.codecs.centrifuge_json.requests import COMMAND_LINE, CommandLine
from gateway.disconnects import BAD_REQUEST, INAPPROPRIATE_PROTOCOL, INVALID_UTF8, Disconnect
from gateway.errors import NOT_AVAILABLE, DecodeError
from gateway.protocol import messages
from gateway.protocol.messages import Command
from gateway.types import Channel, Position

_REJECT_UNRECOVERED: Final = 2  # bit of `flag`
_PONG: Final = b"{}"
_DELTAS: Final = frozenset({"", "fossil"})
_COMMAND_LINE: Final = COMMAND_LINE.decode


def decode_frame(payload: bytes, text: bool) -> Sequence[Command]:
    """Return the commands of one frame. Raises DecodeError, with the commands that stood ahead of the fault."""
    if not payload.isascii():
        _check_utf8(payload, text)
    commands: list[Command] = []
    try:
        for line in _lines(payload):
            if line == _PONG:  # all that an idle client sends
                commands.append(messages.Pong())
                continue
            try:
                request = _COMMAND_LINE(line)
            except msgspec.DecodeError:
                request = _COMMAND_LINE(mend_surrogates(line))
            commands.append(_command(request))
    except DecodeError as fault:
        fault.before = commands
        raise
    except (msgspec.DecodeError, RecursionError):
        raise DecodeError(_unreadable(payload, text), before=commands) from None
    return commands


def _lines(payload: bytes) -> list[bytes]:
    lines = payload.split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()  # it ended with a line end
    return lines


def _check_utf8(payload: bytes, text: bool) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise DecodeError(INVALID_UTF8 if text else INAPPROPRIATE_PROTOCOL) from None


def _unreadable(payload: bytes, text: bool) -> Disconnect:
    return BAD_REQUEST if text or payload.lstrip()[:1] in {b"{", b""} else INAPPROPRIATE_PROTOCOL


def _command(line: CommandLine) -> Command:
    """Return the command that the first request stands for. Raises DecodeError."""
    ref = line.id
    if ref == 0 and line.send is None:
        return messages.Pong()
    if line.publish is not None and line.connect is None and line.subscribe is None and line.unsubscribe is None:
        return _publish(ref, line.publish)  # as most are
    for name, build in _BUILDERS:
        request = getattr(line, name)
        if request is not None:
            return build(ref, request)
    raise DecodeError(BAD_REQUEST)


def _connect(ref: int, request: requests.ConnectRequest) -> Command:
    subs = request.subs or {}
    for sub in subs.values():
        _check_delta(sub)
    return messages.Connect(
        ref,
        request.token or None,
        data=bytes(request.data) or None,
        name=request.name,
        version=request.version,
        subs={Channel(channel): Position(sub.offset, sub.epoch) for channel, sub in subs.items() if sub.recover},
    )


def _subscribe(ref: int, request: requests.SubscribeRequest) -> Command:
    _check_delta(request)
    return messages.Subscribe(
        ref,
        _channel(request.channel),
        request.token,
        Position(request.offset, request.epoch) if request.recover else None,
        positioned=request.positioned,
        recoverable=request.recoverable,
        join_leave=request.join_leave,
        reject_unrecovered=bool(request.flag & _REJECT_UNRECOVERED),
        kind=request.type,
        tags_filter=bytes(request.tf) not in {b"", b"null"},
    )


def _unsubscribe(ref: int, request: requests.ChannelRequest) -> Command:
    return messages.Unsubscribe(ref, _channel(request.channel))


def _publish(ref: int, request: requests.PublishRequest) -> Command:
    if request.type:
        raise DecodeError(NOT_AVAILABLE, ref=ref)  # as a plain publication it would mean something else
    return messages.Publish(ref, _channel(request.channel), bytes(request.data), _forged(request))


def _forged(request: requests.PublishRequest) -> bool:
    """Whether it names what only the server sets."""
    it = request
    named = it.info is it.user is it.client is it.sender is None
    return not (named and it.offset is it.epoch is it.tags is it.time is None)


def _presence(ref: int, request: requests.ChannelRequest) -> Command:
    return messages.Presence(ref, _channel(request.channel))


def _presence_stats(ref: int, request: requests.ChannelRequest) -> Command:
    return messages.PresenceStats(ref, _channel(request.channel))


def _history(ref: int, request: requests.HistoryRequest) -> Command:
    since = None if request.since is None else Position(request.since.offset, request.since.epoch)
    return messages.History(ref, _channel(request.channel), max(request.limit, -1), since, request.reverse)


def _ping(ref: int, request: requests.PingRequest) -> Command:
    del ref, request
    raise DecodeError(BAD_REQUEST)


def _send(ref: int, request: requests.SendRequest) -> Command:
    return messages.Send(ref, bytes(request.data))


def _rpc(ref: int, request: requests.RpcRequest) -> Command:
    return messages.Rpc(ref, request.method, bytes(request.data))


def _refresh(ref: int, request: requests.RefreshRequest) -> Command:
    return messages.Refresh(ref, _token(request.token))


def _sub_refresh(ref: int, request: requests.SubRefreshRequest) -> Command:
    """The channel may be empty: centrifuge-python 0.5 leaves it out, the token names it (section 5.3)."""
    if request.type:
        raise DecodeError(NOT_AVAILABLE, ref=ref)
    return messages.SubRefresh(ref, Channel(request.channel), _token(request.token))


def _channel(channel: str) -> Channel:
    if not channel:
        raise DecodeError(BAD_REQUEST)
    return Channel(channel)


def _token(token: str) -> str:
    if not token:
        raise DecodeError(BAD_REQUEST)
    return token


def _check_delta(request: requests.SubscribeRequest) -> None:
    """Known, and not offered yet: such a subscription simply gets no deltas. Unknown: a fault."""
    if request.delta not in _DELTAS:
        raise DecodeError(BAD_REQUEST)


_BUILDERS: Final[tuple[tuple[str, Callable[[int, Any], Command]], ...]] = (
    ("connect", _connect),
    ("subscribe", _subscribe),
    ("unsubscribe", _unsubscribe),
    ("publish", _publish),
    ("presence", _presence),
    ("presence_stats", _presence_stats),
    ("history", _history),
    ("ping", _ping),
    ("send", _send),
    ("rpc", _rpc),
    ("refresh", _refresh),
    ("sub_refresh", _sub_refresh),
)
