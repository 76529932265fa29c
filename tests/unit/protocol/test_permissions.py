"""Every cell of who x channel x options x action, against a table that was written from the protocol's documents.

The table is `scripts/permissions.toml`, which is also the page `docs/reference/permissions.md`. What is expected is
worked out from its words alone; the session is asked without a loop, as a client would.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.errors import ErrorReply
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.effects import (
    Close,
    Denied,
    Effect,
    Join,
    Notify,
    PublishTo,
    ReadHistory,
    ReadPresence,
    ReadStats,
    Send,
)
from gateway.protocol.messages import (
    Command,
    Connect,
    History,
    Members,
    Message,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Reply,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from gateway.types import Channel, ConnectionId, Grant, UserId
from tests.unit.protocol.talk import WALL, Talk

ROOT = Path(__file__).parent.parent.parent.parent
TABLE: Mapping[str, Any] = tomllib.loads((ROOT / "scripts" / "permissions.toml").read_text(encoding="utf-8"))

CHANNELS = {
    "open": ["ns:x", "x"],
    "private": ["$ns:x", "$x"],
    "limited": ["ns:x#alice,bob", "x#alice,bob"],
    "personal": ["#alice"],
    "personal_in_namespace": ["ns:#alice"],
}
USERS = {"listed": "alice", "user": "carol", "subscriber": "carol", "anonymous": "", "anonymous subscriber": ""}
FLAGS = {
    "subscribe": ["subscribe_for_client", "subscribe_for_anonymous", "user_limited_channels"],
    "publish": ["publish_for_client", "publish_for_subscriber", "publish_for_anonymous"],
    "presence": ["presence_for_client", "presence_for_subscriber", "presence_for_anonymous"],
    "history": ["history_for_client", "history_for_subscriber", "history_for_anonymous"],
}
ALL_FLAGS = frozenset(f"allow_{it}" for it in chain.from_iterable(FLAGS.values())) | {
    "allow_positioning",
    "allow_recovery",
}
KEPT = {"presence": True, "history_size": 10, "history_ttl": 60.0}
ACTIONS = {
    "subscribe": ["subscribe"],
    "publish": ["publish"],
    "presence": ["presence", "presence_stats", "members"],
    "history": ["history"],
}


class Cell(NamedTuple):
    """Who asks for what, where, under which options; `way`: how a subscriber came to be one."""

    role: str
    user: str
    way: str
    channel: str
    action: str
    options: frozenset[str]


def promised(rule: str, options: frozenset[str]) -> str:
    """Read a rule of the table."""
    if rule in {"always", "never", "not kept"}:
        return {"always": "ok", "never": "103", "not kept": "108"}[rule]

    def holds(term: str) -> bool:
        name = term.removeprefix("not ")
        assert name in ALL_FLAGS, f"the table names {name!r}"
        return (name in options) is (name == term)

    return "ok" if any(all(map(holds, part.split(" + "))) for part in rule.split(" or ")) else "103"


def option_sets(family: str) -> Iterator[frozenset[str]]:
    """Yield every set of a family's options, with all other options off and with all of them on."""
    own = [f"allow_{it}" for it in FLAGS[family]]
    for size in range(len(own) + 1):
        for chosen in combinations(own, size):
            yield frozenset(chosen)
            yield frozenset(chosen) | (ALL_FLAGS - set(own))


def people(role: str) -> Iterator[tuple[str, str]]:
    """Yield user and way for a role."""
    if role == "insecure":
        yield from product(["", "alice", "carol"], ["", "token"])
    elif "subscriber" in role:
        yield from ((USERS[role], way) for way in ("token", "grant"))
    else:
        yield USERS[role], ""


def cells(family: str, kind: str) -> Iterator[tuple[Cell, str]]:
    """Yield the cells of a family of actions in a kind of channel, and what the table promises."""
    for role, rule in TABLE["rules"][family][kind].items():
        for options, (user, way) in product(option_sets(family), people(role)):
            if family == "subscribe" and way:
                continue  # a subscriber is told 105, see below
            for channel, action in product(CHANNELS[kind], ACTIONS[family]):
                yield Cell(role, user, way, channel, action, options), promised(rule, options)


def talk_of(cell: Cell, **more: Any) -> Talk:
    """Open the conversation of a cell."""
    options = ChannelOptions(**{**KEPT, **dict.fromkeys(cell.options, True), **more})
    namespaces = Namespaces(without_namespace=options, by_name={"ns": options})
    talk = Talk(namespaces=namespaces, insecure=cell.role == "insecure", anonymous=True)
    channel, user = Channel(cell.channel), UserId(cell.user)
    grants = {channel: Grant()} if cell.way == "grant" else {}
    talk.join_all([it for it in talk.connect(Connect(1, token="t"), user=user, grants=grants) if isinstance(it, Join)])
    if cell.way == "token":
        asked = talk.say(Subscribe(2, channel, token="t"))
        talk.join_all(talk.verify(asked, user=user, channel=channel))
        assert channel in talk.session.subscriptions, cell
    return talk


def command(action: str, channel: str) -> Command:
    """Return the command of an action."""
    it = Channel(channel)
    match action:
        case "subscribe":
            return Subscribe(3, it)
        case "publish":
            return Publish(3, it, b"{}")
        case "presence":
            return Presence(3, it)
        case "presence_stats":
            return PresenceStats(3, it)
        case "members":
            return Members(3, it)
        case "history":
            return History(3, it, 1)
        case _:
            return Unsubscribe(3, it)


DONE = {
    "subscribe": Join,
    "publish": PublishTo,
    "presence": ReadPresence,
    "members": ReadPresence,
    "presence_stats": ReadStats,
    "history": ReadHistory,
    "message": Notify,
}


def outcome(action: str, effects: list[Effect]) -> str:
    """Return what came of a command in the words of the table; what is refused must be written down, and only that."""
    written = [it.action for it in effects if isinstance(it, Denied)]
    told = [it for it in effects if not isinstance(it, Denied)]
    [effect] = told[:1]
    if isinstance(effect, Close):
        assert [action] == written, effects
        return str(effect.disconnect.code)
    if isinstance(effect, Send) and isinstance(effect.message, Reply) and isinstance(effect.message.result, ErrorReply):
        code = effect.message.result.code
        assert ([action] if code == 103 else []) == written, effects
        return str(code)
    assert [] == written
    assert isinstance(effect, DONE.get(action, Send)), (action, effects)
    return "ok"


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("family", FLAGS)
def test_every_cell_is_as_the_table_says(family: str, kind: str) -> None:
    """Each option alone and each left out, beside nothing and beside all others, for everybody and every action."""
    wrong, count = [], 0
    for cell, expected in cells(family, kind):
        found = outcome(cell.action, talk_of(cell).say(command(cell.action, cell.channel)))
        count += 1
        if found != expected:
            wrong.append(f"{cell}: the table says {expected}, the session {found}")
    assert [] == wrong
    assert count >= 16 * len(TABLE["rules"][family][kind]) * len(CHANNELS[kind])


@pytest.mark.parametrize("family", ["presence", "history"])
def test_what_is_not_kept_is_told_to_those_only_who_might_see_it(family: str) -> None:
    """Without the feature an allowed question is 108; one that is not allowed stays 103 and learns nothing."""
    off = {"presence": False} if family == "presence" else {"history_size": 0}
    for cell, expected in cells(family, "open"):
        found = outcome(cell.action, talk_of(cell, **off).say(command(cell.action, cell.channel)))
        assert {"ok": "108", "103": "103"}[expected] == found, cell


def everybody() -> Iterator[Cell]:
    """Yield one cell for each role, all options set."""
    for role in TABLE["roles"]:
        for user, _ in people(role):
            yield Cell(role, user, "", "", "", ALL_FLAGS)


@pytest.mark.parametrize(
    ("channel", "code"), [("nope:x", "102"), ("$nope:x", "102"), ("ns:y", "107"), ("y", "107"), ("ns:x\n", "107")]
)
def test_names_that_no_option_opens(channel: str, code: str) -> None:
    """An unknown namespace and a name that breaks its rule are refused to everybody, with every option set."""
    for cell in everybody():
        talk = talk_of(cell, channel_regex=r"\A[#x]")
        for action in chain.from_iterable(ACTIONS.values()):
            assert code == outcome(action, talk.say(command(action, channel))), (cell, action)
        assert code == outcome("subscribe", talk.say(Subscribe(3, Channel(channel), token="t"))), cell


def test_unsubscribing_is_allowed_to_everybody() -> None:
    """Whatever the channel, subscribed or not."""
    for cell in everybody():
        talk = talk_of(cell)
        for channel in ("ns:x", "$ns:x", "#alice", "nope:x", "ns:x\n"):
            assert outcome("unsubscribe", talk.say(command("unsubscribe", channel))) == "ok", cell


def test_who_is_subscribed_does_not_subscribe_again() -> None:
    """By whatever right, and with whatever token: error 105."""
    for kind, way in product(CHANNELS, ("token", "grant")):
        for channel in CHANNELS[kind]:
            talk = talk_of(Cell("subscriber", "alice", way, channel, "", ALL_FLAGS))
            for token in ("", "t"):
                assert outcome("subscribe", talk.say(Subscribe(3, Channel(channel), token=token))) == "105"


def test_private_messages() -> None:
    """One rule of the server, and no option of a channel, says who may."""
    for cell, allowed in product(everybody(), (True, False)):
        talk = Talk(private_messages=allowed, insecure=cell.role == "insecure", anonymous=True)
        talk.connect(Connect(1, token="t"), user=UserId(cell.user))
        told = talk.say(Message(3, UserId("alice"), b"{}"))
        assert ("ok" if allowed else "103") == outcome("message", told), cell


# --- tokens

CLAIMS: Mapping[str, Mapping[str, Any]] = {
    "own": {},
    "other_user": {"user": UserId("bob")},
    "other_channel": {"channel": Channel("ns:other")},
    "other_client": {"client": ConnectionId("somebody else's")},
    "expired": {"expires_at": WALL},
    "connection": {"channel": None},
    "ticket": {"ticket": True},
}
SAYS = {"accepted": "ok"} | {f"error {it}": str(it) for it in (103, 109)}
SAYS |= {f"closes with {it}": str(it) for it in (3005, 3010, 3500)}


def token_cells() -> Iterator[tuple[str, Cell]]:
    """Yield each token in every kind of channel, with no option set and with all."""
    assert TABLE["tokens"].keys() == CLAIMS.keys()
    for token, kind, options in product(TABLE["tokens"], CHANNELS, (frozenset[str](), ALL_FLAGS)):
        for channel, user in product(CHANNELS[kind], ("alice", "carol", "")):
            yield token, Cell("user", user, "", channel, "", options)


def test_subscription_tokens() -> None:
    """What a token opens, or ends, is independent of the options, the channel and the user."""
    for token, cell in token_cells():
        talk, channel = talk_of(cell), Channel(cell.channel)
        claims = {"user": UserId(cell.user), "channel": channel, **CLAIMS[token]}
        found = outcome("subscribe", talk.verify(talk.say(Subscribe(3, channel, token="t")), **claims))
        assert SAYS[TABLE["tokens"][token]["subscribe"]] == found, (token, cell)


def test_refreshing_subscriptions() -> None:
    """The same for those who are subscribed: the wrong token ends the connection, an ended one is only refused."""
    for (token, cell), way in product(token_cells(), ("token", "grant")):
        talk, channel = talk_of(cell._replace(way=way)), Channel(cell.channel)
        claims = {"user": UserId(cell.user), "channel": channel, **CLAIMS[token]}
        found = outcome("sub_refresh", talk.verify(talk.say(SubRefresh(3, channel, "t")), **claims))
        assert SAYS[TABLE["tokens"][token]["sub_refresh"]] == found, (token, cell)


def test_refreshing_a_subscription_that_is_none() -> None:
    """Refused to everybody, before the token is looked at."""
    for cell in everybody():
        assert outcome("sub_refresh", talk_of(cell).say(SubRefresh(3, Channel("ns:x"), "t"))) == "103", cell


REFRESHES: Mapping[str, Mapping[str, Any]] = {
    "own": {},
    "other_user": {"user": UserId("bob")},
    "expired": {"expires_at": WALL},
    "fewer_channels": {"grants": {}},
    "more_channels": {"grants": {Channel("ns:x"): Grant(), Channel("ns:y"): Grant()}},
    "other_options": {"grants": {Channel("ns:x"): Grant(override={"presence": False})}},
    "subscription": {"channel": Channel("ns:x")},
    "ticket": {"ticket": True},
}


def test_refreshing_connections() -> None:
    """Only a token of the same user that grants the same keeps the connection; what is no offence is not written."""
    assert TABLE["refreshes"].keys() == REFRESHES.keys()
    for (token, promise), user in product(TABLE["refreshes"].items(), ("alice", "")):
        talk = talk_of(Cell("user", user, "grant", "ns:x", "", ALL_FLAGS))
        claims = {"user": UserId(user), "grants": {Channel("ns:x"): Grant()}, **REFRESHES[token]}
        effects = talk.verify(talk.say(Refresh(3, "t")), **claims)
        found = str(effects[0].disconnect.code) if isinstance(effects[0], Close) else outcome("refresh", effects)
        assert SAYS[promise["refresh"]] == found, (token, user)
        assert (found == "3500") is isinstance(effects[0], Denied)
