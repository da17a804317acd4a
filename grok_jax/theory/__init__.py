"""Closed-form results of the papers."""
