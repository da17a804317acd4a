"""What is learned: pure functions of (keys, settings) -> Dataset."""
