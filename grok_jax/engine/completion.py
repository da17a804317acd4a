"""Completion of `grok-jax` as static scripts: a key press starts no Python."""

from collections.abc import Callable, Mapping, Sequence

PRESETS = ("smoke", "cpu", "paper")
FLAGS: Mapping[str, Sequence[str]] = {
    "run": ("workdir=", "config.", "dry_run", "target=", "log=", "help"),
    "watch": ("select=", "once", "seconds=", "help"),
    "report": ("out=", "summary=", "help"),
    "gallery": ("only=", "preset=", "workdirs=", "out=", "help"),
    "completion": ("help",),
}
SHELLS = ("bash", "zsh", "fish")


def _bash(commands: Sequence[str], pages: Sequence[str]) -> str:
    flags = "\n".join(
        f'    {name}) words="{" ".join(f"--{flag}" for flag in flags)}" ;;'
        for name, flags in FLAGS.items()
    )
    return f"""_grok_jax() {{
  local now=${{COMP_WORDS[COMP_CWORD]}} words="" command=${{COMP_WORDS[1]}}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(commands)}" -- "$now"))
    return
  fi
  case "$command" in
    run)
      if [ "$now" = ":" ] || [ "${{COMP_WORDS[COMP_CWORD-1]}}" = ":" ]; then
        COMPREPLY=($(compgen -W "{" ".join(PRESETS)}" -- "${{now#:}}"))
        return
      fi
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "{" ".join(pages)}" -- "$now") $(compgen -f -- "$now"))
        return
      fi ;;
    completion) COMPREPLY=($(compgen -W "{" ".join(SHELLS)}" -- "$now")); return ;;
  esac
  case "$command" in
{flags}
  esac
  case "$now" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$now")) ;;
    *) COMPREPLY=($(compgen -f -- "$now")) ;;
  esac
}}
complete -o nospace -o filenames -F _grok_jax grok-jax
"""


def _zsh(commands: Sequence[str], pages: Sequence[str]) -> str:
    return "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" + _bash(
        commands, pages
    )


def _fish(commands: Sequence[str], pages: Sequence[str]) -> str:
    seen = "__fish_seen_subcommand_from"
    lines = [
        "complete -c grok-jax -n __fish_use_subcommand -f "
        f"-a '{' '.join(commands)}' -d command",
        f"complete -c grok-jax -n '{seen} run' -a '{' '.join(pages)}' -d page",
        f"complete -c grok-jax -n '{seen} completion' -f -a '{' '.join(SHELLS)}'",
    ]
    for name, flags in FLAGS.items():
        lines += [
            f"complete -c grok-jax -n '{seen} {name}' -l '{flag.rstrip('=')}'"
            for flag in flags
        ]
    return "\n".join(lines) + "\n"


SCRIPTS: Mapping[str, Callable[[Sequence[str], Sequence[str]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
"""shell -> what makes its script from the names of commands and pages."""
