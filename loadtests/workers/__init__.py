"""The generator: processes that play a scenario together, and the one that starts and hears them."""
