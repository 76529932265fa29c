"""Load generator, scenarios and the peers we measure ourselves against."""
