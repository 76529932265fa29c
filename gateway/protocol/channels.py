"""Channel names, namespaces, their options, and who may do what in a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.types import Channel


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
        raise NotImplementedError(channel)  # written next
