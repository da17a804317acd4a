"""`grok-jax`: commands, help, completion, shipped pages by name, pages of settings."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import grok_jax
from grok_jax import cli, launch
from grok_jax.engine import completion, registry, shipped, workdirs
from grok_jax.settings import SettingError

SETTINGS = """
task: {name: polynomial, input_dim: 6, train_size: 14, test_size: 9}
model: {name: committee, width: 7}
optimizer: {name: gradient_descent, learning_rate: 1e-1, rule: lazy}
train: {steps: 6, records: 3}
sweep:
  epsilon: [0.25, 1]
  seed: [0, 1]
"""


@pytest.fixture
def launched(monkeypatch):
    """The words that `run` gives to the launcher, which does not run."""
    given = []
    monkeypatch.setattr(launch, "main", lambda words: given.append(words) or 0)
    monkeypatch.setattr(launch, "end", lambda status: None)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return given


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["k3_laziness"], ["--config=k3_laziness", "--workdir=runs/k3_laziness"]),
        (
            ["k3_laziness:smoke", "--dry_run"],
            [
                "--config=k3_laziness:smoke",
                "--workdir=runs/k3_laziness_smoke",
                "--dry_run",
            ],
        ),
        (
            ["k3_laziness", "--workdir=here", "--config.width=3"],
            ["--config=k3_laziness", "--workdir=here", "--config.width=3"],
        ),
        (
            ["k3_laziness", "--workdir", "here"],
            ["--config=k3_laziness", "--workdir", "here"],
        ),
        (["a/b.py:cpu"], ["--config=a/b.py:cpu", "--workdir=runs/b_cpu"]),
        (["a/b.yaml"], ["--config=a/b.yaml", "--workdir=runs/b"]),
    ],
    ids=" ".join,
)
def test_run_is_the_launcher_with_a_default_folder(words, passed, launched):
    cli.main(["run", *words])
    assert launched == [["grok-jax", *passed]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "There is no command 'rnu'; nearest: run."),
        (["run"], "Name the page first: grok-jax run PAGE[:PRESET]"),
        (["run", "--dry_run", "k3_laziness"], "Name the page first"),
        (["run", "k3_lazines"], "no page 'k3_lazines'; nearest: k3_laziness."),
        (["run", "k12"], "nearest: k12_momentum, k12_teacher_student, k12_transformer"),
        (["run", "k3.yaml:smoke"], "k3.yaml is one set of settings; it has no preset"),
        (["report"], "Give the run folders"),
        (["pages", "zebra"], "No page has 'zebra' in its name or summary."),
        (["pages", "two", "words"], "Give one word"),
        (["parts", "modlar"], "No part has 'modlar' in its name; nearest: modular,"),
        (["parts", "two", "words"], "Give one word"),
        (["completion"], "Completion is for one shell"),
        (["completion", "tcsh"], "not 'tcsh'; nearest:"),
        (["help", "wacth"], "There is no command 'wacth'; nearest: watch."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_a_sentence_and_exit_2(words, said, capsys):
    assert cli.main(words) == cli.WRONG_USAGE
    told = capsys.readouterr().err
    assert said in told and told.startswith("grok_jax: ") and told.count("\n") == 1


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_with_examples(command, flag, capsys):
    try:
        assert cli.main([command, flag]) == 0
    except SystemExit as ended:  # from the parser of flags
        assert ended.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"grok-jax {command}") and "Example" in said
    assert re.search(rf"^  grok-jax {command}", said, re.MULTILINE)


def test_the_help_names_every_command(capsys):
    for words in ([], ["--help"], ["help"]):
        assert cli.main(words) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {command} " in said for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"grok_jax {grok_jax.__version__}\n"


def test_all_pages_are_listed_with_their_first_sentence(capsys):
    assert cli.main(["pages"]) == 0
    lines = capsys.readouterr().out.splitlines()
    papers = [line for line in lines if not line.startswith(" ")]
    assert papers == ["delay:", "groktransfer:", "lazy to rich:", "omnigrok:"]
    assert len(lines) - len(papers) == len(list(shipped.folder().glob("*/*.py")))
    assert all(len(line.split()) > 3 for line in lines if line not in papers)
    assert cli.main(["pages", "Transformer"]) == 0
    assert "o6_transformer" in capsys.readouterr().out


def test_all_built_in_parts_are_listed_with_their_settings(capsys):
    assert cli.main(["parts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    known = registry.REGISTRIES.items()
    assert named == [f"{kind} {name}" for kind, table in known for name in table]
    assert cli.main(["parts", "parity"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("task sparse_parity: ")
    assert re.search(r"\n    bits +40, static\n", said)


def test_a_shipped_page_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, preset = shipped.find("k3_laziness:smoke")
    assert path.is_file() and preset == "smoke"
    assert shipped.find("k3_laziness") == (path, None)
    assert shipped.find("k3_laziness.py:smoke") == (Path("k3_laziness.py"), "smoke")
    Path("widths.py").touch()
    with pytest.raises(SettingError, match=r"no page 'widths'; nearest: widths.py\."):
        shipped.find("widths")


def test_a_page_is_a_file_of_settings_a_dict_or_a_function(tmp_path, assert_identical):
    """All the same sweep, run through the launcher too."""
    path = tmp_path / "mine.yaml"
    path.write_text(SETTINGS)
    config = workdirs.read_yaml(path)
    assert config["optimizer"]["learning_rate"] == 0.1  # also in YAML's old number
    runs = [str(path), config, lambda: config]
    first, *others = (grok_jax.run(each, say=lambda _: None) for each in runs)
    assert first.sizes == {"epsilon": 2, "seed": 2, "step": 4}
    for other in others:
        assert_identical(other.data_vars, first.data_vars)
    line = ["launch", f"--config={path}", f"--workdir={tmp_path}/run"]
    assert launch.main(line) == launch.DONE
    place = workdirs.Workdir(tmp_path / "run")
    assert_identical(workdirs.read_results(place.results).data_vars, first.data_vars)
    assert workdirs.read_json(place.config)["name"] == "mine"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "task: [", "is not YAML: "),
        ("a.yaml", "- task", "holds no settings; write sections such as task:"),
        ("a.yml", "taks: {name: modular}", "nearest: task"),
        ("a.json", "{}", "is not a Python or YAML file."),
        ("a.yaml", None, "There is no config file"),
    ],
)
def test_a_bad_file_of_settings_is_a_sentence(name, text, said, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=re.escape(said)):
        grok_jax.run(str(tmp_path / name))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("ru",), {"run"}),
        (("run", "k3_l"), {"k3_laziness"}),
        (("run", "k3_laziness", ":"), set(completion.PRESETS)),
        (("run", "k3_laziness", ":", "sm"), {"smoke"}),
        (("run", "k3_laziness", "--dr"), {"--dry_run"}),
        (("report", "--o"), {"--out="}),
        (("completion", ""), set(completion.SHELLS)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes(words, found, tmp_path, capsys):
    cli.main(["completion", "bash"])
    given = " ".join(f"'{word}'" for word in ("grok-jax", *words))
    lines = [
        capsys.readouterr().out,
        f"COMP_WORDS=({given}) COMP_CWORD={len(words)}",
        "_grok_jax; printf '%s\\n' \"${COMPREPLY[@]}\"",
    ]
    line = ["bash", "-uc", "\n".join(lines)]
    said = subprocess.check_output(line, text=True, cwd=tmp_path)
    assert set(said.split()) == found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_another_shell_is_one_of_it(shell, capsys):
    cli.main(["completion", shell])
    script = capsys.readouterr().out
    assert "k3_laziness" in script and "dry_run" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_flags_that_are_completed_are_flags_of_the_command():
    for name, flags in completion.FLAGS.items():
        said = subprocess.run(
            [sys.executable, "-m", "grok_jax", name, "--help"],
            capture_output=True,
            text=True,
        ).stdout
        for flag in set(flags) - {"help"}:
            assert f"--{flag.rstrip('=')}" in said, (name, flag)
