"""The regression gate, with a node that was slowed down: it must be found, and nothing else may be."""

from __future__ import annotations

import pytest

from loadtests.bench.gate.__main__ import gate
from loadtests.bench.gate.record import read
from loadtests.bench.gate.verdict import Outcome
from loadtests.peers.registry import C_LOOP

SLOWED = ("-m", "tests.support.slowed_node", "serve")
MICROSECONDS = 20  # more work for each write: far beyond the bound on any machine, or a slow one would prove nothing


@pytest.mark.soak  # it takes a quiet machine, and most of a minute
@pytest.mark.skipif(bool(C_LOOP.missing()), reason=C_LOOP.missing() or "there is all that it takes")
async def test_the_gate_finds_a_node_that_does_more_work_for_each_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that wastes CPU time on each write is never taken for a healthy one; on a quiet machine it is found."""
    monkeypatch.setenv("SLOWED_BY", str(MICROSECONDS))
    findings = await gate(read(), program=SLOWED, longest=40)
    assert findings.outcome is not Outcome.HOLDS
    if findings.outcome is Outcome.OPEN:
        pytest.skip(f"no verdict: {findings.disturbed or findings.judgements}")
    assert findings.judgements["fan-out"].outcome is Outcome.FELL
