"""coil-gobgp: gives gobgpd this machine's routes, and the kernel those gobgpd has learnt."""
