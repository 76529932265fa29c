"""Browser mode: cookies, the CSRF token, and whose pages may use them."""

from __future__ import annotations

import base64
import hashlib
from http.cookies import Morsel, SimpleCookie

import httpx
import pytest
from fastapi import Request, Response

from auth_service.api.browser import Page, csrf_token, page_of
from auth_service.errors import Refused, busy, invalid_token
from tests.auth_service.conftest import PASSWORD, Running, fault

ORIGIN = "https://chat.example.com"
PLAIN = "http://localhost:8000"


def asked(url: str = "https://auth.example.com", **headers: str) -> Request:
    """Return a request of a page of the listed origin, but for what `headers` say otherwise."""
    scheme, _, host = url.partition("://")
    named = {"host": host, "origin": ORIGIN, "x_requested_with": "browser", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items() if value]
    return Request({"type": "http", "method": "POST", "scheme": scheme, "path": "/", "headers": pairs})


def page(request: Request) -> Page:
    """Return the page that asks; it is one."""
    found = page_of(request, [ORIGIN, PLAIN])
    assert found is not None
    return found


def cookie(response: Response) -> Morsel[str]:
    """Return the one cookie that a response sets."""
    (morsel,) = SimpleCookie(response.headers["set-cookie"]).values()
    return morsel


@pytest.mark.parametrize("mode", ["", "XMLHttpRequest"])
def test_a_program_is_no_page(mode: str) -> None:
    """Without the header that only our pages send, nobody is in browser mode, whatever cookies come along."""
    assert page_of(asked(x_requested_with=mode, cookie="__Host-refresh=stolen"), [ORIGIN]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://chat.example.com.evil.io",
        "https://evil.io",
        "http://chat.example.com",
        "https://chat.example.com:8443",
        "https://chat.example.com/",
        "https://CHAT.example.com",
        "http://auth.example.com",
        "*",
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    """An origin that is not exactly a listed one or ours is refused, and so is a page that hides where it is from."""
    with pytest.raises(Refused) as refused:
        page_of(asked(origin=origin), [ORIGIN, "*"] if origin != "*" else [ORIGIN])
    assert (403, "origin_denied") == (refused.value.status, refused.value.code)


def test_our_own_pages_need_no_listing() -> None:
    """A page that we serve ourselves may ask."""
    assert page_of(asked(origin="https://auth.example.com"), []) is not None


@pytest.mark.parametrize(
    ("url", "origin", "name", "secure"),
    [
        ("https://auth.example.com", ORIGIN, "__Host-refresh", True),
        ("https://127.0.0.1:8001", PLAIN, "__Host-refresh", True),
        ("http://auth.example.com", PLAIN, "__Host-refresh", True),  # TLS ends before us
        ("http://127.0.0.1.evil.io", PLAIN, "__Host-refresh", True),
        ("http://192.168.0.7:8001", PLAIN, "__Host-refresh", True),
        ("http://127.0.0.1:8001", ORIGIN, "__Host-refresh", True),  # so a proxy names us that keeps no Host
        ("http://127.0.0.1:8001", PLAIN, "refresh", False),
        ("http://localhost:8001", PLAIN, "refresh", False),
        ("http://[::1]:8001", PLAIN, "refresh", False),
    ],
)
def test_the_cookie_is_as_closed_as_can_be(url: str, origin: str, name: str, secure: bool) -> None:
    """No script reads it, no other site sends it, no other host sets it; without TLS it lives on this machine only."""
    response = Response()
    page(asked(url, origin=origin)).keep(response, "token", 60)
    found = cookie(response)
    assert (name, "token", "60", "/") == (found.key, found.value, found["max-age"], found["path"])
    assert (True, "strict", "") == (found["httponly"], found["samesite"], found["domain"])
    assert secure == bool(found["secure"])


def test_the_csrf_token_of_the_cookie_opens_it() -> None:
    """The page gets a digest of the refresh token that tells nothing of it, and with it the cookie counts."""
    response = Response()
    token = page(asked()).keep(response, "secret", 60)
    digest = hashlib.sha256(b"csrf:secret").digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == token == csrf_token("secret")
    assert "secret" == page(asked(cookie="__Host-refresh=secret", x_csrf_token=token)).refresh_token()


@pytest.mark.parametrize("token", ["", "x", "\u00e9", csrf_token("another"), csrf_token("secret")[:-1]])
def test_without_its_csrf_token_the_cookie_is_nothing(token: str) -> None:
    """A missing, foreign or cut CSRF token is refused."""
    with pytest.raises(Refused) as refused:
        page(asked(cookie="__Host-refresh=secret", x_csrf_token=token)).refresh_token()
    assert (403, "csrf_failed") == (refused.value.status, refused.value.code)


@pytest.mark.parametrize("sent", ["", "refresh=secret", "__Host-refresh=", f"__Host-refresh={'x' * 4097}"])
def test_cookies_that_are_none_of_ours(sent: str) -> None:
    """No cookie, an empty one, one that is too long, and one of the name for plain HTTP do not count under TLS."""
    with pytest.raises(Refused) as refused:
        page(asked(cookie=sent, x_csrf_token=csrf_token("secret"))).refresh_token()
    assert 401 == refused.value.status


def test_the_device_token_has_a_cookie_of_its_own() -> None:
    """It is kept apart from the session's, with the same care."""
    response = Response()
    page(asked()).keep_device(response, "known", 99)
    found = cookie(response)
    assert ("__Host-device", "known", "99") == (found.key, found.value, found["max-age"])
    assert (True, "strict", True) == (found["httponly"], found["samesite"], found["secure"])
    assert "known" == page(asked(cookie="__Host-device=known")).device


def test_a_refusal_of_the_token_drops_the_cookie() -> None:
    """A refresh cookie that is good for nothing goes with the 401 that says so, but not when we are merely busy."""
    asking = page(asked())
    with pytest.raises(Refused) as refused, asking.forgetting():
        raise invalid_token()
    found = cookie(Response(headers=refused.value.headers))
    assert ("__Host-refresh", "", "0") == (found.key, found.value, found["max-age"])
    with pytest.raises(Refused) as refused, asking.forgetting():
        raise busy()
    assert "Set-Cookie" not in refused.value.headers


# --- by the routes

LISTED = "http://127.0.0.1:8000"
OURS = {"Origin": LISTED, "X-Requested-With": "browser"}
ALICE = {"username": "alice", "password": PASSWORD}


def cookies(answer: httpx.Response) -> dict[str, str]:
    """Return the cookies that an answer sets; each is closed to scripts and to other sites."""
    found = SimpleCookie("; ".join(answer.headers.get_list("set-cookie")))
    assert all("HttpOnly" in it and "SameSite=strict" in it for it in answer.headers.get_list("set-cookie"))
    return {name: morsel.value for name, morsel in found.items()}


def by_cookie(kept: dict[str, str], csrf: str = "", **headers: str) -> dict[str, str]:
    """Return the headers of a page with these cookies."""
    return {
        **OURS,
        "Cookie": "; ".join(f"{name}={value}" for name, value in kept.items()),
        "X-CSRF-Token": csrf,
    } | headers


@pytest.fixture(name="signed_in")
async def _signed_in(client: httpx.AsyncClient) -> httpx.Response:
    """Register alice and return the answer to her log-in from our page."""
    await client.post("/register", json=ALICE)
    answer = await client.post("/login", json=ALICE, headers=OURS)
    assert 200 == answer.status_code
    client.cookies.clear()
    return answer


async def test_a_page_gets_no_refresh_token_to_read(signed_in: httpx.Response) -> None:
    """Refresh and device token are in cookies and nowhere in the body, which has a CSRF token and the user's name."""
    body, kept = signed_in.json(), cookies(signed_in)
    assert {"access_token", "csrf_token", "expires_in", "token_type", "user"} == set(body)
    assert {"__Host-refresh", "__Host-device"} == set(kept)
    assert ("alice", csrf_token(kept["__Host-refresh"])) == (body["user"], body["csrf_token"])
    assert not any(value in signed_in.text for value in kept.values())
    assert (LISTED, "true") == (
        signed_in.headers["access-control-allow-origin"],
        signed_in.headers["access-control-allow-credentials"],
    )


async def test_a_page_lives_by_its_cookie(client: httpx.AsyncClient, signed_in: httpx.Response) -> None:
    """With cookie and CSRF token the page gets new ones of each; loaded anew, it asks for the CSRF token first."""
    kept, csrf = cookies(signed_in), signed_in.json()["csrf_token"]
    answer = await client.post("/refresh", headers=by_cookie(kept, csrf))
    assert (200, "alice") == (answer.status_code, answer.json()["user"])
    newer = kept | cookies(answer)
    assert kept["__Host-refresh"] != newer["__Host-refresh"]
    asked_for = (await client.post("/csrf", headers=by_cookie(newer))).json()
    assert {"csrf_token": answer.json()["csrf_token"]} == asked_for
    assert 200 == (await client.post("/refresh", headers=by_cookie(newer, asked_for["csrf_token"]))).status_code


async def test_a_page_signs_out(client: httpx.AsyncClient, signed_in: httpx.Response) -> None:
    """The session ends and the browser drops the cookie; what it held is refused from then on."""
    kept, csrf = cookies(signed_in), signed_in.json()["csrf_token"]
    answer = await client.post("/logout", headers=by_cookie(kept, csrf))
    assert (204, {"__Host-refresh": ""}) == (answer.status_code, cookies(answer))
    answer = await client.post("/refresh", headers=by_cookie(kept, csrf))
    assert (401, "invalid_token") == fault(answer)
    assert {"__Host-refresh": ""} == cookies(answer)


@pytest.mark.parametrize("path", ["/refresh", "/logout"])
async def test_the_cookie_alone_is_nothing(client: httpx.AsyncClient, signed_in: httpx.Response, path: str) -> None:
    """Without CSRF token, from another page, or from what is no page of ours at all, nothing is done by the cookie."""
    kept, csrf = cookies(signed_in), signed_in.json()["csrf_token"]
    foreign = by_cookie(kept, csrf, Origin="http://127.0.0.1:9000")
    assert (403, "csrf_failed") == fault(await client.post(path, headers=by_cookie(kept)))
    assert (403, "origin_denied") == fault(await client.post(path, headers=foreign))
    form = {"Cookie": foreign["Cookie"], "Origin": "http://127.0.0.1:9000"}
    assert {400, 401} >= {(await client.post(path, headers=form, data={"x": "y"})).status_code}
    assert 200 == (await client.post("/refresh", headers=by_cookie(kept, csrf))).status_code


async def test_other_pages_learn_no_csrf_token(client: httpx.AsyncClient, signed_in: httpx.Response) -> None:
    """It is for pages of listed origins that have a cookie; a program is told that it has none."""
    kept = cookies(signed_in)
    answer = await client.post("/csrf", headers=by_cookie(kept, Origin="http://127.0.0.1:9000"))
    assert (403, "origin_denied") == fault(answer)
    assert "access-control-allow-origin" not in answer.headers
    for headers in (OURS, {"Cookie": by_cookie(kept)["Cookie"]}):
        assert {"csrf_token": None} == (await client.post("/csrf", headers=headers)).json()


async def test_a_log_in_from_another_page(client: httpx.AsyncClient) -> None:
    """A page of another origin cannot sign this browser in as somebody."""
    answer = await client.post("/login", json=ALICE, headers=OURS | {"Origin": "http://127.0.0.1:9000"})
    assert (403, "origin_denied") == fault(answer)
    assert {} == cookies(answer)


@pytest.mark.parametrize(("origin", "credentials"), [(LISTED, "true"), ("http://127.0.0.1:9000", None)])
async def test_preflights_of_pages(client: httpx.AsyncClient, origin: str, credentials: str | None) -> None:
    """Browsers let pages of listed origins send cookies, the mode and the CSRF token, and no others."""
    asked_for = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-csrf-token,x-requested-with",
    }
    answer = await client.options("/refresh", headers={"Origin": origin, **asked_for})
    assert (200 if credentials else 400) == answer.status_code
    assert (origin if credentials else None) == answer.headers.get("access-control-allow-origin")


async def test_when_every_page_may_read_none_comes_with_a_cookie(running: Running) -> None:
    """`*` lists everybody for what needs no cookie: credentials are off, and no Origin is taken for listed."""
    async with running(cors_origins=("*",)) as client:
        answer = await client.post("/csrf", headers=OURS)
    assert (403, "origin_denied") == fault(answer)
    assert ("*", None) == (
        answer.headers["access-control-allow-origin"],
        answer.headers.get("access-control-allow-credentials"),
    )
