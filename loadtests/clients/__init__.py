"""The clients that a load test is made of: as lean as they can be and still say what a real one says."""
