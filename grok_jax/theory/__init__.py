"""Closed forms of the papers."""
