"""Logging belongs to the whole process: a test that sets it up leaves it as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Put structlog and all loggers of Python's own back afterwards."""
    root, usual = logging.getLogger(), structlog.get_config()
    handlers = root.handlers
    levels = {it: (it.level, it.disabled) for it in (root, *_loggers())}
    try:
        yield
    finally:
        structlog.configure(**usual)
        logging.captureWarnings(capture=False)
        root.handlers = handlers
        for it in (root, *_loggers()):
            level, it.disabled = levels.get(it, (logging.NOTSET, False))
            it.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [it for it in logging.Logger.manager.loggerDict.values() if isinstance(it, logging.Logger)]
