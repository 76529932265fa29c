"""Settings of client connections: who may come, how fast, how long."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.settings.durations import Seconds
from gateway.settings.section import Section
from gateway.settings.tokens import TokenSettings


class PersonalChannelSettings(Section):
    """The channel `#<user>` that a Centrifuge connection is subscribed to by the server."""

    enabled: bool = Field(default=False, description="Subscribe every Centrifuge connection to its user's channel.")


class ClientSettings(Section):
    """Client connections of every protocol."""

    insecure: bool = Field(default=False, description="Let everybody do everything; for development only.")
    allow_anonymous_connect_without_token: bool = Field(
        default=False, description="Let a connection without a token in as the user without a name."
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Origins of browser pages, `*` as a wildcard; empty: the gateway's own host only."
    )
    token: TokenSettings = Field(default=TokenSettings(), description="How tokens are checked.")
    token_in_query: bool = Field(default=True, description="Accept `?token=<jwt>` on the plain protocols.")
    subscribe_to_user_personal_channel: PersonalChannelSettings = Field(
        default=PersonalChannelSettings(), description="The personal channel of Centrifuge connections."
    )

    channel_limit: int = Field(default=128, ge=1, le=100_000, description="Subscriptions of one connection.")
    command_rate: float = Field(default=1000.0, ge=0, description="Commands a second of one connection; 0: no limit.")
    command_burst: float = Field(default=5000.0, ge=1, description="Commands of one connection at once.")
    rejoin_rate: float = Field(
        default=1.0, ge=0, description="Joins that others see, a second of one connection that has left; 0: no limit."
    )
    rejoin_burst: float = Field(default=30.0, ge=1, description="Such joins at once, then error 111.")
    queue_max_size: int = Field(
        default=1_048_576,
        ge=65_536,
        le=1_073_741_824,
        description="Bytes that may wait for one connection before 3008.",
    )
    connection_limit: int = Field(default=0, ge=0, description="Connections of this node; 0: no limit.")
    connection_rate_limit: int = Field(
        default=500, ge=0, description="New connections a second of this node, then 503; 0: no limit."
    )
    user_connection_limit: int = Field(
        default=20, ge=0, description="Connections of one user on all nodes together, then 3504; 0: no limit."
    )
    user_connection_limit_closes: Literal["oldest", "newest"] = Field(
        default="oldest", description="Which of a user's connections end at the limit: oldest or newest."
    )
    connect_when_engine_down: bool = Field(
        default=True, description="Let clients in while Redis is away, for what works without; false: 503."
    )
    history_max_publication_limit: int = Field(
        default=300, ge=1, le=100_000, description="Publications in a history reply."
    )
    recovery_max_publication_limit: int = Field(
        default=300, ge=1, le=100_000, description="Publications in a recovery."
    )

    ping_interval: Seconds = Field(default=25.0, le=3600, description="Between our pings; 0: none.")
    pong_timeout: Seconds = Field(default=8.0, le=3600, description="To answer a ping, then 3012; 0: not waited for.")
    stale_close_delay: Seconds = Field(
        default=10.0, gt=0, le=3600, description="To identify after connecting, then 3502."
    )
    expired_close_delay: Seconds = Field(default=25.0, le=86_400, description="From the token's `exp` to 3005.")
    expired_sub_close_delay: Seconds = Field(
        default=25.0, le=86_400, description="From a subscription's `exp` to 2501."
    )

    @model_validator(mode="after")
    def _pong_before_ping(self) -> Self:
        if self.ping_interval and self.pong_timeout >= self.ping_interval:
            raise ValueError("pong_timeout should be shorter than ping_interval")
        return self
