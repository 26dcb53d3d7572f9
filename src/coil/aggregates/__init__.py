"""coil-aggregates: what a ToR may announce in place of its rack's blocks, kept so in BIRD."""
