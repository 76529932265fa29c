"""The site that proxies stand before: started once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import site as sites
from tests.support.fronts import FRONTS
from tests.support.site import Backend, Site
from tests.support.valkey import Valkey


@pytest.fixture(name="backend", scope="session")
def _backend(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with sites.backend(tmp_path_factory.mktemp("backend"), valkey.url) as backend:
        yield backend


@pytest.fixture(name="front_name", scope="module", params=FRONTS)
def _front_name(request: pytest.FixtureRequest) -> str:
    """Name a proxy."""
    return str(request.param)


@pytest.fixture(name="site", scope="module")
def _site(front_name: str, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a proxy with our files as they are."""
    with sites.site(front_name, tmp_path_factory.mktemp(front_name), backend) as site:
        yield site
