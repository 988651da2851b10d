"""Operators that need nothing but NumPy: scores, text, lists, boxes."""
