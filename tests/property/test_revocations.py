"""The denylist against a model that keeps everything and looks through all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.messages import Revoke
from gateway.protocol.revocations import Denylist, subject
from gateway.types import Identity, UserId

NAMES = st.sampled_from(["", "a", "b", "c"])
SUBJECTS = st.tuples(st.sampled_from(["session_id", "token_id", "key_id", "user"]), st.sampled_from(["a", "b", "c"]))
SECONDS = st.integers(0, 20)
ADD = st.tuples(SUBJECTS, SECONDS, SECONDS)
IDENTITY = st.builds(
    Identity,
    user=NAMES.map(UserId),
    session_id=NAMES,
    token_id=NAMES,
    key_id=NAMES,
    issued_at=st.none() | st.floats(0, 20),
)


def revoke(about: tuple[str, str], until: int, before: int = 0) -> Revoke:
    """Return a revocation of this field's value."""
    named: dict[str, Any] = {about[0]: about[1]}
    return Revoke(id="1", until=until, issued_before=before, **named)


@dataclass
class Model:
    """All that was ever revoked: what it is about, to its last end and its last `issued_before`."""

    limit: int
    entries: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, about: tuple[str, str], until: int, before: int, now: int) -> int:
        """Widen what there is; return how many went early."""
        self.expire(now)
        old_until, old_before = self.entries.get(about, (0, 0))
        if max(old_until, until) > now:
            self.entries[about] = (max(old_until, until), max(old_before, before))
        surplus = sorted(self.entries, key=lambda it: self.entries[it][0])[: max(0, len(self.entries) - self.limit)]
        for one in surplus:
            del self.entries[one]
        return len(surplus)

    def expire(self, now: int) -> None:
        """Take out what has ended."""
        self.entries = {it: entry for it, entry in self.entries.items() if entry[0] > now}

    def bars(self, identity: Identity, now: int) -> bool:
        """Look through all of it."""
        self.expire(now)
        said = {"sid": identity.session_id, "jti": identity.token_id, "kid": identity.key_id, "user": identity.user}
        return any(
            said[kind] == value
            and (kind != "user" or identity.issued_at is None or floor(identity.issued_at) <= entry[1])
            for (kind, value), entry in self.entries.items()
        )


@given(st.lists(st.tuples(ADD | IDENTITY, st.integers(0, 3))))
def test_it_bars_what_a_model_bars(steps: list[tuple[tuple[tuple[str, str], int, int] | Identity, int]]) -> None:
    """Whatever is revoked in whatever order while time goes on, the same tokens are barred, and as much is held."""
    denied, model, now = Denylist(limit=1000), Model(1000), 0
    for step, later in steps:
        now += later
        if isinstance(step, Identity):
            assert model.bars(step, now) is (denied.find(step, now) is not None)
        else:
            about, until, before = step
            revocation = revoke(about, until, before if about[0] == "user" else 0)
            assert 0 == denied.add(revocation, now)
            model.add(subject(revocation), until, revocation.issued_before, now)
        model.expire(now)
        denied.expire(now)
        assert len(model.entries) == denied.size
        assert all(denied.bars_key(value, now) for kind, value in model.entries if kind == "kid")


@given(st.lists(st.tuples(SUBJECTS, st.integers(1, 10_000)), unique_by=lambda it: it[1]), st.integers(1, 5))
def test_it_holds_those_that_end_last(added: list[tuple[tuple[str, str], int]], limit: int) -> None:
    """However many come, the limit holds, and as many go early as the model says."""
    denied, model = Denylist(limit=limit), Model(limit)
    for about, until in added:
        revocation = revoke(about, until)
        assert model.add(subject(revocation), until, 0, 0) == denied.add(revocation, 0)
        assert len(model.entries) == denied.size
        assert {value for kind, value in model.entries if kind == "kid"} == {
            it for it in ("a", "b", "c") if denied.bars_key(it, 0)
        }
