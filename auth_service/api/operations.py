"""What other programs ask: the JWKS, health, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from auth_service.metrics import CONTENT_TYPE

READY_SECONDS = 1.0

log = structlog.get_logger(__name__)

router = APIRouter(tags=["operations"])

_FAULTS = {"status": "unavailable", "faults": ["the database does not answer"]}
_UNAVAILABLE = {"application/json": {"example": _FAULTS}}


@router.get("/.well-known/jwks.json")
async def jwks(request: Request) -> Response:
    """The public keys that our tokens are checked with: the one that signs, its predecessors, and the one to come."""
    body = json.dumps(request.app.state.keyring.jwks(), separators=(",", ":")).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"Cache-Control": f"public, max-age={request.app.state.jwks_max_age}", "ETag": tag}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _has(known: str, tag: str) -> bool:
    """Whether an If-None-Match names this tag; proxies may have weakened it (RFC 9110 section 13.1.2)."""
    tags = [it.strip().removeprefix("W/") for it in known.split(",")]
    return tag in tags or tags == ["*"]


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready", responses={503: {"description": "unavailable", "content": _UNAVAILABLE}})
async def ready(request: Request) -> JSONResponse:
    """The database answers, too; 503 if not within a second."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await request.app.state.transactions.ping()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.warning("health.not_ready", error=type(error).__name__)
        return JSONResponse(_FAULTS, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)
