"""Loader and schedule together in training: in a plain loop and in Hugging Face's Trainer, a resumed run is the uninterrupted one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.loading import MixtureLoader, tokens
from mixopt.trainers import Checkpoint, ScheduleCallback, domain_sums

NAMES = ("web", "code", "books")


def schedule():
    """Group DRO over three domains."""
    domains = mx.Domains(NAMES)
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w), over=theta)
    return mx.online(game, mx.solvers.DescentAscent(rate=0.1, average="last"))


def rows():
    """Three domains of tokens that are more or less even."""
    draw = np.random.default_rng(0)
    return {name: draw.integers(0, kinds, 900) for name, kinds in zip(NAMES, (3, 9, 27), strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loop_that_was_broken_off_goes_on_exactly(workers, tmp_path):
    def run(folder, until, stop=None):
        moving = schedule()
        loader = tokens(rows(), moving, 6, context=8, batches=until, num_workers=workers)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(32, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 32))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        checkpoint = Checkpoint(folder, model=model, optimizer=optimizer, schedule=moving, loader=loader)
        checkpoint.restore()
        found = []
        for batch in loader:
            logits, labels = model(batch.data[:, :-1]), batch.data[:, 1:]
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            sums, counts = domain_sums(losses, batch.domains, 3)
            moving.observe(train=sums, counts={"train": counts}, summed=True)
            checkpoint.save(loader.seen)
            found.append((batch.data.tolist(), losses.sum().item(), moving.w.tolist()))
            if loader.seen == stop:
                break
        return found

    whole = run(tmp_path / "whole", 12)
    assert len({tuple(weights) for _, _, weights in whole}) == 12
    assert run(tmp_path / "parts", 12, stop=3) + run(tmp_path / "parts", 12, stop=7) + run(tmp_path / "parts", 12) == whole


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*pin_memory.*:UserWarning")
def test_the_trainer_of_hugging_face_resumes_loader_and_schedule_from_its_own_checkpoint(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Mixed(transformers.Trainer):
        def get_train_dataloader(self):
            return self.mixture

    def run(folder, resume=None):
        draw, moving = torch.Generator().manual_seed(0), schedule()
        data = {
            n: [{"input_ids": torch.randint(0, k, (9,), generator=draw)} for _ in range(60)] for n, k in zip(NAMES, (3, 9, 27), strict=True)
        }
        for example in (e for examples in data.values() for e in examples):
            example["labels"] = example["input_ids"]
        loader, seen = MixtureLoader(data, moving, 6, columns=True, num_workers=1), []
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        arguments = {"max_steps": 10, "learning_rate": 1e-2, "remove_unused_columns": False, "ignore_data_skip": True, "use_cpu": True}
        told = {"report_to": [], "disable_tqdm": True, "logging_steps": 1, "save_strategy": "steps", "save_steps": 4, "seed": 1}
        trainer = Mixed(
            model=transformers.GPT2LMHeadModel(config),
            args=transformers.TrainingArguments(output_dir=str(folder), **arguments, **told),
            callbacks=[ScheduleCallback(moving, keep={"loader": loader})],
        )
        trainer.mixture = loader
        trainer.train(resume_from_checkpoint=resume)
        logs = [{k: v for k, v in e.items() if k == "loss" or k.startswith("weight")} for e in trainer.state.log_history if "loss" in e]
        return logs, moving.w.tolist(), loader.state_dict(), seen

    whole = run(tmp_path / "whole")
    assert len(whole[0]) == 10
    assert whole[2]["batch"] == 10
    assert run(tmp_path / "again", str(tmp_path / "whole" / "checkpoint-4")) == whole
