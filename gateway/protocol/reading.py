"""What a client may look up: presence and history."""

from __future__ import annotations

from typing import Final

from gateway.disconnects import BAD_REQUEST
from gateway.errors import BAD_REQUEST as BAD_REQUEST_ERROR
from gateway.errors import NOT_AVAILABLE, UNRECOVERABLE, ErrorReply
from gateway.protocol import messages
from gateway.protocol.channels import may_read_history, may_read_presence
from gateway.protocol.effects import Effect, Members, Outcome, ReadHistory, ReadPresence, ReadStats
from gateway.protocol.state import State, channel_options, failure, reply
from gateway.protocol.values import HistoryPage, HistoryQuery, PresenceStats

_ACTIONS: Final = {
    messages.Presence: "presence",
    messages.PresenceStats: "presence_stats",
    messages.Members: "members",
}


def presence(state: State, command: messages.Presence | messages.PresenceStats | messages.Members) -> list[Effect]:
    """Ask the presence store who, or how many, are in a channel."""
    if not command.channel:
        return state.end(BAD_REQUEST)
    options = channel_options(state, command.channel)
    if isinstance(options, ErrorReply):
        return reply(command.ref, options)
    if not may_read_presence(options, state.standing(command.channel)):
        return state.deny(command.ref, _ACTIONS[type(command)], command.channel)
    if not options.presence:
        return reply(command.ref, NOT_AVAILABLE)
    if isinstance(command, messages.PresenceStats):
        return [ReadStats(command.ref, command.channel)]
    return [ReadPresence(command.ref, command.channel, users_only=isinstance(command, messages.Members))]


def history(state: State, command: messages.History) -> list[Effect]:
    """Read a page of history, at most `history_limit` publications long."""
    if not command.channel:
        return state.end(BAD_REQUEST)
    options = channel_options(state, command.channel)
    if isinstance(options, ErrorReply):
        return reply(command.ref, options)
    if not may_read_history(options, state.standing(command.channel)):
        return state.deny(command.ref, "history", command.channel)
    if not options.keeps_history:
        return reply(command.ref, NOT_AVAILABLE)
    if command.reverse and command.since is not None and command.since.offset <= 0:
        return reply(command.ref, BAD_REQUEST_ERROR.saying("nothing comes before offset 1"))
    most = state.policy.history_limit
    limit = most if command.limit < 0 else min(command.limit, most)
    query = HistoryQuery(limit, command.since, command.reverse, options.history_meta_ttl)
    return [ReadHistory(command.ref, command.channel, query)]


def resolve(effect: ReadHistory | ReadPresence | ReadStats, outcome: Outcome) -> list[Effect]:
    """Answer with what the engine found."""
    match effect, outcome:
        case ReadHistory(query=HistoryQuery(since=since)), HistoryPage(top=top):
            if since is not None and since.epoch not in {"", top.epoch}:
                return reply(effect.ref, UNRECOVERABLE)
            return reply(effect.ref, messages.HistoryResult(effect.channel, outcome.publications, top))
        case ReadPresence(users_only=True), Members(clients=clients):
            users = sorted({it.user for it in clients.values()})
            return reply(effect.ref, messages.MembersResult(effect.channel, users))
        case ReadPresence(), Members(clients=clients):
            return reply(effect.ref, messages.PresenceResult(effect.channel, clients))
        case ReadStats(), PresenceStats(num_clients=num_clients, num_users=num_users):
            return reply(effect.ref, messages.PresenceStatsResult(effect.channel, num_clients, num_users))
        case _:
            return reply(effect.ref, failure(outcome))
