"""The torch side: recurrent layers, their states, and the smaller module; private."""
