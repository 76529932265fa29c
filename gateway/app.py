"""The only place where the parts are joined: settings in, ASGI applications out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import nan

from fastapi import APIRouter, FastAPI, WebSocket

import gateway
from gateway.api import connect, health, server, web
from gateway.contracts.clock import Clock
from gateway.contracts.codec import Codec
from gateway.contracts.engine import Engine, EngineOptions, EngineSink
from gateway.contracts.transport import Attach
from gateway.metrics import Metrics
from gateway.node import Node, NodeOptions
from gateway.resolver import all_codecs, engine_for
from gateway.settings import Settings, namespaces, node_name, policy_for
from gateway.tokens import TokenVerifier
from gateway.transports import asgi, websocket
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.http import HttpLimits
from gateway.transports.wire import WebSocketLimits
from gateway.types import NodeId


class SystemClock:
    """The time of this machine."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One node with all its parts; `public.state.gateway` is this object.

    The lifespan of `public` runs the node. `internal` is None unless `http_server.internal_port` is set; it shares
    everything and runs nothing of its own. The server takes admission, proxies and limits from here.
    """

    settings: Settings
    node: Node
    metrics: Metrics
    admission: Admission
    proxies: TrustedProxies
    http_limits: HttpLimits
    websocket_limits: WebSocketLimits
    public: FastAPI
    internal: FastAPI | None

    async def drain(self) -> None:
        """Refuse who comes, move away who is here; for the server to call before it stops."""
        self.admission.draining = True
        await self.node.drain()


def create_app(settings: Settings) -> FastAPI:
    """Return the ASGI application of one node; two of them in one process share nothing."""
    return create_gateway(settings).public


def create_gateway(settings: Settings) -> Gateway:
    """Join all parts of one node. Raises OperatorError for settings that cannot work."""
    http, web_socket = settings.http_server, settings.websocket
    clock, metrics, codecs = SystemClock(), Metrics(), all_codecs()
    verifier = _verifier(settings, clock, metrics)
    node = _node(settings, codecs, verifier, clock, metrics)
    open_for_all = [_connect_routes(settings, node, codecs, verifier, metrics)]
    if settings.web.enabled:
        open_for_all.append(web.routes(settings.web.demo_file))
    operators = _operator_routes(settings, node, clock, metrics)
    _watch(settings, node, verifier, clock, metrics)
    running = partial(_running, settings, node, verifier, clock, metrics)
    split = http.internal_port is not None
    made = Gateway(
        settings=settings,
        node=node,
        metrics=metrics,
        admission=Admission(
            per_address=http.connections_per_ip,
            total=settings.client.connection_limit,
            rate=settings.client.connection_rate_limit,
        ),
        proxies=TrustedProxies(http.trusted_proxies),
        http_limits=HttpLimits(head_timeout=http.head_timeout, head_size=http.head_size_limit),
        websocket_limits=WebSocketLimits(
            message_size=web_socket.message_size_limit,
            fragments=web_socket.fragment_limit,
            control_rate=web_socket.control_frame_rate,
            close_timeout=web_socket.close_timeout,
        ),
        public=_app(open_for_all if split else [*operators, *open_for_all], documented=not split, running=running),
        internal=_app(operators, documented=True, running=None) if split else None,
    )
    made.public.state.gateway = made
    return made


def _app(
    routers: list[APIRouter], *, documented: bool, running: Callable[[], AbstractAsyncContextManager[object]] | None
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if running is None:
            yield
            return
        async with running():
            yield

    app = FastAPI(
        title="realtime-gateway",
        version=gateway.__version__,
        lifespan=lifespan,
        openapi_url="/openapi.json" if documented else None,  # None: /docs is not there either
    )
    for router in routers:
        app.include_router(router)
    return app


def _verifier(settings: Settings, clock: Clock, metrics: Metrics) -> TokenVerifier:
    token = settings.client.token
    return TokenVerifier(
        jwks_url=token.jwks_public_endpoint,
        hmac_secret=token.hmac_secret_key.get_secret_value().encode(),
        issuer=token.issuer,
        audience=token.audience,
        leeway=token.leeway,
        user_id_claim=token.user_id_claim or "sub",
        clock=clock,
        recorder=metrics,
    )


def _node(
    settings: Settings, codecs: Mapping[str, Codec], verifier: TokenVerifier, clock: Clock, metrics: Metrics
) -> Node:
    options = NodeOptions(
        name=node_name(settings),
        version=gateway.__version__,
        policies={name: policy_for(settings, name, codec.heartbeat) for name, codec in codecs.items()},
        queue_limit=settings.client.queue_max_size,
        stall_timeout=settings.websocket.stall_timeout,
        close_timeout=settings.websocket.close_timeout,
        drain_timeout=settings.shutdown.timeout,
    )
    return Node(options=options, verifier=verifier, clock=clock, recorder=metrics)


@asynccontextmanager
async def _running(
    settings: Settings, node: Node, verifier: TokenVerifier, clock: Clock, metrics: Metrics
) -> AsyncIterator[None]:
    url = settings.engine.url
    create = engine_for(url)

    def open_engine(sink: EngineSink, node_id: NodeId) -> AbstractAsyncContextManager[Engine]:
        options = EngineOptions(
            node=node_id,
            recorder=metrics,
            prefix=settings.engine.prefix,
            command_timeout=settings.engine.command_timeout,
            subscribe_timeout=settings.engine.subscribe_timeout,
        )
        return create(url, sink=sink, clock=clock, options=options)

    async with verifier, node.running(open_engine):
        yield


def _connect_routes(
    settings: Settings, node: Node, codecs: Mapping[str, Codec], verifier: TokenVerifier, metrics: Metrics
) -> APIRouter:
    rules = connect.ConnectRules(
        allowed_origins=settings.client.allowed_origins,
        token_in_query=settings.client.token_in_query,
        anonymous={name: policy.anonymous or policy.insecure for name, policy in node.options.policies.items()},
        plain=settings.chat.enabled,
    )
    connector = connect.Connector(
        node=node, codecs=codecs, rules=rules, verifier=verifier, recorder=metrics, serve=_serve
    )
    return connect.routes(connector)


async def _serve(client: WebSocket, subprotocol: str | None, attach: Attach) -> None:
    """Give the socket away under our own server, else run it over plain ASGI."""
    own = websocket.TAKE_OVER in client.scope.get("extensions", {})
    await (websocket if own else asgi).serve(client, subprotocol=subprotocol, attach=attach)


def _operator_routes(settings: Settings, node: Node, clock: Clock, metrics: Metrics) -> list[APIRouter]:
    api = server.ServerApi(node=node, namespaces=namespaces(settings), clock=clock, recorder=metrics)
    return [
        health.routes(node, metrics.exposition),
        server.routes(api, settings.http_api.key.get_secret_value(), body_limit=settings.http_api.body_size_limit),
    ]


def _watch(settings: Settings, node: Node, verifier: TokenVerifier, clock: Clock, metrics: Metrics) -> None:
    """Let Prometheus see what nobody counts: it is looked up when it is asked for."""
    in_memory = settings.engine.url.startswith("memory:")
    metrics.watch("connections", node.connections_by_state)
    metrics.watch("users", lambda: len(node.users))
    metrics.watch("subscriptions", lambda: node.described().num_subs)
    metrics.watch("channels", lambda: len(node.hub.interests))
    metrics.watch("client_queue_bytes", lambda: sum(it.queued for it in node.connections.values()))
    metrics.watch("client_queue_max_bytes", lambda: max((it.queued for it in node.connections.values()), default=0))
    metrics.watch("redis_up", node.links)
    metrics.watch("draining", lambda: int(node.draining))
    metrics.watch("engine_in_memory", lambda: int(in_memory))
    metrics.watch("jwks_age", lambda: nan if (age := verifier.jwks_age(clock.monotonic())) is None else age)
