"""Trace hidden states through a forward pass to their readers."""
