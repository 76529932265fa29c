"""The rules a session is run by: plain values, made from the settings by `app.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.errors import ErrorReply
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.types import Channel


@dataclass(frozen=True, slots=True)
class Policy:
    """One per codec; times in seconds, rates per second."""

    namespaces: Namespaces = field(default_factory=Namespaces)
    insecure: bool = False  # no token needed, everything allowed; a supplied token is still verified
    anonymous: bool = False  # a connection without a token is let in as user ""
    personal: bool = False  # every connection with a user is subscribed to #user
    private_messages: bool = False
    channel_limit: int = 128
    channel_max_length: int = 255
    command_rate: float = 1000.0  # 0 = no limit
    command_burst: float = 5000.0
    rejoin_rate: float = 1.0  # of channels that tell who comes and goes, once the client has left one; 0 = no limit
    rejoin_burst: float = 30.0
    overload_grace: float = 5.0  # over the command rate for so long: 3013
    error_burst: int = 20  # so many malformed messages
    error_period: float = 60.0  # within this time: 3509
    history_limit: int = 300
    recovery_limit: int = 300
    ping_interval: float = 25.0  # 0 = no pings
    pong_timeout: float = 8.0  # 0 = pongs are not waited for
    show_ping: bool = True  # the connect reply tells the client of pings (application heartbeat)
    stale_delay: float = 10.0  # to identify
    expired_delay: float = 25.0  # after `exp`, before 3005
    expired_sub_delay: float = 25.0  # after a subscription's `exp`, before 2501 or 3006
    expiring_notice: float = 0.0  # so long before `exp` an ExpiringPush is sent; 0 = never
    gap_period: float = 0.0  # a second insufficient state within this time: 3010; 0 = never (the client decides)
    close_on_refusal: bool = False  # a refused connect ends in a close code: its clients know no error to it
    token_leeway: float = 30.0  # what the verifier forgives: ended this recently at connect is 109, longer ago 110
    looked_up: dict[Channel, ChannelOptions | ErrorReply] = field(default_factory=dict, compare=False, repr=False)
