"""python -m grok_jax COMMAND ...: what `grok-jax` does."""

import sys

from grok_jax.cli import main

sys.exit(main())
