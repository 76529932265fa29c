"""The scenarios of the bench, by name, in the order of the table of goals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.bench.scenarios import (
    accepts,
    crowd,
    fan_out,
    history,
    idle,
    lag,
    latency,
    one_to_one,
    server_api,
    workers,
)
from loadtests.bench.scenarios.contract import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = {
    it.name: it
    for it in (
        fan_out.SCENARIO,
        history.FAN_OUT,
        one_to_one.SCENARIO,
        history.ONE_TO_ONE,
        server_api.SCENARIO,
        latency.FAN_OUT,
        latency.ONE_TO_ONE,
        idle.MEMORY,
        idle.CPU,
        accepts.SCENARIO,
        lag.SCENARIO,
        crowd.SCENARIO,
        workers.SCENARIO,
    )
}
