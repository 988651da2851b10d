"""One pass a module."""
