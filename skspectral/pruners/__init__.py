"""The estimators that prune, and the steps of their fits; private."""
