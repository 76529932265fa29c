"""Replies and pushes as byte templates around raw data.

Zero values are left out but where section 1.2 of the protocol keeps them; error replies always have a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gateway.codecs._json import dump, one_line, quoted
from gateway.errors import ErrorReply
from gateway.protocol import messages
from gateway.protocol.messages import JoinPush, LeavePush, PingPush, PublicationPush, Push, Reply, UnsubscribePush
from gateway.types import ClientInfo, Publication

_PING: Final = b"{}"


def encode_push(push: Push) -> bytes | None:
    """Encode a push; None = this protocol does not show it."""
    if isinstance(push, PublicationPush):
        return b'{"push":{"channel":%b,"pub":%b}}' % (quoted(push.channel), _publication(push.publication))
    match push:
        case JoinPush(channel, info):
            return b'{"push":{"channel":%b,"join":{"info":%b}}}' % (quoted(channel), _info(info))
        case LeavePush(channel, info):
            return b'{"push":{"channel":%b,"leave":{"info":%b}}}' % (quoted(channel), _info(info))
        case UnsubscribePush(channel, code, reason):
            ended = dump({"code": code, "reason": reason})
            return b'{"push":{"channel":%b,"unsubscribe":%b}}' % (dump(channel), ended)
        case PingPush():
            return _PING
        case _:  # SDKs know from `ttl` when their token ends
            return None


def encode_reply(reply: Reply) -> bytes | None:
    """Encode a reply; None = not a result of this protocol."""
    result = reply.result
    known = _RESULTS.get(type(result))
    if known is not None:
        name, encode = known
        return b'{"id":%b,"%b":%b}' % (_number(reply.ref), name, encode(result))
    if isinstance(result, ErrorReply):
        return b'{"id":%b,"error":%b}' % (_number(reply.ref), _error(result))
    return None


def _number(number: int) -> bytes:
    return str(number).encode()  # compiled, a third of what `%d` takes


def _error(error: ErrorReply) -> bytes:
    return _object(code=error.code, message=error.message or "error", temporary=error.temporary)


def _publication(publication: Publication) -> bytes:
    offset = publication.offset
    encoded = b'{"data":%b' % one_line(publication.data)
    if publication.info is not None:
        encoded = b'%b,"info":%b' % (encoded, _info(publication.info))
    if offset:
        encoded = b'%b,"offset":%b' % (encoded, _number(offset))
    if publication.tags:
        encoded = b'%b,"tags":%b' % (encoded, dump(dict(publication.tags)))
    if offset == 1 and publication.epoch:  # so that clients notice a stream that began anew
        encoded = b'%b,"epoch":%b' % (encoded, dump(publication.epoch))
    return encoded + b"}"


def _publications(publications: Iterable[Publication]) -> bytes:
    return b"[%b]" % b",".join(map(_publication, publications))


def _info(info: ClientInfo) -> bytes:
    encoded = b'{"user":%b,"client":%b' % (quoted(info.user), quoted(info.client))
    if info.conn_info:
        encoded = b'%b,"conn_info":%b' % (encoded, one_line(info.conn_info))
    if info.chan_info:
        encoded = b'%b,"chan_info":%b' % (encoded, one_line(info.chan_info))
    return encoded + b"}"


def _object(**fields: Any) -> bytes:
    """Encode an object without its zero values; bytes are raw JSON already."""
    return b"{%b}" % b",".join(
        b'"%b":%b' % (name.encode(), value if isinstance(value, bytes) else dump(value))
        for name, value in fields.items()
        if value
    )


def _connect(result: messages.ConnectResult) -> bytes:
    subs = b",".join(b"%b:%b" % (dump(sub.channel), _subscribe(sub)) for sub in result.subs)
    return _object(
        client=result.client,
        version=result.version,
        expires=result.ttl is not None,
        ttl=result.ttl,
        subs=subs and b"{%b}" % subs,
        ping=result.ping,
        pong=result.pong,
    )


def _subscribe(result: messages.SubscribeResult) -> bytes:
    """Section 7.1: a recovered client hears its own offset again, everybody else the top of the stream."""
    positioned = result.position is not None and (result.positioned or result.recoverable)
    start = result.since if result.recovered and result.since is not None else result.position
    return _object(
        expires=result.ttl is not None,
        ttl=result.ttl,
        recoverable=result.recoverable,
        epoch=positioned and result.position and result.position.epoch,
        publications=result.publications and _publications(result.publications),
        recovered=result.recovered,
        offset=positioned and start and start.offset,
        positioned=positioned,
        data=result.data and one_line(result.data),
        was_recovering=result.was_recovering,
    )


def _empty(result: object) -> bytes:
    del result
    return b"{}"


def _presence(result: messages.PresenceResult) -> bytes:
    clients = b",".join(b"%b:%b" % (dump(client), _info(info)) for client, info in result.clients.items())
    return b'{"presence":{%b}}' % clients


def _presence_stats(result: messages.PresenceStatsResult) -> bytes:
    return dump({"num_clients": result.num_clients, "num_users": result.num_users})


def _history(result: messages.HistoryResult) -> bytes:
    return b'{"publications":%b,"epoch":%b,"offset":%d}' % (
        _publications(result.publications),
        dump(result.top.epoch),
        result.top.offset,
    )


def _refresh(result: messages.RefreshResult) -> bytes:
    return _object(client=result.client, version=result.version, expires=result.ttl is not None, ttl=result.ttl)


def _sub_refresh(result: messages.SubRefreshResult) -> bytes:
    return _object(expires=result.ttl is not None, ttl=result.ttl)


_RESULTS: Final[Mapping[type, tuple[bytes, Callable[[Any], bytes]]]] = {
    messages.ConnectResult: (b"connect", _connect),
    messages.SubscribeResult: (b"subscribe", _subscribe),
    messages.UnsubscribeResult: (b"unsubscribe", _empty),
    messages.PublishResult: (b"publish", _empty),
    messages.PresenceResult: (b"presence", _presence),
    messages.PresenceStatsResult: (b"presence_stats", _presence_stats),
    messages.HistoryResult: (b"history", _history),
    messages.RefreshResult: (b"refresh", _refresh),
    messages.SubRefreshResult: (b"sub_refresh", _sub_refresh),
}
