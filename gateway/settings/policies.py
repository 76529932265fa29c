"""From settings to the values that sessions are run by: pure functions."""

from __future__ import annotations

import socket
from typing import Final, Literal

from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.policy import Policy
from gateway.settings.channel import ChannelSettings, OptionsSettings
from gateway.settings.tree import Settings

CHAT_OPTIONS: Final = OptionsSettings(
    presence=True,
    join_leave=True,
    force_push_join_leave=True,
    history_size=100,
    history_ttl=86_400,
    force_recovery=True,
    allow_subscribe_for_client=True,
    allow_publish_for_subscriber=True,
    allow_history_for_subscriber=True,
    allow_presence_for_subscriber=True,
)
NOTIFICATIONS_OPTIONS: Final = OptionsSettings(
    history_size=100, history_ttl=86_400, force_recovery=True, allow_subscribe_for_client=True
)
_PLAIN: Final = ("chat", "notifications", "echo")
_EXPIRING_NOTICE: Final = 60.0
_GAP_PERIOD: Final = 10.0


def namespaces(settings: Settings) -> Namespaces:
    """Return the options of all channels; `chat` and `notifications` are added unless the operator defined them."""
    channel = settings.channel
    by_name = {
        "chat": _options(CHAT_OPTIONS, channel),
        "notifications": _options(NOTIFICATIONS_OPTIONS, channel),
    }
    by_name |= {it.name: _options(it, channel) for it in channel.namespaces}
    return Namespaces(without_namespace=_options(channel.without_namespace, channel), by_name=by_name)


def _options(options: OptionsSettings, channel: ChannelSettings) -> ChannelOptions:
    values = options.model_dump(exclude={"name"})
    values["history_meta_ttl"] = max(options.history_meta_ttl or channel.history_meta_ttl, options.history_ttl)
    values["publication_data_format"] = options.publication_data_format or channel.publication_data_format
    return ChannelOptions(**values)


def policy_for(settings: Settings, codec: str, heartbeat: Literal["application", "frame"]) -> Policy:
    """Return the rules for sessions of one codec, by its name and its kind of heartbeat."""
    client, chat = settings.client, settings.chat
    plain = codec in _PLAIN
    return Policy(
        namespaces=namespaces(settings),
        insecure=client.insecure,
        anonymous=client.allow_anonymous_connect_without_token or (codec == "echo" and chat.echo_anonymous),
        personal=not plain and client.subscribe_to_user_personal_channel.enabled,
        private_messages=plain and chat.private_messages,
        channel_limit=client.channel_limit,
        channel_max_length=settings.channel.max_length,
        command_rate=chat.rate if plain else client.command_rate,
        command_burst=chat.burst if plain else client.command_burst,
        rejoin_rate=client.rejoin_rate,
        rejoin_burst=client.rejoin_burst,
        history_limit=client.history_max_publication_limit,
        recovery_limit=client.recovery_max_publication_limit,
        ping_interval=client.ping_interval,
        pong_timeout=client.pong_timeout,
        show_ping=heartbeat == "application",
        stale_delay=client.stale_close_delay,
        token_leeway=max(it.leeway for it in (client.token, *client.token.issuers)),
        expired_delay=client.expired_close_delay,
        expired_sub_delay=client.expired_sub_close_delay,
        expiring_notice=_EXPIRING_NOTICE if plain else 0.0,
        close_on_refusal=plain,
        gap_period=_GAP_PERIOD if plain else 0.0,
    )


def node_name(settings: Settings) -> str:
    """Return this node's name: as set, else `host_port`."""
    return settings.node.name or f"{socket.gethostname()}_{settings.http_server.port}"
