"""Which theory predicts when a run that has fitted its train set will generalise.

`design` draws the settings of runs, `contest` makes the pages of them, `evidence` is
what each theory may look at, `table` the runs as rows, `theories` the numbers that they
predict from, `judges` and `verdict` who is right, `account` the figures and tables of
that; `predict` foretells a run of one's own; `cause` moves one statistic and holds
another; `remedies` asks what each remedy is worth. `python -m grok_jax.delay --help`
runs and judges it all; the design is in experiments/delay/DESIGN.md.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "predict":
        return importlib.import_module(f"{__name__}.foretell").predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
