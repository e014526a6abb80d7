"""Fit of small layers to the trajectories of the dense ones; private."""
