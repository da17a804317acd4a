"""What the command lines share: flags from words, and what is wrong in a sentence."""

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
    """(the values of defined flags, the words beside them) of a command line whose
    first word is the program; --help prints `doc` and ends the process with 0.

    Raises:
      SettingError: an unknown flag, a value that a flag refuses, or a word beside the
        flags where the command `takes_words` of none.
    """
    known = [*values]
    flags.DEFINE_bool("help", False, "This text.", flag_values=values)
    try:
        _, *words = values(list(argv))
    except flags.UnrecognizedFlagError as error:
        close = nearest(error.flagname, known)
        raise SettingError(f"There is no flag --{error.flagname}; {close}.") from error
    except flags.Error as error:
        raise SettingError(f"{error}.") from error
    if values["help"].value:
        print(doc)
        raise SystemExit(0)
    if words and not takes_words:
        raise SettingError(f"{words[0]!r} is not a flag; write --flag=value.")
    return values, words
