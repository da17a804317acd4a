"""python -m grok_jax.benchmark ...: the benchmark of a checkout, benchmarks/run.py."""

import runpy
import sys
from pathlib import Path


def main() -> int | None:
    """Runs it with the same arguments."""
    script = Path(__file__).parents[1] / "benchmarks" / "run.py"
    if not script.is_file():
        print(
            "grok_jax: The benchmark is no part of the installed package; run it in a "
            "checkout: python benchmarks/run.py.",
            file=sys.stderr,
        )
        return 2
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
