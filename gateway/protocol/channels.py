"""Channel names, namespaces, their options, and who may do what in a channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.errors import BAD_REQUEST, ErrorReply
from gateway.types import Channel, UserId

PERSONAL: Final = "#"
PRIVATE: Final = "$"
LONGEST_USER: Final = 200  # bytes of a user id that can have a personal channel
OVERRIDABLE: Final = frozenset(
    {"presence", "join_leave", "force_push_join_leave", "force_positioning", "force_recovery"}
)  # by a token

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and what is no character at all


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of one namespace; names and meaning as in Centrifugo v6, times in seconds."""

    presence: bool = False
    join_leave: bool = False
    force_push_join_leave: bool = False
    history_size: int = 0
    history_ttl: float = 0.0
    history_meta_ttl: float = 720 * 3600.0
    force_positioning: bool = False
    allow_positioning: bool = False
    force_recovery: bool = False
    allow_recovery: bool = False
    allow_subscribe_for_client: bool = False
    allow_subscribe_for_anonymous: bool = False
    allow_publish_for_client: bool = False
    allow_publish_for_subscriber: bool = False
    allow_publish_for_anonymous: bool = False
    allow_presence_for_client: bool = False
    allow_presence_for_subscriber: bool = False
    allow_presence_for_anonymous: bool = False
    allow_history_for_client: bool = False
    allow_history_for_subscriber: bool = False
    allow_history_for_anonymous: bool = False
    allow_user_limited_channels: bool = False
    channel_regex: str = ""
    publication_data_format: str = ""  # "" refuses empty data; json, json_object

    def __post_init__(self) -> None:
        """Raise re.error for a bad `channel_regex` now, not in the middle of a session."""
        re.compile(self.channel_regex)

    @property
    def keeps_history(self) -> bool:
        """Whether publications get offsets and are kept."""
        return self.history_size > 0 and self.history_ttl > 0


@dataclass(frozen=True, slots=True)
class Namespaces:
    """All channels: by namespace, and those without one."""

    without_namespace: ChannelOptions = field(default_factory=ChannelOptions)
    by_name: Mapping[str, ChannelOptions] = field(default_factory=dict)

    def options(self, channel: Channel) -> ChannelOptions | None:
        """Return the options of a channel, None for an unknown namespace."""
        if channel.startswith(PERSONAL) and is_personal(channel):
            return PERSONAL_OPTIONS
        name, boundary, _ = channel.removeprefix(PRIVATE).partition(":")
        return self.by_name.get(name) if boundary else self.without_namespace

    def name(self, channel: Channel) -> str:
        """Return the namespace as it may stand in a log: no text of a client's, `?` for an unknown one."""
        if is_personal(channel):
            return PERSONAL
        name, boundary, _ = channel.removeprefix(PRIVATE).partition(":")
        return (name if name in self.by_name else "?") if boundary else ""


PERSONAL_OPTIONS: Final = ChannelOptions(presence=True)  # subscribed and published by the server


def personal_channel(user: UserId) -> Channel:
    """Return the channel that reaches all connections of a user."""
    return Channel(PERSONAL + user)


def can_be_personal(user: UserId) -> bool:
    """Whether a user can have a personal channel; anonymous ones cannot."""
    if not user or "," in user or "#" in user or _CONTROL.search(user):
        return False
    return len(user.encode()) <= LONGEST_USER


def is_personal(channel: Channel) -> bool:
    """Whether this is `#user` or `namespace:#user`; not a list of users, nor anything before the `#`."""
    before, boundary, user = channel.partition(PERSONAL)
    return bool(boundary) and (not before or before.endswith(":")) and can_be_personal(UserId(user))


def listed_users(channel: Channel) -> list[str]:
    """Return the users that a user-limited channel names after its last `#`; empty for any other channel."""
    _, boundary, users = channel.rpartition(PERSONAL)
    return users.split(",") if boundary else []


def bad_name(channel: Channel, options: ChannelOptions, longest: int) -> ErrorReply | None:
    """Return why a client may not use this name, None if it may; `longest` in bytes."""
    if _CONTROL.search(channel):
        return BAD_REQUEST.saying("control characters in channel")
    if len(channel.encode()) > longest:
        return BAD_REQUEST.saying(f"channel longer than {longest} bytes")
    if not options.channel_regex:
        return None if channel.isascii() else BAD_REQUEST.saying("channel is not ASCII")
    _, boundary, rest = channel.partition(":")
    if re.search(options.channel_regex, rest if boundary else channel.removeprefix(PRIVATE)):
        return None
    return BAD_REQUEST.saying("channel does not match the rule of its namespace")


def overridden(options: ChannelOptions, override: Mapping[str, bool]) -> ChannelOptions:
    """Return the options with what a token may change in them; other names are ignored."""
    changes: dict[str, Any] = {name: value for name, value in override.items() if name in OVERRIDABLE}
    return replace(options, **changes) if changes else options


class Standing:
    """What permissions depend on: who asks, whether subscribed, and whether the server lets everybody do everything.

    Made for each publication of a client who is not subscribed, so it is the plainest of classes.
    """

    __slots__ = ("insecure", "subscribed", "user")

    def __init__(self, user: UserId, subscribed: bool = False, insecure: bool = False) -> None:
        self.user = user
        self.subscribed = subscribed
        self.insecure = insecure


def may_subscribe(channel: Channel, options: ChannelOptions, who: Standing) -> bool:
    """Whether a client may subscribe without a token. Private channels never; a user-limited one: who is listed."""
    if channel.startswith(PRIVATE):
        return False
    if options.allow_user_limited_channels and PERSONAL in channel:
        return who.insecure or (who.user != "" and who.user in listed_users(channel))
    allowed = options.allow_subscribe_for_client and (who.user != "" or options.allow_subscribe_for_anonymous)
    return allowed or who.insecure


def may_publish(channel: Channel, options: ChannelOptions, who: Standing) -> bool:
    """Whether a client may publish; into personal channels nobody may, or senders could be forged."""
    if PERSONAL in channel and is_personal(channel):
        return False
    allowed = options.allow_publish_for_client or (options.allow_publish_for_subscriber and who.subscribed)
    return who.insecure or (allowed and (who.user != "" or options.allow_publish_for_anonymous))


def may_read_presence(options: ChannelOptions, who: Standing) -> bool:
    """Whether a client may see who is in a channel."""
    allowed = options.allow_presence_for_client or (options.allow_presence_for_subscriber and who.subscribed)
    return who.insecure or (allowed and (who.user != "" or options.allow_presence_for_anonymous))


def may_read_history(options: ChannelOptions, who: Standing) -> bool:
    """Whether a client may read what is kept."""
    allowed = options.allow_history_for_client or (options.allow_history_for_subscriber and who.subscribed)
    return who.insecure or (allowed and (who.user != "" or options.allow_history_for_anonymous))
