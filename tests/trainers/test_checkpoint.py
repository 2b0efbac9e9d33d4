"""Checkpoints of a plain loop: whole or not there, exact, and refused where they are of something else."""

from __future__ import annotations

import os

import pytest
import torch

from mixopt.errors import InputError
from mixopt.trainers import Checkpoint


def parts(make_schedule):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)
    return {"model": model, "optimizer": torch.optim.Adam(model.parameters(), 0.1), "schedule": make_schedule()}


def trained(model, optimizer, schedule, steps):
    """Steps on random data from torch's own generator."""
    for _ in range(steps):
        losses = model(torch.randn(3)).square()
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        schedule.observe(train=losses)
    return [*model.state_dict().values(), schedule.w.tolist()]


def test_a_run_goes_on_exactly(tmp_path, make_schedule):
    whole = parts(make_schedule)
    trained(**whole, steps=4)
    Checkpoint(tmp_path, **whole).save(4)
    weight, bias, w = trained(**whole, steps=5)
    torch.manual_seed(9)
    again = parts(make_schedule)
    assert Checkpoint(tmp_path, **again).restore() == 4
    weight_again, bias_again, w_again = trained(**again, steps=5)
    assert torch.equal(weight, weight_again)
    assert torch.equal(bias, bias_again)
    assert w == w_again


def test_the_newest_stay(tmp_path, make_schedule):
    checkpoint = Checkpoint(tmp_path, keep=2, **parts(make_schedule))
    assert checkpoint.restore() == 0
    for step in (5, 30, 200):
        checkpoint.save(step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000030.pt", "step-00000200.pt"]
    assert checkpoint.restore() == 200


def test_a_write_that_is_cut_leaves_the_one_before(tmp_path, make_schedule, monkeypatch):
    checkpoint = Checkpoint(tmp_path, **parts(make_schedule))
    checkpoint.save(1)

    def cut(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(2)
    assert checkpoint.restore() == 1
    monkeypatch.undo()
    checkpoint.save(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001.pt", "step-00000003.pt"]


def test_bad_input(tmp_path, make_schedule):
    own = parts(make_schedule)
    with pytest.raises(InputError, match="nothing to keep"):
        Checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"\(step\) has no state_dict"):
        Checkpoint(tmp_path, step=3, **own)
    with pytest.raises(InputError, match="at least one"):
        Checkpoint(tmp_path, keep=0, **own)
    Checkpoint(tmp_path, model=own["model"]).save(1)
    with pytest.raises(InputError, match=r"holds \(model\), and the parts to restore are \(model, optimizer, schedule\)"):
        Checkpoint(tmp_path, **own).restore()
    (tmp_path / "step-00000002.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="remove it to go on"):
        Checkpoint(tmp_path, model=own["model"]).restore()
    torch.save({"step": 3}, tmp_path / "step-00000003.pt")
    with pytest.raises(InputError, match="no checkpoint of this version"):
        Checkpoint(tmp_path, model=own["model"]).restore()
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="give another folder"):
            Checkpoint(tmp_path / "new", **own).save(1)


def test_a_step_before_one_that_is_there_is_refused_and_not_thrown_away(tmp_path, make_schedule):
    """A folder that was not restored from: its old steps would outlive the new ones, and be restored."""
    checkpoint = Checkpoint(tmp_path, keep=1, schedule=make_schedule())
    checkpoint.save(300)
    checkpoint.save(300)
    with pytest.raises(InputError, match=r"holds step-00000300.pt, and step 100 is before it; restore\(\) first"):
        checkpoint.save(100)
    assert checkpoint.restore() == 300
    (tmp_path / "step-00000300.pt").unlink()
    checkpoint.save(100)
    assert checkpoint.restore() == 100
