"""Which key signs, which are published, which may go: for single cases, and over whole lives of several replicas."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from auth_service.keys.schedule import (
    FIRST,
    KeyFile,
    Times,
    due,
    is_key,
    placed,
    published,
    removable,
    retires_at,
    signer,
    soonest,
)

TIMES = Times(publish_ahead=600, rotation=86400, outlives=660)
BY_HAND = Times(publish_ahead=600, rotation=0, outlives=660)


def files(*named: tuple[str, float], times: Times = TIMES) -> list[KeyFile]:
    """Return files by name and time of their last change."""
    return [placed(name, changed_at, times) for name, changed_at in named]


@pytest.mark.parametrize(
    ("name", "since", "ours"),
    [
        (FIRST, 5000.5, True),
        ("1000.pem", 1000, True),
        ("1000-es256_b.pem", 1000, True),
        ("0.pem", 0, True),
        ("own.pem", 5600.5, False),
        ("1000-.pem", 5600.5, False),
        ("1000.old.pem", 5600.5, False),
        ("1000000000000.pem", 5600.5, False),
        ("\u0661\u0660.pem", 5600.5, False),
        ("-5.pem", 5600.5, False),
    ],
)
def test_a_name_says_from_when_its_key_signs(name: str, since: float, ours: bool) -> None:
    """A name of our form says it; any other is an operator's, and waits until everybody can have seen the key."""
    assert KeyFile(since, name, 5000.5, ours) == placed(name, 5000.5, TIMES)
    assert ours is placed(name, 5000.5, TIMES).ours


@pytest.mark.parametrize(
    ("name", "expected"),
    [("own.pem", True), (".1000.pem", False), (".1000.pem.a1b2", False), ("notes.txt", False), ("..data", False)],
)
def test_only_pem_files_in_sight_are_keys(name: str, expected: bool) -> None:
    """Drafts, and what Kubernetes puts beside a mounted secret, are none."""
    assert expected is is_key(name)


@pytest.mark.parametrize(
    ("named", "now", "expected"),
    [
        ([("first.pem", 100)], 100, "first.pem"),
        ([("first.pem", 100)], 50, "first.pem"),
        ([("first.pem", 100), ("1000.pem", 400)], 999.9, "first.pem"),
        ([("first.pem", 100), ("1000.pem", 400)], 1000, "1000.pem"),
        ([("1000.pem", 0), ("1000-b.pem", 0)], 1000, "1000.pem"),
        ([("2000.pem", 0), ("3000.pem", 0)], 10, "2000.pem"),
        ([("own.pem", 1000)], 1000, "own.pem"),
        ([("a.pem", 1000), ("b.pem", 5000)], 5599, "a.pem"),
        ([("a.pem", 1000), ("b.pem", 5000)], 5600, "b.pem"),
        ([("own.pem", 1000), ("1200.pem", 900)], 1300, "1200.pem"),
    ],
)
def test_the_newest_whose_time_has_come_signs(named: list[tuple[str, float]], now: float, expected: str) -> None:
    """In whatever order they are listed; before any time has come, the first to come."""
    assert expected == signer(files(*named), now).name
    assert expected == signer(files(*named[::-1]), now).name


def test_a_key_is_published_until_its_last_token_has_expired() -> None:
    """From the moment its file is there until its successor has signed for longer than a token lives."""
    both = files(("first.pem", 100), ("1000.pem", 400))
    assert ["1000.pem", "first.pem"] == [it.name for it in sorted(both, key=lambda it: it.name)]
    assert both == published(both[::-1], 400, TIMES)
    assert both == published(both, 1659.9, TIMES)
    assert [both[1]] == published(both, 1660, TIMES)
    assert [[], [both[0]]] == [removable(both, now, TIMES) for now in (1659.9, 1660)]
    assert [1660, None] == [retires_at(it, both, TIMES) for it in both]


def test_who_takes_over_late_keeps_its_predecessor_longer() -> None:
    """A key that was put there after its own time has signed only since then."""
    both = files(("1000.pem", 400), ("2000.pem", 5000))
    assert 5660 == retires_at(both[0], both, TIMES)
    assert both == published(both, 5659.9, TIMES)


def test_an_operators_key_is_never_removed() -> None:
    """It leaves the JWKS in time like any other, and its file stays where the operator put it."""
    both = files(("own.pem", 100), ("1000.pem", 400))
    assert [both[1]] == published(both, 1660, TIMES)
    assert [] == removable(both, 1660, TIMES)


@pytest.mark.parametrize(
    ("named", "times", "now", "expected"),
    [
        ([("first.pem", 1000)], TIMES, 1000 + 86400 - 661, None),
        ([("first.pem", 1000)], TIMES, 1000 + 86400 - 660, 87400),
        ([("first.pem", 1000.2)], TIMES, 1000 + 86400 - 600, 87401),
        ([("first.pem", 1000)], TIMES, 1000 + 86400 - 599, 87420),
        ([("first.pem", 1000)], TIMES, 10_000_000, 10_000_620),
        ([("first.pem", 1000), ("87400.pem", 86800)], TIMES, 87000, None),
        ([("first.pem", 1000)], BY_HAND, 10_000_000, None),
        ([("own.pem", 1000)], TIMES, 10_000_000, None),
        ([("own.pem", 1000), ("9000.pem", 8000)], TIMES, 10_000_000, 10_000_620),
    ],
    ids=["not yet", "in time", "rounded up", "late", "long overdue", "made", "never", "an operator's", "asked for"],
)
def test_when_the_next_key_is_due(
    named: list[tuple[str, float]], times: Times, now: float, expected: int | None
) -> None:
    """So early that it is published for long enough before the turn; when that was missed, as soon as possible."""
    assert expected == due(files(*named), now, times)


def test_replicas_that_come_late_choose_one_name() -> None:
    """The second is rounded up, to a step that is small beside the waiting."""
    only = files(("first.pem", 1000))
    assert {10_000_620} == {soonest(only, 10_000_000 + it / 7, TIMES) for it in range(140)}
    assert 1013 == soonest(only, 1001.5, Times(publish_ahead=11, rotation=0, outlives=5))


def test_a_key_made_now_comes_after_an_operators_that_is_new() -> None:
    """That one waits for its time as well, and signs meanwhile if there is no other: nothing may come before it."""
    only = files(("own.pem", 1020.5))
    assert 1680 == soonest(only, 1020.5, TIMES)
    assert 1621 == soonest(only, 1000, TIMES)


# --- whole lives

POLL = 1.0
SKEW = 1.0  # between the clocks of two replicas
LIVES = Times(publish_ahead=20, rotation=40, outlives=15 + 2)
TOKEN = 15.0  # the longest life of a token
KEEPS = LIVES.publish_ahead - POLL - 2 * SKEW - 1  # how long a verifier may keep a JWKS: the service says half as much


@dataclass(slots=True)
class Replica:
    """A process: its clock, and the directory as it last saw it."""

    skew: float
    seen: list[KeyFile] = field(default_factory=list)
    looked_at: float = 0.0


class Lives(RuleBasedStateMachine):
    """A directory, replicas that tend it, operators who add keys, tokens, and everybody who keeps a JWKS."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.disk: dict[str, float] = {}
        self.replicas: list[Replica] = []
        self.fetched: list[tuple[float, frozenset[str]]] = []
        self.tokens: dict[tuple[str, float], None] = {}  # key and end

    @initialize(skews=strategies.lists(strategies.floats(0, SKEW), min_size=1, max_size=3), own=strategies.booleans())
    def start(self, skews: list[float], own: bool) -> None:
        """Start in an empty directory, or in one with an operator's key."""
        self.disk["own.pem" if own else FIRST] = self.now
        self.replicas = [Replica(skew) for skew in skews]
        for it in self.replicas:
            self.tend(it)

    @rule(seconds=strategies.floats(0.1, 30))
    def let_time_pass(self, seconds: float) -> None:
        """Everybody looks into the directory every second, and signs and fetches meanwhile."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, min(it.looked_at for it in self.replicas) + POLL)
            for it in self.replicas:
                if it.looked_at + POLL <= self.now:
                    self.tend(it)
            self.check()

    @rule(seconds=strategies.floats(1, 100))
    def be_down(self, seconds: float) -> None:
        """All replicas are away for a while; whoever keeps a JWKS uses it."""
        self.now += seconds
        for it in self.replicas:
            self.tend(it)

    @rule()
    def rotate_by_hand(self) -> None:
        """Make the next key before its time, as the command does."""
        seen = self.read()
        if max(seen) == signer(seen, self.now):
            self.disk.setdefault(f"{soonest(seen, self.now, LIVES)}.pem", self.now)

    @rule(name=strategies.sampled_from(["a.pem", "b.pem", "zz.pem"]))
    def add_an_operators_key(self, name: str) -> None:
        """Put a file of any name there, not in the same instant as another one."""
        self.now += 0.01
        self.disk.setdefault(name, self.now)

    @rule(seconds=strategies.sampled_from([-100_000, -50, 21, 60]))
    def add_a_key_by_time(self, seconds: int) -> None:
        """Put an old key back there, or one that signs when everybody can have seen it."""
        signs = signer(self.read(), self.now).since
        if seconds > 0 or self.now + seconds + 1 < signs <= self.now:  # a name is taken at its word
            self.disk.setdefault(f"{int(self.now) + 1 + seconds}-own.pem", self.now)

    @rule(index=strategies.integers(0, 2))
    def restart(self, index: int) -> None:
        """A replica knows nothing but the files."""
        it = self.replicas[index % len(self.replicas)]
        it.seen = []
        self.tend(it)

    @invariant()
    def hold(self) -> None:
        """Check, sign and fetch at any moment."""
        if self.replicas:
            self.check()

    def read(self) -> list[KeyFile]:
        """Return what is in the directory now."""
        return [placed(name, made, LIVES) for name, made in self.disk.items()]

    def tend(self, it: Replica) -> None:
        """Do what `Keyring.tend` does: read, make what is due, remove what may go, read again."""
        it.looked_at = self.now
        now = self.now + it.skew
        it.seen = self.read()
        since, gone = due(it.seen, now, LIVES), removable(it.seen, now, LIVES)
        if since is not None:
            self.disk.setdefault(f"{since}.pem", now)
        for file in gone:
            self.disk.pop(file.name, None)
        it.seen = self.read()

    def check(self) -> None:
        """Every token that lives verifies with every JWKS that is still in use, and its key is still there."""
        self.fetched = [it for it in self.fetched if it[0] >= self.now - KEEPS]
        for it in self.replicas:
            now = self.now + it.skew
            self.tokens[signer(it.seen, now).name, now + TOKEN] = None
            self.fetched.append((self.now, frozenset(file.name for file in published(it.seen, now, LIVES))))
        self.tokens = {it: None for it in self.tokens if it[1] > self.now}
        used = {key for key, _ in self.tokens}
        for _, keys in self.fetched:
            assert used <= keys
        assert used <= self.disk.keys()
        ours = [name for name in self.disk if name.removesuffix(".pem").isdecimal()]
        assert len(ours) <= 4, "keys pile up"


Lives.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_publish_before_sign_holds = Lives.TestCase
