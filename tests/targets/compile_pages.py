"""python tests/targets/compile_pages.py --target=gpu:h100 --out=FILE [PAGE:PRESET ...]

Compiles every group of pages for a machine that is not here and appends a line of JSON
for each: what was found in its training loop, bytes, seconds. The same line again goes
on where the last one stopped: what has a line for this commit, target, page, preset and
group is not compiled again. Without pages: all of them at `smoke`, then PAPER at
`paper`; with `--kinds` one group of each distinct kind of program, for a compiler that
takes minutes. `--parallel=2` works in two processes, each on every other group.
`--table` prints what FILE has of this target as Markdown, a row for each page and
preset, and compiles nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the checkout

import jax

from benchmarks import findings
from grok_jax import launch, report
from grok_jax.engine import config, machine, programs, session, stand_ins, targets
from grok_jax.engine.programs import Group, Plan
from grok_jax.settings import SettingError, natural

PAPER = (
    "lazy_to_rich/k3_laziness",
    "lazy_to_rich/k6_mnist",
    "lazy_to_rich/k12_transformer",
    "omnigrok/o1_landscape",
    "omnigrok/o2_grokking",
    "omnigrok/o3_reviews",
    "omnigrok/o4_molecules",
    "omnigrok/o6_transformer",
    "groktransfer/g1_modular",
    "groktransfer/g4_grokking",
)
"""Pages whose paper presets have between them every kind of model."""
KEYS = ("commit", "target", "page", "preset", "group")


def pages() -> list[str]:
    """Every page, as PAPER names them."""
    found = sorted((ROOT / "experiments").glob("*/*.py"))
    return [f"{path.parent.name}/{path.stem}" for path in found]


def plan_of(page: str, preset: str) -> tuple[Plan, dict[str, Any]]:
    """The plan of a page, and its engine settings, which are in force from here on."""
    module, _ = launch.load_experiment(str(ROOT / "experiments" / f"{page}.py"))
    resolved = config.resolve(session.get_config(module, preset))
    machine.set_up_jax(resolved.engine)
    return resolved.plan, resolved.engine


def kind_of(plan: Plan, group: Group) -> tuple[Any, ...]:
    """What tells kinds of programs apart: the parts, and what puts a loop or a
    conditional into them."""
    own = programs.named_settings(group.experiment)
    parts = ("task", "model", "loss", "optimizer")
    return (
        *(own[f"{part}.name"] for part in parts),
        own["train.batch_size"] > 0,
        own.get("transfer.source"),
        own["model.linearized"],
        *sorted(group.experiment.gradient),
        own["optimizer.norm"],
    )


def compile_group(page: str, preset: str, number: int, name: str) -> dict[str, Any]:
    """The line of one group, or of its failure."""
    target = targets.parse(name)
    plan, engine = plan_of(page, preset)
    group = plan.groups()[number]
    program = stand_ins.program_of(group, target.devices)
    about = {"page": page, "preset": preset, "group": number, "target": name}
    about |= {"runs": len(group.members), "x64": engine["x64"]}
    about["steps"] = int(group.steps[-1])
    about["model"] = programs.named_settings(group.experiment)["model.name"]
    started = time.perf_counter()
    try:
        found = targets.of_group(program, target)
    except (jax.errors.JaxRuntimeError, SettingError) as error:
        return {**about, "error": str(error).splitlines()[0]}
    return {
        **about,
        "seconds": round(time.perf_counter() - started, 1),
        "at_once": found.segment.at_once,
        "bytes": found.bytes,
        "run_step": found.run_step,
        **findings.findings(program, found.segment)._asdict(),
    }


def commit() -> str:
    """The commit that changed the package or a page last, marked where they differ."""
    git, where = ["git", "-C", str(ROOT)], ["--", "grok_jax", "experiments"]
    log = [*git, "log", "-1", "--format=%h", *where]
    head = subprocess.check_output(log, text=True).strip()
    changed = subprocess.check_output([*git, "status", "--porcelain", *where])
    return head + ("+" if changed else "")


def lines(path: Path) -> list[dict[str, Any]]:
    """What is there already."""
    return [json.loads(line) for line in path.open()] if path.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """A row for each page and preset: its groups together, those that fit."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in found:
        name = f"{Path(line['page']).name}:{line['preset']}"
        rows.setdefault(name, []).append(line)
    out = []
    for name in sorted(rows, key=natural):
        fit = [line for line in rows[name] if "error" not in line]
        turns = [-(-line["runs"] // line["at_once"]) for line in fit]
        pairs = zip(fit, turns, strict=True)
        kernels = sum(line["kernels"] * line["steps"] * turn for line, turn in pairs)
        left = len(rows[name]) - len(fit)
        out.append(
            [
                name,
                f"{sum(line['runs'] for line in rows[name]):,}",
                f"{len(fit)}" + (f", {left} does not fit" if left else ""),
                "64" if fit[0]["x64"] else "32",
                f"{max(line['steps'] for line in fit):,}",
                f"{max(line['bytes'] for line in fit) / 2**30:.2f}",
                str(max(turns)),
                f"{kernels / 1e6:.2f}",
            ]
        )
    head = "page, runs, groups, bits, steps, GiB, turns, million kernels"
    return "\n".join(report.markdown_table(head.split(", "), out))


def wanted(specs: list[str], kinds: bool) -> Iterator[tuple[str, str, int]]:
    """(page, preset, group) of all that is to be compiled."""
    pairs = [tuple(spec.split(":")) for spec in specs]
    if not pairs:
        pairs = [(page, "smoke") for page in pages()]
        pairs += [(page, "paper") for page in PAPER]
    seen = set()
    for page, preset in pairs:
        plan, _ = plan_of(page, preset)
        for number, group in enumerate(plan.groups()):
            kind = kind_of(plan, group)
            if not (kinds and kind in seen):
                seen.add(kind)
                yield page, preset, number


def main() -> int:
    """Compiles what is wanted and not there yet; 1 if a group does not compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table([x for x in lines(options.out) if x["target"] == options.target]))
        return 0
    if options.parallel > 1 and options.part is None:
        own = [sys.executable, *sys.argv]
        both = os.environ | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # one, unless asked
        parts = [
            subprocess.Popen([*own, f"--part={part}"], env=both)
            for part in range(options.parallel)
        ]
        return max([part.wait() for part in parts])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    targets.parse(options.target)  # before a device is asked for
    now, failed = commit(), 0
    todo = list(wanted(options.pages, options.kinds))
    for page, preset, number in todo[options.part or 0 :: options.parallel]:
        key = (now, options.target, page, preset, number)
        if any(tuple(line[k] for k in KEYS) == key for line in lines(options.out)):
            continue
        line = {"commit": now, **compile_group(page, preset, number, options.target)}
        failed |= "error" in line
        with options.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(line, flush=True)
        jax.clear_caches()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
