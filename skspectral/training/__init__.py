"""Estimators that train recurrent networks, and repairs that train pruned ones; private."""
