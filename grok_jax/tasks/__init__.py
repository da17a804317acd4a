"""Tasks: pure functions of (keys, settings) -> Dataset."""
