"""Publications and private messages of clients."""

from __future__ import annotations

from typing import Final

from gateway.disconnects import BAD_REQUEST
from gateway.errors import BAD_REQUEST as BAD_REQUEST_ERROR
from gateway.protocol.channels import ChannelOptions, can_be_personal, may_publish
from gateway.protocol.effects import Effect, Notified, Notify, Outcome, PublishTo, Send
from gateway.protocol.messages import Message, MessageResult, Publish, PublishResult, Reply
from gateway.protocol.payloads import unfit
from gateway.protocol.state import State, channel_options, failure, reply
from gateway.protocol.values import Published, PublishOptions
from gateway.types import ClientInfo

PUBLISHED: Final = PublishResult()


def publish(state: State, command: Publish) -> list[Effect]:
    """Publish under the client's own name. The hot path: a subscription knows already whether its client may."""
    subscription = state.subscriptions.get(command.channel)
    if subscription is not None and subscription.may_publish and not command.forged:
        return _publish(command, subscription.options, subscription.who)
    if not command.channel:
        return state.end(BAD_REQUEST)
    options = channel_options(state, command.channel)
    if not isinstance(options, ChannelOptions):
        return reply(command.ref, options)
    if command.forged or not may_publish(command.channel, options, state.standing(command.channel)):
        return state.deny(command.ref, "publish", command.channel)
    return _publish(command, options, state.who if subscription is None else subscription.who)


def _publish(command: Publish, options: ChannelOptions, who: ClientInfo) -> list[Effect]:
    data = command.data
    if not data:
        return reply(command.ref, BAD_REQUEST_ERROR.saying("no data to publish"))
    if options.publication_data_format == "json_object" and not data.lstrip().startswith(b"{"):
        return reply(command.ref, BAD_REQUEST_ERROR.saying("data is not a JSON object"))
    fault = unfit(data)
    if fault:
        return reply(command.ref, BAD_REQUEST_ERROR.saying(fault))
    size, ttl, meta_ttl = options.history_size, options.history_ttl, options.history_meta_ttl
    if size <= 0 or ttl <= 0:
        size, ttl, meta_ttl = 0, 0.0, 0.0
    return [PublishTo(command.ref, command.channel, data, PublishOptions(size, ttl, meta_ttl, "", who))]


def published(effect: PublishTo, outcome: Outcome) -> list[Effect]:
    """Answer once the broker has taken the publication, or not."""
    return [Send(Reply(effect.ref, PUBLISHED if isinstance(outcome, Published) else failure(outcome)))]


def message(state: State, command: Message) -> list[Effect]:
    """Send to all connections of a user; the server's own rule says who may, not the options of a channel."""
    if command.forged or not state.policy.private_messages:
        return state.deny(command.ref, "message")
    if not can_be_personal(command.to_user):
        return reply(command.ref, BAD_REQUEST_ERROR.saying("no such user id"))
    if not command.data:
        return reply(command.ref, BAD_REQUEST_ERROR.saying("no message"))
    return [Notify(command.ref, command.to_user, command.data, PublishOptions(info=state.who))]


def notified(effect: Notify, outcome: Outcome) -> list[Effect]:
    """Confirm a private message to its sender."""
    if isinstance(outcome, Notified):
        return reply(effect.ref, MessageResult(effect.user, outcome.delivered))
    return reply(effect.ref, failure(outcome))
