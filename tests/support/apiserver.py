"""As much of a Kubernetes API server as a proxy reads: lists of objects, and watches in which nothing happens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

HOST: Final = "127.0.0.1"
WATCH_SECONDS: Final = 300.0
# What Traefik's providers ask for: a list has the name of its kind.
KINDS: Final = (
    *("ConfigMap", "EndpointSlice", "Ingress", "IngressClass", "Namespace", "Node", "Secret", "Service"),
    *(
        "BackendTLSPolicy",
        "GRPCRoute",
        "Gateway",
        "GatewayClass",
        "HTTPRoute",
        "ReferenceGrant",
        "TCPRoute",
        "TLSRoute",
    ),
    *("IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "Middleware", "MiddlewareTCP", "ServersTransport"),
    *("ServersTransportTCP", "TLSOption", "TLSStore", "TraefikService", "UDPRoute", "ListenerSet"),
)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is in it; `asked`: which resources somebody wanted to see, `told`: what somebody says of an object."""

    objects: Sequence[Object]
    over: Event = field(default_factory=Event)
    asked: set[str] = field(default_factory=set)
    told: dict[str, Object] = field(default_factory=dict)

    def of(self, resource: str) -> list[Object]:
        """Return all objects of a resource, as it is called in addresses: `httproutes`."""
        return [it for it in self.objects if _plural(it["kind"]) == resource]


def _plural(kind: str) -> str:
    word = kind.lower()
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith("s") else f"{word}s"


class _Requests(BaseHTTPRequestHandler):
    """Answers GET by what there is, and takes every change of a status without believing it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, cluster: Cluster, *arguments: Any) -> None:
        self.cluster = cluster
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """List, get one, or watch."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        way = parts.path.strip("/").split("/")
        if way == ["version"]:
            self._answer({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif "watch" in query:
            self._watch("sendInitialEvents" in query)
        else:
            self._list(way)

    def do_PUT(self) -> None:
        """Take a status; lists go on as they were."""
        body: Object = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.cluster.told[f"{body['kind']} {body['metadata']['name']}"] = body["status"]
        self._answer(body)

    do_PATCH = do_PUT  # noqa: N815 - the name that the base class looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: the controller's log has it."""

    def _list(self, way: list[str]) -> None:
        """Answer for /api/v1/... or /apis/<group>/<version>/..., then maybe a namespace, the resource, maybe a name."""
        version, rest = (way[1], way[2:]) if way[0] == "api" else ("/".join(way[1:3]), way[3:])
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        self.cluster.asked.add(rest[0])
        found = self.cluster.of(rest[0])
        if len(rest) > 1:
            found = [it for it in found if it["metadata"]["name"] == rest[1]]
            self._answer(found[0] if found else {}, 200 if found else 404)
            return
        kind = next(it for it in KINDS if _plural(it) == rest[0])
        head = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}}
        self._answer({**head, "items": found})

    def _watch(self, initial: bool) -> None:
        if initial:  # a list by another name, which the client need not have
            self._answer(
                {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}, 422
            )
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        self.cluster.over.wait(WATCH_SECONDS)
        self.close_connection = True

    def _answer(self, body: Mapping[str, Any], status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def serving(objects: Iterable[Object]) -> Iterator[tuple[str, Cluster]]:
    """Serve these objects; yields the address."""
    kept = [_identified(index, it) for index, it in enumerate(objects, 1)]
    cluster = Cluster(kept)
    server = ThreadingHTTPServer((HOST, 0), partial(_Requests, cluster))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}", cluster
    finally:
        cluster.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _identified(index: int, it: Object) -> Object:
    """Return an object with what an API server would have given it."""
    given = {"uid": str(index), "resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**it, "metadata": {**it["metadata"], **given}}
