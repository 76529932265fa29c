"""The seams: `typing.Protocol` classes whose prose is normative, each with a contract suite in `tests/contract/`."""
