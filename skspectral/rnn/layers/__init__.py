"""Recurrent layers of torch: find, describe and split them; private."""
