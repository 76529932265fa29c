"""A real Prometheus with the configuration that is in `deploy/prometheus/`, at its own pace or many times as fast."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.support.fleet import HOST, Process
from tests.support.ports import free_port

FOLDER: Final = Path(__file__).parent.parent.parent / "deploy" / "prometheus"
ITSELF: Final = "prometheus"
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION: Final = re.compile(r"(\d+)(ms|[smhdw])")
PLACES: Final = re.compile(rf"(?<=\[)({DURATION.pattern})(?=\])|(?<=offset )({DURATION.pattern})")
LOOK: Final = 0.1  # seconds between two looks at what fires


def seconds(text: str) -> float:
    """Return a duration of Prometheus' in seconds."""
    parts = DURATION.findall(text)
    assert text == "".join(number + unit for number, unit in parts), text
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def faster(text: str, speed: float) -> str:
    """Return a duration as it passes when time is so many times as fast."""
    return f"{max(1, round(1000 * seconds(text) / speed))}ms"


def hastened(rules: Any, speed: float) -> Any:
    """Return rules that see, within a second, what they else see within `speed` seconds."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = PLACES.sub(lambda found: faster(found[0], speed), rule["expr"])
            if "for" in rule:
                rule["for"] = faster(rule["for"], speed)
    return rules


@dataclass(frozen=True, slots=True)
class Series:
    """One answer: its labels, and its values at moments (Unix time)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired: what it is about, and from when to when it was seen to."""

    name: str
    labels: Mapping[str, str]
    first: float
    last: float

    def __str__(self) -> str:
        """Name it, with whom it is about."""
        return f"{self.name}({self.labels.get('instance', '')})"


class Prometheus(Process):
    """One server; jobs and rules are those of `deploy/prometheus/`, targets those of the test."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]], speed: float) -> None:
        port = free_port()
        self.speed = speed
        self.interval = _configure(folder, targets, speed)
        command = [
            shutil.which(ITSELF) or ITSELF,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ]
        super().__init__(ITSELF, port, folder / "prometheus.log", command, {})
        self._http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30.0)

    def lasting(self, text: str) -> float:
        """Return how many seconds a duration of the rules as they are written takes here."""
        return seconds(text) / self.speed

    async def ready(self, within: float = 30.0) -> None:
        """Wait until it answers."""
        start = time.monotonic()
        while not await self._answers():
            assert self.alive, f"{self.name} ended:\n{self.tail()}"
            assert time.monotonic() - start < within, f"{self.name} did not get ready:\n{self.tail()}"
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End it."""
        await self._http.aclose()
        self.kill()

    # --- what it is asked

    async def query(self, expr: str, at: float | None = None) -> list[Series]:
        """Evaluate an expression now, or at a moment."""
        found = await self._ask("query", query=expr, **({} if at is None else {"time": at}))
        if found["resultType"] == "scalar":
            return [Series({}, [_point(found["result"])])]
        return [Series(it["metric"], [_point(it["value"])]) for it in found["result"]]

    async def course(self, expr: str, begin: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression from a moment to another."""
        found = await self._ask("query_range", query=expr, start=begin, end=end, step=step)
        return [Series(it["metric"], [_point(point) for point in it["values"]]) for it in found["result"]]

    async def targets(self) -> dict[str, str]:
        """Return the health of every target, by `job instance`."""
        active = (await self._ask("targets"))["activeTargets"]
        return {f"{it['labels']['job']} {it['labels']['instance']}": str(it["health"]) for it in active}

    async def alerts(self) -> list[Any]:
        """Return what is pending or fires now, with its texts."""
        return list((await self._ask("alerts"))["alerts"])

    async def fired(self, since: float, until: float | None = None) -> list[Firing]:
        """Return what fired from one moment to another, or to now, in the order in which it began."""
        end = time.time() if until is None else until
        found = await self.course('ALERTS{alertstate="firing"}', since, end, self.interval / 2)
        fired = [Firing(it.labels["alertname"], it.labels, it.points[0][0], it.points[-1][0]) for it in found]
        return sorted(fired, key=lambda it: it.first)

    async def until(self, condition: Callable[[set[str]], bool], within: float, what: str) -> float:
        """Wait until the names of what fires meet a condition; return the seconds that took."""
        start = time.monotonic()
        while True:
            firing = {it["labels"]["alertname"] for it in await self.alerts() if it["state"] == "firing"}
            if condition(firing):
                return time.monotonic() - start
            assert time.monotonic() - start < within, (
                f"{what}: not within {within:.1f} s; firing: {firing or 'nothing'}"
            )
            await asyncio.sleep(LOOK)

    # --- inside

    async def _answers(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).is_success
        except httpx.TransportError:
            return False

    async def _ask(self, what: str, **parameters: Any) -> Any:
        answer = (await self._http.get(f"/api/v1/{what}", params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _configure(folder: Path, targets: Mapping[str, Sequence[str]], speed: float) -> float:
    """Write what it reads; return the seconds between two scrapes."""
    (folder / "targets").mkdir(parents=True)
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    for name in ("scrape_interval", "evaluation_interval"):
        config["global"][name] = faster(config["global"][name], speed)
    config["global"]["scrape_timeout"] = config["global"]["scrape_interval"]
    config["scrape_configs"] = [it for it in config["scrape_configs"] if it["job_name"] != ITSELF]  # another port here
    rules = hastened(yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8")), speed)
    for name, content in (("prometheus.yml", config), ("rules.yml", rules)):
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for job, addresses in targets.items():
        (folder / "targets" / f"{job}.yml").write_text(yaml.safe_dump([{"targets": list(addresses)}]), encoding="utf-8")
    return seconds(config["global"]["scrape_interval"])


@asynccontextmanager
async def watching(folder: Path, targets: Mapping[str, Sequence[str]], speed: float = 1.0) -> AsyncIterator[Prometheus]:
    """Run a Prometheus; entered when it has seen every target. `targets` are `host:port` by job."""
    server = Prometheus(folder, targets, speed)
    try:
        await server.ready()
        await _seen(server, sum(map(len, targets.values())))
        yield server
    finally:
        await server.close()


async def _seen(server: Prometheus, many: int) -> None:
    deadline = time.monotonic() + 30.0 + server.interval
    while len(found := await server.targets()) < many or {"up"} != set(found.values()):
        assert time.monotonic() < deadline, f"{found}\n{server.tail()}"
        await asyncio.sleep(LOOK)
