"""Losses and sensitivities of the outputs of a network."""
