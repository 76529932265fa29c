"""How fast one core is, beside others: `make bench`, `make compare`."""
