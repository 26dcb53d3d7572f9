"""The routing daemons of this machine (BIRD, FRR), asked on their own sockets."""
