"""Configurations of routing daemons (BIRD, FRR, GoBGP) out of one model. Pure: text only."""
