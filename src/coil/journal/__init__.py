"""The journal: what this node has in use. Nobody but coild opens it."""
