"""Pure core of coil: pools, blocks, addresses, attachments. No I/O, no asyncio, no logging."""
