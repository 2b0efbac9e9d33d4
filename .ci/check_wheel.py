"""Check that a wheel holds each source file once, then install it in an empty folder and use it from outside the tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USE = """
import importlib.util, pathlib, sys
import mixopt, mixopt.problems, mixopt.solvers
home = pathlib.Path(sys.argv[1]).resolve()
for module in (mixopt, mixopt.problems, mixopt.solvers):
    assert pathlib.Path(module.__file__).resolve().is_relative_to(home), module.__file__
for name in ("problems", "solvers"):
    assert importlib.util.find_spec(name) is None, f"'import {name}' finds something: only mixopt.{name} may"
print(f"mixopt {mixopt.__version__} imports from {mixopt.__file__}")
"""


def expected() -> list[str]:
    """The files of the package by their place in the wheel: problems/ and solvers/ move into mixopt/."""
    tracked = subprocess.run(["git", "ls-files", "mixopt", "problems", "solvers"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [f for f in tracked.stdout.split("\n") if f and not (ROOT / f).is_symlink()]
    return sorted(f if f.startswith("mixopt/") else f"mixopt/{f}" for f in files)


def check_contents(wheel: Path) -> None:
    """Raise SystemExit where the wheel lacks a tracked file of the package, holds another, or holds one twice."""
    found = sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)
    wanted = expected()
    if found != wanted:
        lines = [f"missing: {n}" for n in wanted if n not in found] + [f"not wanted: {n}" for n in found if n not in wanted]
        raise SystemExit("\n".join([f"{wheel.name} differs from the tracked files of the package", *(lines or ["a file is there twice"])]))
    print(f"{wheel.name}: {len(found)} files, each once")


def check_use(wheel: Path) -> None:
    """Install the wheel in an empty folder and import it, and run its command, from outside the tree."""
    with tempfile.TemporaryDirectory() as folder:
        home, python = Path(folder) / "installed", [sys.executable, "-P"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, "--target", str(home), str(wheel)], check=True)
        away = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(home)}, "check": True}
        subprocess.run([*python, "-c", USE, str(home)], **away)
        subprocess.run([*python, str(home / "bin" / "mixopt"), "--help"], **away)


if __name__ == "__main__":
    check_contents(Path(sys.argv[1]))
    check_use(Path(sys.argv[1]).resolve())
