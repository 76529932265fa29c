from __future__ import annotations

import pytest

from gateway.disconnects import BAD_REQUEST
from gateway.errors import PERMISSION_DENIED, EngineFault
from gateway.protocol.effects import Denied, Notified, Notify, PublishTo, Send, Verify
from gateway.protocol.messages import Message, MessageResult, Publish, PublishResult, Reply, SubRefresh, Subscribe
from gateway.protocol.state import LOOKED_UP
from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, ClientInfo, Grant, UserId
from tests.unit.protocol.talk import ALICE, ME, ROOM, TOP, Talk, answer, closing, error, only

BOB = UserId("bob")
DATA = b'{"message":"hi"}'


def test_a_subscriber_publishes() -> None:
    """With the history of the namespace and the identity of the connection; the reply waits for the broker."""
    talk = Talk().subscribed(ROOM, info=b'"A"')
    effect = only(talk.say(Publish(3, ROOM, DATA)), PublishTo)
    options = PublishOptions(100, 60.0, 600.0, info=ClientInfo(ALICE, ME, b'"A"'))
    assert PublishTo(3, ROOM, DATA, options) == effect
    assert PublishResult() == answer(talk.resolve(effect, Published(TOP)))


def test_each_publication_has_options_of_its_own() -> None:
    """The shell writes the time into them, and several may be under way."""
    talk = Talk().subscribed(ROOM)
    first, second = (only(talk.say(Publish(ref, ROOM, DATA)), PublishTo) for ref in (3, 4))
    assert first.options is not second.options


def test_any_client_publishes_without_history() -> None:
    """Where the namespace lets every client publish and keeps nothing."""
    effect = only(Talk().opened().say(Publish(3, Channel("open:x"), DATA)), PublishTo)
    assert PublishOptions(info=ClientInfo(ALICE, ME)) == effect.options


def test_the_info_of_the_channel_comes_along() -> None:
    """A subscription's own info is seen in its channel, and only there."""
    talk = Talk().opened()
    grant = Grant(info=b'"I"')
    for channel in (ROOM, Channel("open:x")):
        talk.join_all(talk.verify(talk.say(Subscribe(2, channel, token="t")), channel=channel, grant=grant))
        effect = only(talk.say(Publish(3, channel, DATA)), PublishTo)
        assert ClientInfo(ALICE, ME, None, b'"I"') == effect.options.info
    assert ClientInfo(ALICE, ME) == only(talk.say(Publish(3, Channel("open:y"), DATA)), PublishTo).options.info


@pytest.mark.parametrize(
    ("channel", "data", "code"),
    [
        ("nope:x", DATA, 102),
        ("open:\n", DATA, 107),
        ("open:" + "x" * 250, DATA, None),
        ("open:" + "x" * 251, DATA, 107),
        ("chat:other", DATA, 103),
        ("bare:x", DATA, 103),
        ("#bob", DATA, 103),
        ("chat:#bob", DATA, 103),
        ("open:x", b"", 107),
        ("objects:x", b"", 107),
        ("objects:x", b"[]", 107),
        ("objects:x", b' \n{"a":1}', None),
        ("open:x", b"null", None),
        ("open:x", b"[" * 60 + b"]" * 60, None),
        ("open:x", b"[" * 61 + b"]" * 61, 107),
        ("open:x", b"7" * 1000, 107),
    ],
)
def test_what_may_be_published(channel: str, data: bytes, code: int | None) -> None:
    """Unknown, not allowed, or not of the shape the namespace wants."""
    talk = Talk().subscribed("bare:x")
    effects = talk.say(Publish(3, Channel(channel), data))
    if code is None:
        assert isinstance(effects[0], PublishTo)
    else:
        assert error(effects) == code


def test_names_that_are_too_long_are_not_remembered() -> None:
    """Clients make up names: what is kept of them is as short as the longest that is allowed, and there is an end."""
    talk = Talk().opened()
    looked_up = talk.session.policy.looked_up
    for length in (255, 256, 60_000):
        talk.say(Publish(3, Channel("open:".ljust(length, "x")), DATA))
    assert [255] == [len(name) for name in looked_up]
    for number in range(LOOKED_UP + 10):
        talk.say(Publish(3, Channel(f"open:{number}"), DATA))
    assert LOOKED_UP >= len(looked_up) > 0


def test_a_subscriber_without_the_right_is_not_taken_for_one_with_it() -> None:
    """The shape of the data is checked for subscribers too, and so is the right to publish."""
    talk = Talk().subscribed(ROOM, "bare:x")
    assert error(talk.say(Publish(3, ROOM, b""))) == 107
    assert error(talk.say(Publish(3, Channel("bare:x"), DATA))) == 103


def test_everybody_publishes_where_the_server_is_insecure_but_not_in_anothers_name() -> None:
    """Personal channels stay the server's."""
    talk = Talk(insecure=True).opened(user="")
    assert isinstance(talk.say(Publish(3, Channel("bare:x"), DATA))[0], PublishTo)
    assert error(talk.say(Publish(3, Channel("#bob"), DATA))) == 103


def test_publishing_nowhere_ends_the_connection() -> None:
    """An empty channel is no channel."""
    assert closing(Talk().opened().say(Publish(3, Channel(""), DATA))) is BAD_REQUEST


@pytest.mark.parametrize("kind", ["down", "timeout", "lost", "refused", "oom", "readonly"])
def test_the_broker_fails(kind: str) -> None:
    """The client may try again: temporary, whatever happened."""
    talk = Talk().subscribed(ROOM)
    effect = only(talk.say(Publish(3, ROOM, DATA)), PublishTo)
    assert error(talk.resolve(effect, EngineFault(kind))) == 100


# --- private messages


def test_a_private_message() -> None:
    """Under the sender's own identity, without history; the sender learns whether anybody was there."""
    talk = Talk(private_messages=True).opened()
    effect = only(talk.say(Message(3, BOB, DATA)), Notify)
    assert Notify(3, BOB, DATA, PublishOptions(info=ClientInfo(ALICE, ME))) == effect
    assert MessageResult(BOB, delivered=False) == answer(talk.resolve(effect, Notified(delivered=False)))
    assert error(talk.resolve(effect, EngineFault("down"))) == 100


@pytest.mark.parametrize(("user", "data"), [("", DATA), ("a,b", DATA), ("a#b", DATA), ("x" * 201, DATA), ("bob", b"")])
def test_a_private_message_to_nobody(user: str, data: bytes) -> None:
    """Who cannot have a personal channel cannot be written to; and there must be something to say."""
    assert error(Talk(private_messages=True).opened().say(Message(3, UserId(user), data))) == 107


def test_private_messages_are_the_servers_rule() -> None:
    """Off means refused, whatever the namespaces say."""
    assert error(Talk().opened().say(Message(3, BOB, DATA))) == 103


def test_publishing_while_the_token_of_the_channel_is_checked() -> None:
    """A subscription that does not stand yet gives no rights."""
    talk = Talk().opened()
    assert isinstance(talk.say(Subscribe(2, ROOM, token="t"))[0], Verify)
    assert error(talk.say(Publish(3, ROOM, DATA))) == 103


@pytest.mark.parametrize("channel", [ROOM, Channel("open:x")])
def test_a_forged_publication(channel: Channel) -> None:
    """Who names what only the server sets publishes nothing, member or not, and it is written down."""
    effects = Talk().subscribed(ROOM).say(Publish(3, channel, DATA, forged=True))
    assert [Denied("publish", channel.partition(":")[0]), Send(Reply(3, PERMISSION_DENIED))] == effects


def test_a_forged_private_message() -> None:
    """The same for one user."""
    effects = Talk(private_messages=True).opened().say(Message(3, BOB, DATA, forged=True))
    assert [Denied("message"), Send(Reply(3, PERMISSION_DENIED))] == effects


@pytest.mark.parametrize(
    ("channel", "namespace"), [("chat:x", "chat"), ("$chat:x", "chat"), ("x", ""), ("#bob", "#"), ("chat:#bob", "#")]
)
def test_what_is_written_down_of_a_channel(channel: str, namespace: str) -> None:
    """Its namespace, in our words: no text of a client's gets into a log by this way."""
    assert Denied("publish", namespace) == Talk().opened().say(Publish(3, Channel(channel), DATA))[0]


def test_a_channel_of_nobodys_namespace_has_no_name() -> None:
    """Where a channel need not exist to be refused, what stands before its colon is not repeated."""
    assert Denied("sub_refresh", "?") == Talk().opened().say(SubRefresh(3, Channel("forged line:x"), "t"))[0]
