"""Seeing what happens: metrics, traces, and logs without keys. Everything here hangs on the observers of others."""
