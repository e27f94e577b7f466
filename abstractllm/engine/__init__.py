"""Continuous batching as policy: which request runs when, in what company, and what happens when something breaks.

Knows token ids, slots, bytes and time. Knows no MLX, no text and no provider.
"""
