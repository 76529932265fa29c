"""Key figures, tables and circumstances of a report."""

from __future__ import annotations

import msgspec

from loadtests.kit.result import Percentiles
from loadtests.reports import tables
from loadtests.reports.content import Content, content
from tests.support import results


def key(told: Content) -> dict[str, tuple[str, str]]:
    """Return the key figures by their labels."""
    return {it.label: (it.value, it.note) for it in told.key}


def titles(told: Content) -> list[str]:
    """Return what the tables are called."""
    return [it.title for it in told.tables]


def test_rates_are_of_the_measure_phase() -> None:
    """What came while warming up is not counted, and what was asked for stands beside it."""
    found = key(content(results.good()))
    assert ("20,000", "best second 20,000") == found["deliveries/s"]
    assert ("20", "20 asked for") == found["publications/s"]


def test_several_nodes_are_added_up() -> None:
    """CPU of all, memory of the largest; of one node, its own."""
    two, one = key(content(results.good())), key(content(results.good(nodes=results.NODES[:1])))
    assert "2 nodes together" == two["CPU of the nodes"][1]
    assert "of a core" == one["CPU of the node"][1]
    assert two["memory of the largest node"][1].startswith("+")
    assert {"CPU of the node", "memory of the node"} <= set(one)


def test_a_run_without_metrics_has_the_clients_figures() -> None:
    """And no table of nodes."""
    told = content(results.good(nodes=[]))
    assert not any("CPU" in it or "memory" in it for it in key(told))
    assert "Nodes" not in titles(told)
    assert "deliveries/s" in key(told)


def test_a_scenario_adds_figures_of_its_own() -> None:
    """And what does not happen in it is not there."""
    bad, good = key(content(results.bad())), key(content(results.good()))
    assert ("2.3 s", "") == bad["back 95"]
    assert "recovery, p99" in bad
    assert "recovery, p99" not in good


def test_an_idle_run_has_no_rates() -> None:
    """Nobody spoke: there is nothing to be fast at."""
    silent = [
        msgspec.structs.replace(it, published=0, delivered=0, delivery=Percentiles()) for it in results.good().seconds
    ]
    idle = msgspec.structs.replace(
        results.good(), seconds=silent, delivery=Percentiles(), connect=Percentiles(), audit=msgspec.structs.replace(
            results.good().audit, published=0
        ), profile={"duration": 20},
    )  # fmt: skip
    assert ["connections", "CPU of the nodes", "memory of the largest node"] == list(key(content(idle)))
    assert ("1,001", "") == key(content(idle))["connections"]


def test_a_run_without_its_seconds_has_what_is_left() -> None:
    """A file may have lost them."""
    bare = msgspec.structs.replace(results.good(), seconds=[])
    assert ["delivery, p50", "delivery, p99", "lost"] == list(key(content(bare)))


def test_an_unpaced_run_was_asked_for_no_rate() -> None:
    """It published all the same."""
    free = msgspec.structs.replace(results.good(), profile={})
    assert ("20", "") == key(content(free))["publications/s"]


def test_tables_come_in_the_order_in_which_they_are_read() -> None:
    """Those that would be empty are left out."""
    assert ["Latency", "Audit", "Closes", "Refusals", "Generator", "Nodes"] == titles(content(results.bad()))
    assert ["Latency", "Audit", "Generator", "Nodes"] == titles(content(results.good()))


def test_a_void_run_shows_no_latency_and_no_rate() -> None:
    """Only what is true whatever the generator did."""
    told = content(results.saturated())
    assert [] == told.key
    assert ["Audit", "Generator", "Nodes"] == titles(told)
    assert ["-", "-"] == [row[-1] for row in told.tables[-1].rows]


def test_percentiles_are_of_what_happened() -> None:
    """In milliseconds, a row a kind."""
    table = tables.latencies(results.good())
    assert ["delivery", "acknowledge", "connect", "subscribe"] == [row[0] for row in table.rows]
    it = results.good().delivery
    assert ("delivery", "20,000", f"{it.p50:.2f}", f"{it.p90:.1f}") == tuple(table.rows[0][:4])


def test_codes_are_told_with_their_meaning() -> None:
    """The most frequent first; one that nobody knows stands alone."""
    assert [
        ("3012", "no pong", "210"),
        ("1006", "no close frame", "17"),
        ("3008", "slow", "4"),
        ("4711", "", "1"),
    ] == tables.closes(results.bad()).rows
    assert [
        ("111", "too many requests", "340"),
        ("429", "HTTP: too many requests", "12"),
        ("no answer", "", "3"),
    ] == tables.refusals(results.bad()).rows


def test_the_audit_tells_how_clients_heard_of_gaps() -> None:
    """Beside what was published and delivered."""
    rows = {row[0]: row[1] for row in tables.audit(results.bad()).rows}
    assert ("BROKEN", "2", "12", "4") == (
        rows["verdict"],
        rows["lost"],
        rows["told: unrecovered"],
        rows["told: disconnected"],
    )
    assert ["clean"] == [value for name, value in tables.audit(results.good()).rows if name == "verdict"]


def test_what_never_came_has_a_column_and_a_figure() -> None:
    """A percentile that falls among it is never; without any, nobody has to read of it."""
    table = tables.latencies(results.bad())
    assert ("never", "8", "never") == (table.head[2], table.rows[0][2], table.rows[0][-1])
    assert "what never came is later than everything" in table.note
    assert ("8", "of 20,008 that were due while measuring") == key(content(results.bad()))["never delivered"]
    assert "max never" in key(content(results.bad()))["delivery, p99"][1]
    assert "never" not in tables.latencies(results.good()).head


def test_figures_of_the_scenario_are_shown() -> None:
    """Each with its unit."""
    assert ("2.3 s", "4.9 s") == tuple(key(content(results.bad()))[it][0] for it in ("back 95", "back 100"))


def test_the_slow_are_counted_by_the_nodes() -> None:
    """In the whole run: who is cut off after it was measured is one of them."""
    at = tables.nodes(results.bad()).head.index("slow")
    assert ["4", "4"] == [row[at] for row in tables.nodes(results.bad()).rows]
    assert ["0", "0"] == [row[at] for row in tables.nodes(results.good()).rows]


def test_nodes_are_judged_while_measuring() -> None:
    """What they cost before, in an idle ramp, does not lower their mean; growth counts from there."""
    rows = tables.nodes(results.good()).rows
    assert ["127.0.0.1:8000", "127.0.0.1:8001"] == [row[0] for row in rows]
    assert all(55 <= int(row[1].split()[0]) <= 65 for row in rows)
    assert all("KiB" in row[4] for row in rows)


def test_the_profile_is_shown_as_it_was_played() -> None:
    """All fields, those of the expectations with their folder; what was not expected is left out."""
    shown = dict(content(results.good()).profile)
    assert ("1000", "0", "no", "load") == tuple(
        shown[it] for it in ("connections", "expect.lost", "recovery", "namespace")
    )
    assert not {"scenario", "about", "expect.p50"} & set(shown)


def test_a_run_that_ended_early_says_so() -> None:
    """Its figures are of a shorter time than was planned."""
    early = msgspec.structs.replace(results.good(), measured=7.0)
    assert "7 s of 20 s: ended early" == dict(content(early).facts)["measured"]
    assert "20 s" == dict(content(results.good()).facts)["measured"]
