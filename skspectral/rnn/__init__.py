"""The torch side: find recurrent layers, collect their states, build the smaller module."""
