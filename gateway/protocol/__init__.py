"""The pure core: what a connection may say, and what follows from it. No I/O, no clock, no logging."""
