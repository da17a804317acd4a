"""Parses the flags of all command lines; errors are one sentence."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from grok_jax.settings import SettingError, nearest


def parse(
    values: flags.FlagValues,
    argv: Sequence[str],
    doc: str | None,
    *,
    takes_words: bool = False,
) -> tuple[Any, list[str]]:
    """Returns (the values of the defined flags, the other words) of a command line,
    whose first word is the program; --help prints `doc` and exits with status 0.

    Raises:
      SettingError: an unknown flag, a value that a flag refuses, or a word that is not
        a flag unless the command `takes_words`.
    """
    known = [*values]
    flags.DEFINE_bool("help", False, "This text.", short_name="h", flag_values=values)
    try:
        _, *words = values(list(argv))
    except flags.UnrecognizedFlagError as error:
        close = nearest(f"--{error.flagname}", [f"--{name}" for name in known])
        raise SettingError(f"There is no flag --{error.flagname}; {close}.") from error
    except flags.Error as error:
        raise SettingError(f"{error}.") from error
    if values["help"].value:
        print(doc)
        raise SystemExit(0)
    if words and not takes_words:
        raise SettingError(f"{words[0]!r} is not a flag; write --flag=value.")
    return values, words
