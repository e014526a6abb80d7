"""Estimators that train recurrent networks, and training of pruned networks."""
