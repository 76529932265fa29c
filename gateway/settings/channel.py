"""Settings of channels: namespaces and their options, under Centrifugo v6's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.settings.durations import Seconds
from gateway.settings.section import Section

DataFormat = Literal["", "json", "json_object"]
_YEAR = 365 * 86_400


class OptionsSettings(Section):
    """The options of one namespace, or of channels without one."""

    presence: bool = Field(default=False, description="Keep who is in the channel.")
    join_leave: bool = Field(default=False, description="Tell who comes and goes.")
    force_push_join_leave: bool = Field(default=False, description="Send joins and leaves without being asked.")
    history_size: int = Field(default=0, ge=0, le=1_000_000, description="Publications kept; 0: no history.")
    history_ttl: Seconds = Field(default=0.0, le=_YEAR, description="How long publications are kept, in whole seconds.")
    history_meta_ttl: Seconds = Field(
        default=0.0, le=10 * _YEAR, description="How long offset and epoch are kept; 0: as channel.history_meta_ttl."
    )
    force_positioning: bool = Field(default=False, description="Watch every subscription for lost publications.")
    allow_positioning: bool = Field(default=False, description="Let clients ask for positioning.")
    force_recovery: bool = Field(default=False, description="Every subscription recovers what it missed.")
    allow_recovery: bool = Field(default=False, description="Let clients ask for recovery.")
    allow_subscribe_for_client: bool = Field(default=False, description="Any user may subscribe.")
    allow_subscribe_for_anonymous: bool = Field(default=False, description="So may connections without a user.")
    allow_publish_for_client: bool = Field(default=False, description="Any user may publish.")
    allow_publish_for_subscriber: bool = Field(default=False, description="Subscribers may publish.")
    allow_publish_for_anonymous: bool = Field(default=False, description="So may connections without a user.")
    allow_presence_for_client: bool = Field(default=False, description="Any user may ask who is there.")
    allow_presence_for_subscriber: bool = Field(default=False, description="Subscribers may ask who is there.")
    allow_presence_for_anonymous: bool = Field(default=False, description="So may connections without a user.")
    allow_history_for_client: bool = Field(default=False, description="Any user may read the history.")
    allow_history_for_subscriber: bool = Field(default=False, description="Subscribers may read the history.")
    allow_history_for_anonymous: bool = Field(default=False, description="So may connections without a user.")
    allow_user_limited_channels: bool = Field(default=False, description="Channels `name#user1,user2`.")
    channel_regex: str = Field(default="", description="What the name after the namespace must match; empty: ASCII.")
    publication_data_format: DataFormat = Field(
        default="", description="`json`, `json_object`; empty: any but empty data."
    )

    @field_validator("history_ttl", "history_meta_ttl")
    @classmethod
    def _whole_seconds(cls, value: float) -> float:
        if value % 1:
            raise ValueError("should be whole seconds")
        return value

    @field_validator("channel_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _history_is_whole(self) -> Self:
        if bool(self.history_size) != bool(self.history_ttl):
            raise ValueError("history needs both history_size and history_ttl")
        if self.force_recovery and not self.history_size:
            raise ValueError("force_recovery needs history_size and history_ttl")
        return self


class NamespaceSettings(OptionsSettings):
    """One namespace: the channels `<name>:...`."""

    name: str = Field(pattern=r"^[-a-zA-Z0-9_.]{2,}$", description="What stands before the `:` of its channels.")


class ChannelSettings(Section):
    """All channels."""

    without_namespace: OptionsSettings = Field(default=OptionsSettings(), description="Options of names without a `:`.")
    namespaces: tuple[NamespaceSettings, ...] = Field(
        default=(), description="The namespaces; `chat` and `notifications` exist with our options unless defined."
    )
    history_meta_ttl: Seconds = Field(
        default=720 * 3600.0, gt=0, le=10 * _YEAR, description="How long offset and epoch of a channel are kept."
    )
    max_length: int = Field(default=255, ge=1, le=1024, description="Bytes in a channel's name.")
    publication_data_format: DataFormat = Field(default="", description="For namespaces that do not say themselves.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [it.name for it in self.namespaces]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"namespaces: each name may stand once: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _meta_outlives_history(self) -> Self:
        for name, options in self._named():
            meta_ttl = options.history_meta_ttl or self.history_meta_ttl
            if meta_ttl < options.history_ttl:
                raise ValueError(f"{name}: history_meta_ttl should not be shorter than history_ttl")
        return self

    def _named(self) -> Sequence[tuple[str, OptionsSettings]]:
        return [
            ("without_namespace", self.without_namespace),
            *((f"namespace {it.name}", it) for it in self.namespaces),
        ]
