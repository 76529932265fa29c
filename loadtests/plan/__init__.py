"""How much of everything a workload needs: a model of nodes and Redis whose constants were measured on one node."""
