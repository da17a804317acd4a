"""Grokking in JAX: lazy to rich, Omnigrok and GrokTransfer as one working system.

The primitives stand alone; import the module that holds the one you need:

    from grok_jax import alignment, ntk, sweep
    from grok_jax.theory import committee
"""

__version__ = "0.1.0"
