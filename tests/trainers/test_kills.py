"""Kill -9 in the middle of a real training run: what is resumed is the run that was left alone; benchmarks/kills.py is the trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mixopt

ROOT = Path(mixopt.__file__).resolve().parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked")
@pytest.mark.parametrize("trainer", ["loop", pytest.param("hf", marks=pytest.mark.slow)])
def test_a_killed_run_is_the_run_left_alone(trainer):
    if trainer == "hf":
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "kills.py"), "--trainer", trainer]
    told = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, "--kills", "3", "--steps", "14"], env=told, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["kills"] >= 1
    assert said["differing"] == 0
    assert said["same end"]
