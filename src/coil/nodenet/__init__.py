"""The node's network in the kernel: links, addresses, routes, rules. The only user of netlink."""
