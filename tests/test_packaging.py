"""What is written in pyproject.toml and on the map of the tree agrees with the tree: packages, links, data files and version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

import mixopt

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
LINKS = {"problems": "../problems", "solvers": "../solvers"}


def folders_with_code() -> dict[str, str]:
    """Package name -> folder, for every folder of the product that holds an ``__init__.py`` (links not followed)."""
    found = {}
    for top in ("mixopt", *LINKS):
        for folder, _, files in os.walk(ROOT / top, followlinks=False):
            if "__init__.py" in files:
                place = Path(folder).relative_to(ROOT).as_posix()
                found[place.replace("/", ".") if top == "mixopt" else f"mixopt.{place.replace('/', '.')}"] = place
    return found


def test_the_packages_are_the_folders_that_hold_an_init():
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders_with_code())
    assert len(set(SETUPTOOLS["packages"])) == len(SETUPTOOLS["packages"])


def test_folders_outside_the_package_are_mapped_and_no_others():
    outside = {name: place for name, place in folders_with_code().items() if name.replace(".", "/") != place}
    assert SETUPTOOLS["package-dir"] == outside == {f"mixopt.{top}": top for top in LINKS}


def test_every_folder_with_python_files_is_a_package():
    holding = {path.parent.relative_to(ROOT).as_posix() for top in ("mixopt", *LINKS) for path in (ROOT / top).rglob("*.py")}
    reached_by_a_link = {place for place in holding if place.startswith(tuple(f"mixopt/{top}" for top in LINKS))}
    assert holding - reached_by_a_link == set(folders_with_code().values())


@pytest.mark.parametrize("name", LINKS)
def test_the_links_are_relative_and_tracked_as_links(name):
    link = ROOT / "mixopt" / name
    assert link.is_symlink()
    assert os.readlink(link) == LINKS[name]
    assert link.resolve() == ROOT / name
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no checkout: whether the links are tracked as links cannot be asked")
    listed = subprocess.run(["git", "ls-files", "--stage", f"mixopt/{name}"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert listed.split()[:1] == ["120000"], f"git has no link at mixopt/{name}: {listed!r}"


def test_files_that_are_no_code_are_shipped():
    for name, place in folders_with_code().items():
        patterns = SETUPTOOLS["package-data"].get(name, [])
        files = [f.name for f in (ROOT / place).iterdir() if f.is_file() and f.suffix not in (".py", ".pyc") and not f.name.startswith(".")]
        forgotten = [f for f in files if not any(PurePosixPath(f).match(pattern) for pattern in patterns)]
        assert not forgotten, f"package-data lacks these files of {name}: {forgotten}"


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "mixopt" / "py.typed").is_file()
    assert "py.typed" in SETUPTOOLS["package-data"]["mixopt"]


def test_the_version_is_the_one_of_the_project_file():
    assert mixopt.__version__ == PROJECT["project"]["version"]


def test_the_citation_has_version_and_license():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert {f"version: {PROJECT['project']['version']}", f"license: {PROJECT['project']['license']}"} <= set(lines)


def test_the_map_of_the_tree_has_every_module():
    """Each module and folder beside ``mixopt/__init__.py`` stands in the first column of a row of CONTRIBUTING.md."""
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {Path(name).stem for row in rows for name in re.findall(r"`([^`]+)`", row)}
    there = {path.stem for path in (ROOT / "mixopt").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert told == there - {"__init__", "__main__"}


def test_the_changelog_has_the_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert any(PROJECT["project"]["version"] in heading for heading in headings), headings


def test_every_requirement_is_pinned_for_the_two_commands():
    def names(lines):
        return {re.split(r"[^\w.-]", line.strip())[0].lower().replace("_", "-") for line in lines if line.strip() and line[0] != "#"}

    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin) for pin in pins if pin and pin[0] != "#")
    asked = [
        *PROJECT["project"]["dependencies"],
        *(line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra),
    ]
    assert names(asked) <= names(pins)
