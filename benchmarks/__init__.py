"""What `python -m grok_jax.benchmark` measures, one module per subject."""
