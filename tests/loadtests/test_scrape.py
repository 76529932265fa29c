from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from loadtests.watching.scrape import Watch, watching
from tests.support.engines import eventually
from tests.support.ports import free_port

URL = "http://node/metrics"


def page(cpu: float, resident: int = 50 << 20, started: float = 1.0, version: str = "1.0") -> str:
    """Return what a node would say."""
    return (
        f"process_cpu_seconds_total {cpu}\nprocess_resident_memory_bytes {resident}\n"
        f'process_start_time_seconds {started}\ngateway_build_info{{version="{version}",python="3.13"}} 1\n'
    )


@asynccontextmanager
async def answering(answer: Callable[[], tuple[int, str]]) -> AsyncIterator[str]:
    """Serve what `answer` returns, a status and a body; yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, body = answer()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"


def test_samples_lie_between_pages() -> None:
    """The first page is what the second is compared with; times count from the beginning of the run."""
    watch = Watch([URL], began=100.0)
    watch.see(URL, page(1.0), 101.0)
    assert watch.nodes == 0
    watch.see(URL, page(1.5), 102.0)
    [sample] = watch.samples
    assert (URL, 2.0, 0.5, 50 << 20) == (sample.node, sample.at, sample.cpu, sample.resident)
    assert sample == watch.latest(URL)
    assert watch.latest("http://other/metrics") is None
    assert {"gateway": "1.0", "python of the gateway": "3.13"} == watch.versions
    assert [] == watch.remarks


def test_several_processes_behind_one_address_are_not_mixed_up() -> None:
    """Pages of two processes have no CPU between them: no sample, and one remark however often it happens."""
    watch = Watch([URL], began=0.0)
    for now in range(4):
        watch.see(URL, page(50.0 * (now % 2), started=float(now % 2)), float(now))
    assert [] == watch.samples
    [remark] = watch.remarks
    assert "several behind one address" in remark


def test_nodes_of_two_versions_are_remarked() -> None:
    """A cluster in the middle of a deployment is no figure of one version, and the report says so."""
    watch = Watch([URL, "http://b/metrics"], began=0.0)
    watch.see(URL, page(1.0), 0.0)
    watch.see("http://b/metrics", page(1.0, version="1.1"), 0.0)
    assert ["the nodes differ: gateway 1.0 and 1.1"] == watch.remarks


def test_what_is_no_page_of_metrics_is_a_remark() -> None:
    """Neither a page of something else nor a broken one stops a run."""
    watch = Watch([URL], began=0.0)
    watch.see(URL, "<html>Welcome</html>", 0.0)
    watch.see(URL, "process_cpu_seconds_total much\n", 1.0)
    assert [] == watch.samples
    assert "the server's side of this run is not known" in watch.remarks[0]
    assert "is no page of metrics" in watch.remarks[1]


async def test_every_node_is_read_while_the_body_runs() -> None:
    """Two nodes are sampled again and again, one of which answers 404 in between."""
    asked = {"a": 0, "b": 0}

    def answer(name: str) -> tuple[int, str]:
        asked[name] += 1
        return (404, "") if (name, asked[name]) == ("b", 2) else (200, page(asked[name]))

    async with (
        answering(lambda: answer("a")) as a,
        answering(lambda: answer("b")) as b,
        watching([a, b], began=0.0, every=0.02) as watch,
    ):

        async def seen() -> bool:
            return all(sum(it.node == url for it in watch.samples) >= 2 for url in (a, b))

        await eventually(seen)
    assert 2 == watch.nodes
    assert [f"{b} cannot be read: it answered 404"] == watch.remarks


async def test_a_reason_that_says_nothing_itself_has_a_name() -> None:
    """A node that resets the connection leaves no remark that ends with a colon."""

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with await asyncio.start_server(drop, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        async with watching([url], began=0.0) as watch:
            (remark,) = watch.remarks
    assert remark.startswith(f"{url} cannot be read: ")
    assert "ReadError" == remark.rpartition(": ")[2]


async def test_nobody_there_is_a_remark() -> None:
    """An address where nothing listens, and one that is none, cost a remark each."""
    nowhere = f"http://127.0.0.1:{free_port()}/metrics"
    async with watching([nowhere, "http://[broken/metrics"], began=0.0, every=0.01) as watch:

        async def remarked() -> bool:
            return len(watch.remarks) == 2

        await eventually(remarked)
    assert all("cannot be read" in it for it in watch.remarks)
    assert [] == watch.samples
