"""Wire formats of remote services: pure functions between our types and bytes, without I/O, in both directions."""
