"""One node as a process: sockets opened, parts joined, served until a signal comes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.app import create_gateway
from gateway.listening import listen
from gateway.server import Listener, ServerRules, run
from gateway.settings import Settings

log = structlog.get_logger(__name__)


def serve_node(settings: Settings, *, started: Callable[[], object] = lambda: None) -> int:
    """Run a node until SIGTERM or SIGINT and return the exit code; `started` is called when all its ports answer.

    Logging is set up already. Raises OperatorError for what the operator can mend.
    """
    made, http = create_gateway(settings), settings.http_server
    sockets = [listen(http.address, http.port, reuse_port=http.reuse_port)]
    listeners = [Listener(made.public, sockets[0], shared=http.reuse_port)]
    if made.internal is not None and http.internal_port is not None:
        address = http.internal_address or http.address
        sockets.append(listen(address, http.internal_port, option="http_server.internal_port"))
        listeners.append(Listener(made.internal, sockets[1], websockets=False))
    for socket in sockets:
        address, port = socket.getsockname()[:2]
        log.info("server.listening", url=f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}")
    rules = ServerRules(
        recorder=made.metrics,
        admission=made.admission,
        proxies=made.proxies,
        http=made.http_limits,
        websocket=made.websocket_limits,
        drain=made.node.drain,
    )
    return run(listeners, rules=rules, started=started)
