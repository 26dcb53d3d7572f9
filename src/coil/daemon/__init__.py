"""coild: one per node. Gives addresses to pods, makes their links, exports this node's blocks."""
