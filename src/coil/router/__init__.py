"""coil-router: routes to other nodes' blocks on flat layer-2 networks, from the store's watch."""
