"""What every request passes: one log line, a limit on its body, and errors in one form without a trace."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth_service.errors import Refused

BODY_BYTES = 8192
BODY_SECONDS = 10.0

log = structlog.get_logger(__name__)


def error(refused: Refused) -> JSONResponse:
    """Return the one form of all our errors."""
    body = {"error": {"code": refused.code, "message": refused.message}}
    return JSONResponse(body, refused.status, headers=refused.headers)


class RequestLog:
    """Logs each request by its route, without its query, and turns an unforeseen error into a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("http.failed", method=scope["method"], path=_path(scope))
            if not status:
                answer = error(Refused(500, "internal_error", "internal server error"))
                await answer(scope, receive, watched)
        finally:
            _logged(scope, status, time.perf_counter() - began)


def _logged(scope: Scope, status: int, seconds: float) -> None:
    quiet = scope["path"].startswith(("/health/", "/metrics"))
    write = log.debug if quiet else log.info
    write("http.request", method=scope["method"], path=_path(scope), status=status, ms=round(seconds * 1000, 1))


def _path(scope: Scope) -> str:
    """Return the path as the routes have it: no id of a session, and nothing that a client made up."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


class BodyLimit:
    """Reads the body before anything else sees it: at most 8 KiB, within ten seconds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _whole(receive)
        except TimeoutError:
            await error(Refused(408, "timeout", "the body did not arrive in time"))(scope, receive, send)
            return
        except Refused as refused:
            await error(refused)(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replayed(body, receive), send)


async def _whole(receive: Receive) -> bytes | None:
    """Return the body, None if the client left. Raises Refused (413)."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise Refused(413, "too_large", f"a body may have {BODY_BYTES} bytes", {"Connection": "close"})
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def install(app: FastAPI) -> None:
    """Make the app answer every error in our form."""

    @app.exception_handler(Refused)
    async def _refused(_: Request, refused: Refused) -> JSONResponse:
        return error(refused)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, failure: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(failure.status_code).phrase
        code = phrase.lower().replace(" ", "_")
        return error(Refused(failure.status_code, code, phrase.lower(), failure.headers))

    @app.exception_handler(SQLAlchemyError)
    async def _database(_: Request, failure: SQLAlchemyError) -> JSONResponse:
        log.error("database.failed", error=type(failure).__name__)
        return error(Refused(503, "unavailable", "the database does not answer, try again", {"Retry-After": "1"}))
