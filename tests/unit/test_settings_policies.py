from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.policy import Policy
from gateway.settings import Settings, namespaces, node_name, policy_for

PLAIN = ("chat", "notifications", "echo")


def settings(**sections: Any) -> Settings:
    """Make settings from what differs from the defaults."""
    return Settings.model_validate(sections)


def plain(options: Settings | None = None, codec: str = "chat") -> Policy:
    """Return the policy of one of the plain protocols."""
    return policy_for(options or Settings(), codec, "frame")


def test_defaults_are_those_of_the_policy() -> None:
    """A Centrifuge session under default settings is run by the core's own defaults."""
    policy = policy_for(Settings(), "centrifuge_json", "application")
    assert Policy(namespaces=policy.namespaces) == policy


@pytest.mark.parametrize("codec", PLAIN)
def test_plain_protocols_are_slower_and_have_no_sdk(codec: str) -> None:
    """They get the chat limits, are told of expiry, and repair gaps by the server's own rule."""
    policy = plain(codec=codec)
    assert (20, 40) == (policy.command_rate, policy.command_burst)
    assert (False, 60, 10, True) == (
        policy.show_ping,
        policy.expiring_notice,
        policy.gap_period,
        policy.close_on_refusal,
    )


@pytest.mark.parametrize(
    ("client", "field", "value"),
    [
        ({"insecure": True}, "insecure", True),
        ({"allow_anonymous_connect_without_token": True}, "anonymous", True),
        ({"channel_limit": 7}, "channel_limit", 7),
        ({"command_rate": 0}, "command_rate", 0),
        ({"command_burst": 9}, "command_burst", 9),
        ({"history_max_publication_limit": 11}, "history_limit", 11),
        ({"recovery_max_publication_limit": 12}, "recovery_limit", 12),
        ({"ping_interval": "10s"}, "ping_interval", 10),
        ({"pong_timeout": "3s"}, "pong_timeout", 3),
        ({"stale_close_delay": "4s"}, "stale_delay", 4),
        ({"expired_close_delay": "5s"}, "expired_delay", 5),
        ({"expired_sub_close_delay": "6s"}, "expired_sub_delay", 6),
        ({"subscribe_to_user_personal_channel": {"enabled": True}}, "personal", True),
    ],
)
def test_each_client_setting_reaches_the_policy(client: object, field: str, value: object) -> None:
    """No setting is read and then forgotten."""
    policy = policy_for(settings(client=client), "centrifuge_json", "application")
    assert value == getattr(policy, field)
    assert value != getattr(policy_for(Settings(), "centrifuge_json", "application"), field)


def test_the_length_of_channels_reaches_the_policy() -> None:
    """As the others, from the section of channels."""
    assert 9 == plain(settings(channel={"max_length": 9})).channel_max_length


@pytest.mark.parametrize(
    ("chat", "field", "value"),
    [
        ({"rate": 1}, "command_rate", 1),
        ({"burst": 2}, "command_burst", 2),
        ({"private_messages": False}, "private_messages", False),
    ],
)
def test_each_chat_setting_reaches_the_policy(chat: object, field: str, value: object) -> None:
    """The same for the section of the plain protocols, which Centrifuge sessions do not heed."""
    assert value == getattr(plain(settings(chat=chat)), field)
    theirs = policy_for(settings(chat=chat), "centrifuge_json", "application")
    assert getattr(policy_for(Settings(), "centrifuge_json", "application"), field) == getattr(theirs, field)


def test_personal_channels_are_asked_for_by_plain_protocols_themselves() -> None:
    """The policy subscribes Centrifuge sessions only; private messages are a matter of plain ones only."""
    enabled = settings(client={"subscribe_to_user_personal_channel": {"enabled": True}})
    assert not plain(enabled).personal
    assert plain().private_messages
    assert not policy_for(Settings(), "centrifuge_json", "application").private_messages


@pytest.mark.parametrize(("codec", "anonymous"), [("echo", True), ("chat", False), ("centrifuge_json", False)])
def test_echo_alone_may_be_open_to_all(codec: str, anonymous: bool) -> None:
    """`chat.echo_anonymous` opens nothing else."""
    assert anonymous == policy_for(settings(chat={"echo_anonymous": True}), codec, "frame").anonymous


def test_the_namespaces_of_the_plain_protocols_exist() -> None:
    """Chat and notifications work without a line of configuration, with exactly these rights."""
    expected = Namespaces(
        without_namespace=ChannelOptions(),
        by_name={
            "chat": ChannelOptions(
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
            ),
            "notifications": ChannelOptions(
                history_size=100, history_ttl=86_400, force_recovery=True, allow_subscribe_for_client=True
            ),
        },
    )
    assert expected == namespaces(Settings())


def test_an_operators_namespace_replaces_ours_whole() -> None:
    """Who defines `chat` decides every option of it; `notifications` stays."""
    found = namespaces(settings(channel={"namespaces": [{"name": "chat", "presence": True}]}))
    assert ChannelOptions(presence=True) == found.by_name["chat"]
    assert 100 == found.by_name["notifications"].history_size


def test_global_channel_settings_hold_where_a_namespace_says_nothing() -> None:
    """`history_meta_ttl` and `publication_data_format` of all channels are defaults of each."""
    own = {"name": "own", "history_meta_ttl": "2h", "publication_data_format": "json_object"}
    channel = {"history_meta_ttl": "48h", "publication_data_format": "json", "namespaces": [{"name": "ab"}, own]}
    found = namespaces(settings(channel=channel))
    assert (48 * 3600, "json") == (found.by_name["ab"].history_meta_ttl, found.by_name["ab"].publication_data_format)
    assert (2 * 3600, "json_object") == (
        found.by_name["own"].history_meta_ttl,
        found.by_name["own"].publication_data_format,
    )
    assert "json" == found.without_namespace.publication_data_format


def test_positions_of_our_namespaces_outlive_their_history() -> None:
    """A short global history_meta_ttl does not break recovery in chat."""
    assert 86_400 == namespaces(settings(channel={"history_meta_ttl": "1h"})).by_name["chat"].history_meta_ttl


def test_a_node_is_named_by_host_and_port_unless_named() -> None:
    """Two nodes of one machine differ without configuration."""
    assert "mine" == node_name(settings(node={"name": "mine"}))
    assert node_name(settings(http_server={"port": 8002})).endswith("_8002")
