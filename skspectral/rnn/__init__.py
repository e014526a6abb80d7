"""The torch side: find the layer, collect its states, build the smaller module."""
