"""What `python -m grok_jax.benchmark` measures, a module for each subject."""
