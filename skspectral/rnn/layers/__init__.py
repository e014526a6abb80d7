"""Recurrent layers of torch: find, describe, split and wrap them; private."""
