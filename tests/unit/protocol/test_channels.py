from __future__ import annotations

import re

import pytest

from gateway.protocol.channels import (
    PERSONAL_OPTIONS,
    ChannelOptions,
    Namespaces,
    Standing,
    bad_name,
    can_be_personal,
    is_personal,
    listed_users,
    may_publish,
    may_read_history,
    may_read_presence,
    may_subscribe,
    overridden,
    personal_channel,
)
from gateway.types import Channel, UserId

NONE, CHAT = ChannelOptions(), ChannelOptions(presence=True)
NAMESPACES = Namespaces(without_namespace=NONE, by_name={"chat": CHAT})
ALICE, NOBODY = Standing(UserId("alice")), Standing(UserId(""))


@pytest.mark.parametrize(
    ("channel", "options"),
    [
        ("news", NONE),
        ("chat:lobby", CHAT),
        ("chat:lobby:side", CHAT),
        ("$chat:lobby", CHAT),
        ("$$chat:lobby", None),
        ("$news", NONE),
        ("nope:x", None),
        (":x", None),
        ("#alice", PERSONAL_OPTIONS),
        ("#google:42", PERSONAL_OPTIONS),
        ("#alice,bob", NONE),
        ("#a#b", NONE),
        ("chat:#alice", CHAT),
        ("$#alice", NONE),
    ],
)
def test_options_of_a_channel(channel: str, options: ChannelOptions | None) -> None:
    """The namespace is the text before the first colon after one leading dollar; `#user` has fixed options."""
    assert options is NAMESPACES.options(Channel(channel))


def test_namespaces_that_keep_history() -> None:
    """History is kept only with a size and a time."""
    kept = [ChannelOptions(history_size=size, history_ttl=ttl).keeps_history for size in (0, 1) for ttl in (0.0, 1.0)]
    assert [False, False, False, True] == kept


def test_a_bad_rule_for_names_fails_at_once() -> None:
    """A pattern that is none is refused where options are made, not in the middle of a session."""
    with pytest.raises(re.error):
        ChannelOptions(channel_regex="(")


@pytest.mark.parametrize(
    ("user", "possible"),
    [
        ("alice", True),
        ("ålice", True),
        ("google:42", True),
        ("", False),
        ("a,b", False),
        ("a#b", False),
        ("a\nb", False),
        ("a\x7f", False),
        ("\ud800", False),
        ("x" * 200, True),
        ("å" * 100, True),
        ("å" * 101, False),
    ],
)
def test_who_can_have_a_personal_channel(user: str, possible: bool) -> None:
    """Not the anonymous, not who could be taken for a list, at most 200 bytes."""
    assert possible == can_be_personal(UserId(user))
    assert possible == is_personal(personal_channel(UserId(user)))


@pytest.mark.parametrize(
    ("channel", "personal"),
    [("#a", True), ("ns:#a", True), ("$ns:#a", True), ("dialog#a", False), ("#a,b", False), ("a", False), ("#", False)],
)
def test_personal_channels(channel: str, personal: bool) -> None:
    """One user after the `#`, nothing but a namespace before it."""
    assert personal == is_personal(Channel(channel))


def test_listed_users() -> None:
    """Users are named after the last `#`."""
    assert listed_users(Channel("dialog#x#1,2")) == ["1", "2"]
    assert listed_users(Channel("dialog")) == []


@pytest.mark.parametrize(
    ("channel", "regex", "fault"),
    [
        ("chat:lobby", "", None),
        ("x" * 255, "", None),
        ("x" * 256, "", "channel longer than 255 bytes"),
        ("chat:x\n", "", "control characters in channel"),
        ("chat:\ud800", ".", "control characters in channel"),
        ("chat:å", "", "channel is not ASCII"),
        ("chat:å", "^å$", None),
        ("å" * 128, ".", "channel longer than 255 bytes"),
        ("n:12", "^[0-9]+$", None),
        ("n:x", "^[0-9]+$", "channel does not match the rule of its namespace"),
        ("12", "^[0-9]+$", None),
        ("$12", "^[0-9]+$", None),
    ],
)
def test_names_a_client_may_use(channel: str, regex: str, fault: str | None) -> None:
    """Length in bytes, no control characters, ASCII unless the namespace has a rule of its own."""
    refusal = bad_name(Channel(channel), ChannelOptions(channel_regex=regex), 255)
    assert fault == (refusal and refusal.message)
    assert refusal is None or refusal.code == 107


def test_a_token_may_change_five_options() -> None:
    """Names that a token may not change are ignored; nothing to change gives the same object."""
    changed = overridden(NONE, {"presence": True, "allow_publish_for_client": True, "nonsense": True})
    assert ChannelOptions(presence=True) == changed
    assert overridden(NONE, {"history_size": True}) is NONE


SUBSCRIBE = [
    # channel, options, user, insecure, allowed
    ("news", {}, "alice", False, False),
    ("news", {}, "alice", True, True),
    ("news", {"allow_subscribe_for_client": True}, "alice", False, True),
    ("news", {"allow_subscribe_for_client": True}, "", False, False),
    ("news", {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}, "", False, True),
    ("news", {"allow_subscribe_for_anonymous": True}, "", False, False),
    ("$news", {"allow_subscribe_for_client": True}, "alice", True, False),
    ("d#alice,bob", {"allow_user_limited_channels": True}, "alice", False, True),
    ("d#alice,bob", {"allow_user_limited_channels": True}, "carol", False, False),
    ("d#alice,bob", {"allow_user_limited_channels": True}, "carol", True, True),
    ("d#bob", {"allow_user_limited_channels": True, "allow_subscribe_for_client": True}, "alice", False, False),
    ("d#", {"allow_user_limited_channels": True}, "", False, False),
    ("d#alice", {}, "alice", False, False),
    ("d", {"allow_user_limited_channels": True}, "alice", False, False),
]


@pytest.mark.parametrize(("channel", "options", "user", "insecure", "allowed"), SUBSCRIBE)
def test_who_may_subscribe(channel: str, options: dict[str, bool], user: str, insecure: bool, allowed: bool) -> None:
    """Listed users first, then what the namespace allows, then insecure; a private channel only by token."""
    who = Standing(UserId(user), insecure=insecure)
    assert allowed == may_subscribe(Channel(channel), ChannelOptions(**options), who)  # type: ignore[arg-type] # flags only


MEMBER, GUEST = Standing(UserId("alice"), subscribed=True), Standing(UserId(""), subscribed=True)
ANYBODY = Standing(UserId("alice"), insecure=True)
RULES = [
    # for client, for subscriber, for anonymous
    ("---", MEMBER, False),
    ("---", ANYBODY, True),
    ("c--", ALICE, True),
    ("c--", NOBODY, False),
    ("c-a", NOBODY, True),
    ("-s-", ALICE, False),
    ("-s-", MEMBER, True),
    ("-s-", GUEST, False),
    ("-sa", GUEST, True),
    ("--a", GUEST, False),
]


@pytest.mark.parametrize("act", ["publish", "presence", "history"])
@pytest.mark.parametrize(("flags", "who", "allowed"), RULES)
def test_who_may_publish_and_read(act: str, flags: str, who: Standing, allowed: bool) -> None:
    """Three rules for three acts: any client, subscribers, and either for the anonymous; or insecure."""
    names = {"c": "client", "s": "subscriber", "a": "anonymous"}
    given = {f"allow_{act}_for_{names[flag]}": True for flag in flags if flag != "-"}
    options = ChannelOptions(**given)  # type: ignore[arg-type] # flags only
    decisions = {
        "publish": may_publish(Channel("news"), options, who),
        "presence": may_read_presence(options, who),
        "history": may_read_history(options, who),
    }
    assert allowed == decisions.pop(act)
    assert {who.insecure} == set(decisions.values())  # rules for one act give no other


@pytest.mark.parametrize("channel", ["#bob", "chat:#bob"])
def test_nobody_publishes_into_personal_channels(channel: str) -> None:
    """Not even where everything is allowed: what comes there is the server's word."""
    assert not may_publish(Channel(channel), ChannelOptions(allow_publish_for_client=True), ALICE)
    assert not may_publish(Channel(channel), NONE, Standing(UserId("alice"), insecure=True))
    assert not may_publish(Channel(channel), PERSONAL_OPTIONS, NOBODY)
