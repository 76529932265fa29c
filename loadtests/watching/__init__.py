"""What is looked at from beside the load: the nodes by their metrics, and the machine that the generator runs on."""
