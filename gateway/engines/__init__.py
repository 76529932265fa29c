"""Engines, one file or folder each: the scheme of `engine.url` is the module name."""
