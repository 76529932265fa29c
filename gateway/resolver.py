"""Plug-ins by name: the scheme of `engine.url` is a module of `gateway.engines`, codecs are all that lie there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

import gateway.codecs
import gateway.engines
from gateway.contracts.codec import Codec
from gateway.contracts.engine import CreateEngine
from gateway.errors import OperatorError


def engine_for(url: str) -> CreateEngine:
    """Return the engine that a URL's scheme names. Raises OperatorError that lists the choices."""
    scheme = url.partition("://")[0]
    choices = sorted(it.name for it in iter_modules(gateway.engines.__path__) if not it.name.startswith("_"))
    if scheme not in choices:
        raise OperatorError(f"engine.url: no engine {scheme!r}; there are {', '.join(f'{it}://' for it in choices)}")
    return cast("CreateEngine", import_module(f"gateway.engines.{scheme}").create)


def all_codecs() -> Mapping[str, Codec]:
    """Return every codec by its name."""
    modules = (
        import_module(f"gateway.codecs.{it.name}")
        for it in iter_modules(gateway.codecs.__path__)
        if not it.name.startswith("_")
    )
    codecs = (cast("Codec", module.codec) for module in modules)
    return {codec.name: codec for codec in codecs}
