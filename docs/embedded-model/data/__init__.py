"""Synthetic conversations: every text is made here, nothing is taken from elsewhere."""
