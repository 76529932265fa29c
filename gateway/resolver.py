"""Plug-ins by name: the scheme of `engine.url` is a module of `gateway.engines`, codecs are all that lie there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import cast

import gateway.codecs
import gateway.engines
from gateway.contracts.codec import Codec
from gateway.contracts.engine import CreateEngine
from gateway.errors import OperatorError


def engine_for(url: str) -> CreateEngine:
    """Return the engine that a URL's scheme names. Raises OperatorError that lists the choices."""
    return cast("CreateEngine", _engine_module(url).create)


def check_engine(url: str) -> None:
    """Read the URL as its engine would, and connect to nothing. Raises OperatorError."""
    check = getattr(_engine_module(url), "check", None)
    if check is not None:
        check(url)


def _engine_module(url: str) -> ModuleType:
    scheme = url.partition("://")[0]
    modules = iter_modules(gateway.engines.__path__)
    choices = sorted(it.name.replace("_", "+") for it in modules if not it.name.startswith("_"))
    if scheme not in choices:
        raise OperatorError(f"engine.url: no engine {scheme!r}; there are {', '.join(f'{it}://' for it in choices)}")
    return import_module(f"gateway.engines.{scheme.replace('+', '_')}")


def all_codecs() -> Mapping[str, Codec]:
    """Return every codec by its name."""
    modules = (
        import_module(f"gateway.codecs.{it.name}")
        for it in iter_modules(gateway.codecs.__path__)
        if not it.name.startswith("_")
    )
    codecs = (cast("Codec", module.codec) for module in modules)
    return {codec.name: codec for codec in codecs}
