"""The files around the package: they agree with it and with one another."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import grok_jax

ROOT = Path(grok_jax.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def bounds(*texts):
    """name -> the lowest version of the requirements that have one."""
    found = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", text) for text in texts)
    return {match[1].lower(): match[2] for match in found if match}


def padded(version):
    return tuple(map(int, version.split(".")))


def test_no_dependency_has_an_upper_bound():
    texts = [*PROJECT["dependencies"], *(t for each in EXTRAS.values() for t in each)]
    for text in texts:
        assert re.fullmatch(r"[\w.-]+(\[[\w,]+\])?(>=[\w.]+)?", text), text


def test_the_oldest_versions_are_those_that_the_package_allows():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line)
    extras = ("data", "delay", "qm9", "zarr", "tensorboard", "test")
    lowest = bounds(*PROJECT["dependencies"], *(t for e in extras for t in EXTRAS[e]))
    assert pinned.keys() == lowest.keys() - {"ruff", "pyright"}
    for name, version in pinned.items():
        given = padded(lowest[name])
        assert padded(version)[: len(given)] == given, name


def test_every_dependency_has_its_reason():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for name in bounds(*PROJECT["dependencies"]):
        assert any(name in row.lower() for row in rows), name
    for name, texts in EXTRAS.items():
        row = next(row for row in rows if re.match(rf"\|[\w, ]*\b{name}\b", row))
        if name not in ("test", "dev"):
            for each in bounds(*texts):
                assert each in row.lower(), (name, each)


def test_the_version_is_the_same_everywhere():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["version"] == grok_jax.__version__
    assert f"\n## {grok_jax.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert {each["year"] for each in cff["references"]} == {2023, 2024, 2025}
    line = f'__version__ = "{grok_jax.__version__}"'  # as the release reads it
    assert line in (ROOT / "grok_jax" / "__init__.py").read_text().splitlines()


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name
)
def test_hosted_files_are_yaml_and_name_what_is_here(path):
    text = path.read_text()
    assert isinstance(yaml.safe_load(text), dict)
    for named in re.findall(r"(?:scripts|tests)/[\w/.]+|[\w-]+\.txt", text):
        assert (ROOT / named).exists(), named
    for extras in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= EXTRAS.keys()


def test_hosted_tests_span_the_versions_that_are_supported():
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    rows = ci["jobs"]["test"]["strategy"]["matrix"]["include"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert {"python": oldest, "jax": "oldest", "bits": "32"} in rows
    assert {row["jax"] for row in rows} == {"oldest", "newest", "nightly"}
    assert {row["bits"] for row in rows} == {"32", "64"}


def test_links_between_the_documents_lead_somewhere():
    for path in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_wheel_maps_every_folder_of_pages():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    mapped = build["build"]["targets"]["wheel"]["force-include"]
    pages = (ROOT / "experiments").glob("*/*.py")
    folders = {f"experiments/{path.parent.name}" for path in pages}
    assert mapped.keys() == {"experiments/gallery.py", *folders}
    assert all(inside == f"grok_jax/{outside}" for outside, inside in mapped.items())
