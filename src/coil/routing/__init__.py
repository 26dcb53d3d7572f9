"""Configurations of routing daemons (BIRD, FRR) out of one model. Pure: text only."""
