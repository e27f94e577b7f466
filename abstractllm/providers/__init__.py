"""Backends. Each is found by its entry point and imported only when it is asked for."""
