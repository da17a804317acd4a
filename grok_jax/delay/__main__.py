"""python -m grok_jax.delay [--run=RUNS] [--make=RUNS] [--totals] [--draw=TOTALS.json]

Which theory predicts the delay: the runs of the tournament, their table, and the
verdicts of its judges.

  --run=RUNS   runs the pages of experiments/delay in RUNS/PAGE, those of the
               tournament (D) with their landscapes in RUNS/PAGE_landscape, then the
               interventions (C) and remedies (R); hours on two cores. The same line
               again goes on where it stopped
  --make=RUNS  makes the table from those folders, and from those of the remedies
               TABLE_remedies.nc beside it
  --totals     prints the verdicts as JSON, computed anew from the tables: every theory,
               for every task and region of settings left out, and where it foretells
               that a remedy helps; half an hour on one core
               (pip install 'grok_jax[delay]')
  --draw=FILE  draws the figures of the account from the table and the JSON of --totals
               in FILE, into figures/ beside it
  --table      the table; experiments/delay/runs.nc by default
  --pilot      with --run and --make: the pilot's runs instead

Examples:
  python -m grok_jax.delay --totals > totals.json
  python -m grok_jax.delay --run=runs/delay --make=runs/delay --totals
  python -m grok_jax.delay --draw=totals.json

Exit status: 0 done; 2 wrong usage; otherwise that of the page that ended so, such as 75
if it was stopped.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from absl import flags

from grok_jax import plot
from grok_jax.delay import account, cost, judges, remedies, table, verdict
from grok_jax.engine import command_line, config, session, shipped, workdirs
from grok_jax.engine.programs import Plan
from grok_jax.settings import SettingError

DONE, WRONG_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options = _flags(list(sys.argv if argv is None else argv))
        name = "pilot.nc" if options.pilot else "runs.nc"
        path = Path(options.table or shipped.folder() / "delay" / name)
        presets = ("pilot",) if options.pilot else ("", "landscape")
        if not (options.run or options.make or options.totals or options.draw):
            raise SettingError(
                "Say --run, --make, --totals or --draw; --help explains them."
            )
        judged = options.totals or options.draw
        if judged and importlib.util.find_spec("sksurv") is None:
            raise SettingError(f"The judges need scikit-survival: {judges.INSTALL}.")
        if options.run and (status := _run(Path(options.run), presets)):
            return status
        beside = path.with_name(f"{path.stem}_remedies.nc")
        if options.make:
            workdirs.write_results(path, _made(Path(options.make), presets))
            if (
                not options.pilot
                and (trials := _trials(Path(options.make))) is not None
            ):
                workdirs.write_results(beside, trials)
        if options.totals:
            runs = workdirs.read_results(path)
            found = verdict.totals(runs, judges.judge(runs))
            if beside.exists():
                told = remedies.foretold(workdirs.read_results(beside))
                found["remedies"] = verdict.plain(told)
            print(json.dumps(found, indent=1))
        if options.draw:
            _draw(path, Path(options.draw))
        return DONE
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE


def _pages(kinds: str = "d") -> list[str]:
    """The pages by name: tournament (d), interventions (c), remedies (r)."""
    pages = shipped.pages().items()
    delay = [name for name, path in pages if path.parent.name == "delay"]
    return [name for kind in kinds for name in delay if name.startswith(kind)]


def _plan(name: str) -> Plan:
    page, _ = session.load_page(f"{shipped.pages()[name]}")
    return config.resolve(session.get_config(page, "cpu")).plan


def _folder(runs: Path, name: str, preset: str) -> Path:
    return runs / (f"{name}_{preset}" if preset else name)


def _run(runs: Path, presets: Sequence[str]) -> int:
    """Runs each task at these presets ("" is `cpu`), and the other pages if that is one
    of them, one after another; the first exit status that is not 0."""
    every = [(name, preset) for name in _pages() for preset in presets]
    if "" in presets:
        every += [(name, "") for name in _pages("cr")]
    for name, preset in every:
        page, here = shipped.pages()[name], Path.cwd()
        page = page.relative_to(here) if page.is_relative_to(here) else page
        line = [sys.executable, "-m", "grok_jax.launch"]
        line.append(f"--config={page}:{preset or 'cpu'}")
        line.append(f"--workdir={_folder(runs, name, preset)}")
        status = subprocess.run(line).returncode
        if status:
            return status
    return DONE


def _made(runs: Path, presets: Sequence[str]) -> xr.Dataset:
    """The table of the pages' finished runs; its attributes are the commits that they
    were made at, and how many training steps a look at the evidence takes here."""
    tables, commits, costs = [], set(), {}
    for name in _pages():
        places = [workdirs.Workdir(_folder(runs, name, each)) for each in presets]
        results = [workdirs.read_results(place.results) for place in places]
        task = name.partition("_")[2]
        tables.append(table.rows(results[0], task, results[1] if results[1:] else None))
        commits.add(places[0].about()["git_commit"])
        costs[task] = round(cost.in_steps(_plan(name).experiment), 1)
    made = table.packed(table.joined(tables))
    made.attrs["commits"] = ", ".join(sorted(commits))
    made.attrs["look_in_steps"] = json.dumps(costs)
    return made


def _trials(runs: Path) -> xr.Dataset | None:
    """The remedies' trials of all tasks, with each task's landscape; None if they have
    not been run."""
    if not any(_folder(runs, name, "").exists() for name in _pages("r")):
        return None
    tables, tasks = [], {name.partition("_")[2]: name for name in _pages()}
    for name in _pages("r"):
        task = name.partition("_")[2]
        folders = _folder(runs, name, ""), _folder(runs, tasks[task], "landscape")
        results = [workdirs.read_results(workdirs.Workdir(f).results) for f in folders]
        tables.append(remedies.trials(results[0], task, results[1]))
    gains = xr.concat([each.gain for each in tables], "run", join="outer")
    made = table.joined([each.drop_vars(["gain", "arm"]) for each in tables])
    return table.packed(made.assign(gain=gains))


def _draw(runs: Path, totals: Path) -> None:
    found = workdirs.read_json(totals)
    if "judged" not in found:
        raise SettingError(f"{totals} is not what --totals prints.")
    for name, drawn in account.figures(workdirs.read_results(runs), found).items():
        folder = totals.parent / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        plot.save(drawn, folder / f"account_{name}.png")


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    flags.DEFINE_string("table", "", "The table of runs.", flag_values=values)
    flags.DEFINE_string("run", "", "Where to run the pages.", flag_values=values)
    flags.DEFINE_string("make", "", "The folder of the runs.", flag_values=values)
    flags.DEFINE_string("draw", "", "The JSON of --totals.", flag_values=values)
    flags.DEFINE_bool("pilot", False, "The pilot's runs.", flag_values=values)
    flags.DEFINE_bool("totals", False, "The verdicts as JSON.", flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
