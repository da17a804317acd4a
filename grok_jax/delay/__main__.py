"""python -m grok_jax.delay [--table=FILE.nc] --totals

Which theory predicts the delay: the verdicts of the tournament as JSON, computed anew
from the table of runs, experiments/delay/runs.nc by default. Needs scikit-survival
(pip install 'grok_jax[delay]'); about ten minutes on one core.

  --totals           every theory, for every task and region of settings left out
  --make=RUNS        makes the table from the finished run folders RUNS/PAGE and
                     RUNS/PAGE_landscape of the pages of experiments/delay

Examples:
  python -m grok_jax.delay --totals > totals.json
  python -m grok_jax.delay --make=runs/delay --table=experiments/delay/runs.nc

Exit status: 0 done; 2 wrong usage.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from grok_jax.delay import judges, table, verdict
from grok_jax.engine import command_line, shipped, workdirs
from grok_jax.settings import SettingError

DONE, WRONG_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options = _flags(list(sys.argv if argv is None else argv))
        path = Path(options.table or shipped.folder() / "delay" / "runs.nc")
        if options.make:
            _make(Path(options.make), path)
        if options.totals:
            if importlib.util.find_spec("sksurv") is None:
                raise SettingError(
                    "The judges need scikit-survival: pip install 'grok_jax[delay]'."
                )
            found = verdict.totals(judges.judge(workdirs.read_results(path)))
            print(json.dumps(found, indent=1))
        if not (options.make or options.totals):
            raise SettingError("Say --totals or --make=RUNS; --help explains them.")
        return DONE
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE


def _make(runs: Path, path: Path) -> None:
    """Writes the table of the pages' finished runs."""
    tables, commits = [], set()
    for name, page in shipped.pages().items():
        if page.parent.name != "delay":
            continue
        both = [workdirs.Workdir(runs / f"{name}{end}") for end in ("", "_landscape")]
        results, landscape = (workdirs.read_results(one.results) for one in both)
        tables.append(table.rows(results, name.partition("_")[2], landscape))
        commits.add(both[0].about()["git_commit"])
    made = table.packed(table.joined(tables))
    made.attrs["commits"] = ", ".join(sorted(commits))
    workdirs.write_results(path, made)


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    flags.DEFINE_string("table", "", "The table of runs.", flag_values=values)
    flags.DEFINE_string("make", "", "The folder of the runs.", flag_values=values)
    flags.DEFINE_bool("totals", False, "The verdicts as JSON.", flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
