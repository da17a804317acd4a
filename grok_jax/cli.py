"""grok-jax COMMAND ...: one command for all that grok_jax does.

  run PAGE[:PRESET]   run a page: train its sweep, test its claims, draw its figures
  watch DIR           follow a run from another terminal
  report DIR...       one page of HTML about several runs
  gallery             run all pages of the three papers, and report them
  pages               list the pages that come with the package
  parts               list the built-in tasks, models, ..., with their settings
  benchmark           measure this machine (in a checkout)
  completion SHELL    print the completion script of bash, zsh or fish

Examples:
  grok-jax run k3_laziness                  the first figure, in runs/k3_laziness
  grok-jax run k3_laziness:smoke --dry_run  what would run, and how long it takes
  grok-jax watch runs/k3_laziness
  grok-jax report runs/* --out=report

`grok-jax COMMAND --help` says more about each. `python -m grok_jax` is the same.
"""

import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import grok_jax
from grok_jax.engine import shipped
from grok_jax.settings import SettingError, nearest

DONE, WRONG_USAGE, STOPPED = 0, 2, 75

RUN = """grok-jax run PAGE[:PRESET] [--workdir=DIR] [--config.a.b=value ...]

PAGE is a page that comes with the package (`grok-jax pages` lists them), a FILE.py with
a get_config(), or a FILE.yaml of settings. Without --workdir the results are in
runs/PAGE, or in runs/PAGE_PRESET if a preset is given.

Examples:
  grok-jax run k3_laziness                      a minute on two cores
  grok-jax run k3_laziness:smoke                seconds
  grok-jax run k3_laziness:paper --dry_run      memory and time; nothing is written
  grok-jax run k3_laziness --workdir=runs/more --config.sweep.seed=0,1,2
  grok-jax run mine.yaml --config.learning_rate=0.1
  grok-jax run k1_grokking --workdir=gs://BUCKET/k1 --log=tensorboard

The same line again goes on where it stopped. It is the same as

  python -m grok_jax.launch --config=PAGE[:PRESET] --workdir=DIR ...

whose other flags it takes too (--dry_run, --target, --log, several hosts);
`python -m grok_jax.launch --help` explains them and the exit status.
"""
PAGES = """grok-jax pages [WORD]

Lists the pages that come with the package, or those whose name or summary has WORD.

Examples:
  grok-jax pages
  grok-jax pages transformer
"""
PARTS = """grok-jax parts [WORD]

Lists the built-in tasks, models, losses, optimisers, gradient transformations,
observables and stop rules with their settings and defaults, or those of a kind or of a
name with WORD. A static setting is one value for a whole compilation.

Examples:
  grok-jax parts
  grok-jax parts model
  grok-jax parts modular
"""
COMPLETION = """grok-jax completion bash|zsh|fish

Prints a script that completes commands, pages, presets and flags.

Examples:
  grok-jax completion bash >> ~/.bashrc
  grok-jax completion zsh >> ~/.zshrc
  grok-jax completion fish > ~/.config/fish/completions/grok-jax.fish
"""
BENCHMARK = """grok-jax benchmark --out=FILE.json [...]

Measures this machine; needs a checkout. It is the same as `python benchmarks/run.py`,
whose --help explains all flags.

Example:
  grok-jax benchmark --out=bench.json --quick
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    command, *words = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    try:
        if command in ("-h", "--help", "help"):
            if command == "help" and words:
                return main([words[0], "--help"])
            print(__doc__)
            return DONE
        if command == "--version":
            print(f"grok_jax {grok_jax.__version__}")
            return DONE
        if command not in COMMANDS:
            raise SettingError(
                f"There is no command {command!r}; {nearest(command, COMMANDS)}."
            )
        return COMMANDS[command](words)
    except SettingError as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    except BrokenPipeError:  # `grok-jax pages | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def with_help(text: str, words: Sequence[str]) -> bool:
    """Whether the words ask for help, which is then printed."""
    asked = any(word in ("-h", "-help", "--help") for word in words)
    if asked:
        print(text)
    return asked


def run(words: Sequence[str]) -> int:
    """Runs a page in its default folder unless --workdir names another."""
    if with_help(RUN, words):
        return DONE
    if not words or words[0].startswith("-"):
        raise SettingError(
            "Name the page first: grok-jax run PAGE[:PRESET]; `grok-jax pages` lists "
            "those that come with the package."
        )
    page, *rest = words
    path, preset = shipped.find(page)
    if not any(word.lstrip("-").partition("=")[0] == "workdir" for word in rest):
        name = f"{path.stem}_{preset}" if preset else path.stem
        rest = [f"--workdir=runs/{name}", *rest]
    for number in (signal.SIGTERM, signal.SIGINT):  # during the slow imports below
        signal.signal(number, _stop)
    from grok_jax import launch

    launch.end(launch.main(["grok-jax", f"--config={page}", *rest]))


def _stop(*_: object) -> NoReturn:
    os._exit(STOPPED)


def watch(words: Sequence[str]) -> int:
    """Follows a run."""
    from grok_jax import watch as watch_lib

    return watch_lib.main(["grok-jax watch", *words])


def report(words: Sequence[str]) -> int:
    """Writes a report."""
    from grok_jax import report as report_lib

    return report_lib.main(["grok-jax report", *words])


def gallery(words: Sequence[str]) -> int:
    """Runs all shipped pages."""
    from grok_jax.engine import registry

    script = registry.load_file(shipped.folder() / "gallery.py")
    return script.main(["grok-jax gallery", *words])


def pages(words: Sequence[str]) -> int:
    """Lists the shipped pages, by paper."""
    if with_help(PAGES, words):
        return DONE
    if len(words) > 1:
        raise SettingError("Give one word to look for: grok-jax pages [WORD].")
    wanted = (words[0] if words else "").lower()
    known = shipped.pages()
    told = {name: shipped.summary(path) for name, path in known.items()}
    found = {n: text for n, text in told.items() if wanted in f"{n} {text}".lower()}
    if not found:
        raise SettingError(f"No page has {wanted!r} in its name or summary.")
    paper = ""
    for name, text in found.items():
        if known[name].parent.name != paper:
            paper = known[name].parent.name
            print(f"{paper.replace('_', ' ')}:")
        print(f"  {name:24}{text}")
    return DONE


def parts(words: Sequence[str]) -> int:
    """Lists the built-in parts, by kind."""
    if with_help(PARTS, words):
        return DONE
    if len(words) > 1:
        raise SettingError("Give one word to look for: grok-jax parts [WORD].")
    from grok_jax.engine import registry

    def show(line: str, indent: int) -> None:
        print(textwrap.fill(line, width, subsequent_indent=" " * indent))

    wanted = (words[0] if words else "").lower()
    width = min(shutil.get_terminal_size().columns, 100)
    every = [
        (kind, *told) for kind in registry.REGISTRIES for told in registry.told(kind)
    ]
    found = [part for part in every if wanted in part[0] or wanted in part[1]]
    if not found:
        close = nearest(wanted, [name for _, name, *_ in every])
        raise SettingError(f"No part has {wanted!r} in its name; {close}.")
    for kind, name, said, settings in found:
        show(f"{kind} {name}: {said}", 2)
        for key, told in settings.items():
            show(f"    {key:18}{told}", 22)
    return DONE


def benchmark(words: Sequence[str]) -> int:
    """Runs the benchmark of a checkout."""
    if with_help(BENCHMARK, words):
        return DONE
    from grok_jax import benchmark as benchmark_lib

    sys.argv[1:] = words
    return benchmark_lib.main() or DONE


def completion(words: Sequence[str]) -> int:
    """Prints the completion script of a shell."""
    if with_help(COMPLETION, words):
        return DONE
    from grok_jax.engine import completion as completion_lib

    scripts = completion_lib.SCRIPTS
    if len(words) != 1 or words[0] not in scripts:
        word = " ".join(words)
        raise SettingError(
            f"Completion is for one shell, not {word!r}; {nearest(word, scripts)}."
        )
    print(scripts[words[0]](list(COMMANDS), list(shipped.pages())), end="")
    return DONE


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": run,
    "watch": watch,
    "report": report,
    "gallery": gallery,
    "pages": pages,
    "parts": parts,
    "benchmark": benchmark,
    "completion": completion,
}


if __name__ == "__main__":
    sys.exit(main())
