"""The callback in Lightning's own Trainer, where lightning is installed (`make trainers` does so)."""

from __future__ import annotations

import dataclasses
import os
import re
import types
from functools import partial
from pathlib import Path

import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError
from mixopt.loading import tokens
from mixopt.runtime.gpt import GPT
from mixopt.trainers import cross_entropy

if os.environ.get("MIXOPT_TRAINERS"):  # there it has to be installed
    import lightning.pytorch as lightning
else:
    lightning = pytest.importorskip("lightning.pytorch", reason="make trainers installs lightning and runs this test")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own
NAMES = ("web", "code", "books")


class Module(lightning.LightningModule):
    def __init__(self, sums=True):
        super().__init__()
        self.net, self.sums, self.seen = GPT(vocabulary=32, context=16, width=16, layers=1, seed=3), sums, []

    def transfer_batch_to_device(self, batch, device, index):
        return dataclasses.replace(batch, data=batch.data.to(device), domains=batch.domains.to(device))

    def training_step(self, batch, index):
        logits = self.net(batch.data[:, :-1])
        loss = cross_entropy(logits, batch.data[:, 1:], batch.domains, len(NAMES), shift=False)
        self.seen.append((loss.total.item(), batch.data.tolist()))
        return {"loss": loss.total, "sums": loss.sums, "counts": loss.counts} if self.sums else loss.total

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def run(tmp_path, schedule, steps, accumulate=1, resume=None, module=None):
    """A run that writes a checkpoint every two steps; the module and the trainer."""
    from mixopt.trainers import LightningCallback

    draw = torch.Generator().manual_seed(0)
    rows = {n: torch.randint(0, most, (600,), generator=draw).numpy() for n, most in zip(NAMES, (3, 9, 27), strict=True)}
    loader = tokens(rows, schedule, 4, context=8, batches=12 * accumulate)
    keeps = lightning.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        accumulate_grad_batches=accumulate, callbacks=[LightningCallback(schedule), keeps], default_root_dir=tmp_path,
    )  # fmt: skip
    module = module or Module()
    trainer.fit(module, loader, ckpt_path=resume)
    return module, trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_schedule_observes_each_step_and_a_resumed_run_is_the_same(tmp_path, make_schedule, accumulate):
    schedule = make_schedule(every=2)
    module, trainer = run(tmp_path / "whole", schedule, 8, accumulate)
    assert schedule.steps == 8
    assert schedule.moves == 4
    assert trainer.callback_metrics["weight/web"].item() == pytest.approx(schedule.weights["web"])
    again = make_schedule(every=2)
    part, _ = run(tmp_path / "part", again, 8, accumulate, resume=str(tmp_path / "whole" / "step=4.ckpt"))
    assert part.seen == module.seen[4 * accumulate :]
    assert again.weights == schedule.weights
    assert all(torch.equal(a, b) for a, b in zip(part.net.parameters(), module.net.parameters(), strict=True))


def test_the_page_s_example(tmp_path):
    """The lines of docs/training-loops.md, with a model and data; the trainer stops early and says less."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "training-loops.md").read_text(encoding="utf-8")
    (lines,) = [body for body in re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL) if "LightningModule" in body]
    from mixopt.trainers import LightningCallback

    class Of(Module):
        model = property(lambda self: self.net)

    schedule = mx.online(mx.problems.group_dro(mx.Domains(["web", "code"]), rate=0.05))
    rows = {"web": torch.randint(0, 4, (600,)).numpy(), "code": torch.randint(0, 30, (600,)).numpy()}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "max_steps": 3}
    own = types.SimpleNamespace(LightningModule=Of, Trainer=partial(lightning.Trainer, default_root_dir=tmp_path, **quiet))
    exec(lines, {**globals(), "lightning": own, "LightningCallback": LightningCallback, "schedule": schedule, "rows": rows})
    assert schedule.steps == 3


def test_a_step_without_sums(tmp_path, make_schedule):
    with pytest.raises(InputError, match="returns no sums by domain"):
        run(tmp_path, make_schedule(), 1, module=Module(sums=False))


def test_a_name_that_is_not_needed(make_schedule):
    from mixopt.trainers import LightningCallback

    with pytest.raises(InputError, match=r"did you mean 'train'"):
        LightningCallback(make_schedule(), name="trian")
