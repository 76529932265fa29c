"""The description of the API is whole: bodies, examples, refusals, who needs a bearer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from auth_service.api.routes import router
from tests.auth_service.conftest import Running

OPEN = {"/register", "/login", "/refresh", "/csrf"}


@pytest.fixture(name="description")
async def _description(running: Running) -> dict[str, Any]:
    async with running() as client:
        described: dict[str, Any] = (await client.get("/openapi.json")).json()
        return described


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_described(description: dict[str, Any]) -> None:
    """By a sentence, with what it answers."""
    found = {(path, method) for path, method, _ in operations(description)}
    routes = {(route.path, method.lower()) for route in router.routes for method in route.methods}  # type: ignore[attr-defined]  # all are APIRoute
    assert routes <= found
    for path, _, operation in operations(description):
        assert operation["description"].strip(), path
        assert any(code.startswith("2") for code in operation["responses"]), path


def test_every_refusal_has_an_example_in_our_form(description: dict[str, Any]) -> None:
    """Named by its code; no route pretends to answer FastAPI's own 422."""
    for path, _, operation in operations(description):
        if path.startswith(("/health", "/.well-known")):
            continue
        refusals = {code: it for code, it in operation["responses"].items() if not code.startswith("2")}
        assert {"413", "500", "503"} <= set(refusals), path
        assert "422" not in refusals, path
        for answer in refusals.values():
            examples = answer["content"]["application/json"]["examples"]
            assert examples, path
            for name, example in examples.items():
                assert {"error"} == set(example["value"])
                assert name == example["value"]["error"]["code"]
                assert example["value"]["error"]["message"]


def test_bodies_have_examples(description: dict[str, Any]) -> None:
    """Every member that is needed shows what it looks like; forms where OAuth2 has them."""
    bodies = {path: it["requestBody"] for path, _, it in operations(description) if "requestBody" in it}
    assert {"/register", "/login", "/refresh", "/logout", "/password", "/tokens/subscription"} == set(bodies)
    for path, body in bodies.items():
        forms = "application/x-www-form-urlencoded" in body["content"]
        assert (path in {"/login", "/refresh", "/logout"}) == forms
        schema = body["content"]["application/json"]["schema"]
        for name in schema.get("required", ()):
            assert schema["properties"][name].get("examples"), f"{path} {name}"
    assert {"username", "password", "device_token"} == set(
        bodies["/login"]["content"]["application/json"]["schema"]["properties"]
    )


def test_bearers_are_asked_for(description: dict[str, Any]) -> None:
    """Where they are needed, and at logout, where they may be."""
    (scheme,) = description["components"]["securitySchemes"].values()
    assert ("http", "bearer") == (scheme["type"], scheme["scheme"])
    for path, method, operation in operations(description):
        ours = (path, method) not in {(each, "post") for each in OPEN} and not path.startswith(("/health", "/.well-"))
        assert ours == bool(operation.get("security")), path


async def test_what_is_answered_is_described(client: httpx.AsyncClient, description: dict[str, Any]) -> None:
    """A few refusals, by their codes."""
    for method, path, kwargs in (
        ("post", "/login", {"json": {}}),
        ("post", "/login", {"json": {"username": "x", "password": "y"}}),
        ("post", "/login", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        ("post", "/login", {"content": b" " * 9000}),
        ("post", "/login", {"json": {}, "headers": {"X-Requested-With": "browser", "Origin": "http://x"}}),
        ("post", "/refresh", {"json": {"refresh_token": "x"}}),
        ("get", "/me", {}),
    ):
        answer = await client.request(method, path, **kwargs)
        described = description["paths"][path][method]["responses"][str(answer.status_code)]
        assert answer.json()["error"]["code"] in described["content"]["application/json"]["examples"]
