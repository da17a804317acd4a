"""Models: pairs of pure functions init and apply, and wrappers around them."""
