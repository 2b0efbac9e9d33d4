"""The callback in Hugging Face's own Trainer: what it observes, and that a resumed run is the uninterrupted one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError
from mixopt.schedules.triggers import Every
from mixopt.trainers import ScheduleCallback, cross_entropy

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
NAMES = ("web", "code", "books")

# transformers' and accelerate's own
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*pin_memory.*:UserWarning")


def model():
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    made = transformers.GPT2LMHeadModel(config)
    made.loss_type = "ForCausalLM"
    return made


def trainer(tmp_path, rows, callback, steps=6, own_loss=False, **arguments):
    settings = {
        "output_dir": str(tmp_path),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "remove_unused_columns": False,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "seed": 1,
    }
    extra = {"compute_loss_func": callback.loss} if own_loss else {}
    return transformers.Trainer(
        model=model(),
        args=transformers.TrainingArguments(**{**settings, **arguments}),
        train_dataset=rows,
        eval_dataset=rows[:24],
        callbacks=[callback],
        **extra,
    )


def logged(made):
    """Loss and weights of each step, as the trainer logged them."""
    return [
        {k: v for k, v in entry.items() if k == "loss" or k.startswith("weight/")} for entry in made.state.log_history if "loss" in entry
    ]


def numbers(state):
    """A schedule's state without its tensors, for ==."""
    return json.dumps(state, default=lambda x: x.tolist())


class Looks(transformers.TrainerCallback):
    """What the meter holds before the callback observes it."""

    def __init__(self, callback):
        self.callback, self.seen = callback, []

    def on_step_end(self, args, state, control, **others):
        total, count = self.callback.meter._sums["train"]
        self.seen.append((total.sum().item(), count.sum().item()))


@pytest.mark.parametrize("own_loss", [False, True])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_schedule_observes_the_trainer_s_own_losses(tmp_path, rows, make_schedule, accumulation, own_loss):
    """The trainer logs the mean over the tokens of a step, and the observed sums add up to it."""
    schedule = make_schedule()
    callback = ScheduleCallback(schedule)
    looks = Looks(callback)
    made = trainer(tmp_path, rows, callback, own_loss=own_loss, gradient_accumulation_steps=accumulation, logging_steps=1)
    made.callback_handler.callbacks.insert(0, looks)
    made.train()
    assert schedule.steps == schedule.moves == 6
    for entry, (total, count) in zip(logged(made), looks.seen, strict=True):
        assert count == 4 * accumulation * 11
        assert total / count == pytest.approx(entry["loss"], rel=1e-6)
    assert logged(made)[-1]["weight/books"] == schedule.weights["books"]
    assert max(schedule.weights.values()) > 0.4
    made.evaluate(rows[:8])  # the column is taken out there as well, and nothing is observed
    assert schedule.steps == 6


def test_the_callback_does_not_change_the_training(tmp_path, rows, make_schedule):
    """With the callback and its hooks, or with its loss, the losses are those of a trainer that has neither."""
    plain = trainer(tmp_path, [{k: v for k, v in row.items() if k != "domain"} for row in rows], transformers.TrainerCallback())
    plain.train()
    wanted = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    for own_loss in (False, True):
        made = trainer(tmp_path, rows, ScheduleCallback(make_schedule()), own_loss=own_loss)
        made.train()
        assert [entry["loss"] for entry in logged(made)] == pytest.approx(wanted, rel=1e-6 if own_loss else 1e-12)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, rows, make_schedule, accumulation):
    """Twelve steps at once, and twelve steps that begin again at the checkpoint of step 5: losses, weights and model are equal."""
    often = {"gradient_accumulation_steps": accumulation, "save_steps": 5, "save_strategy": "steps"}
    found = []
    for restarts in (False, True):
        schedule = make_schedule(every=2)
        made = trainer(tmp_path / str(restarts), rows, ScheduleCallback(schedule), steps=12, **often)
        if restarts:
            made.train(resume_from_checkpoint=str(tmp_path / "False" / "checkpoint-5"))
        else:
            made.train()
        found.append((logged(made), numbers(schedule.state_dict()), made.model.state_dict()))
    (losses, state, parameters), (again, state_again, parameters_again) = found
    assert again == losses
    assert state_again == state
    for name, value in parameters.items():
        assert torch.equal(value, parameters_again[name]), name


def test_an_evaluation_belongs_to_its_step(tmp_path, rows, make_schedule):
    """A schedule that moves when "val" is seen: it does so at the trainer's evaluations, by the losses that the trainer reports."""
    domains = mx.Domains(NAMES)
    w, theta = mx.Mixture(domains), mx.model()
    gain = mx.losses(theta, domains, name="val") - 0 * mx.losses(theta, domains)
    game = mx.minimize(mx.maximize(w @ gain, over=w), over=theta)
    schedule = mx.online(game, mx.solvers.DescentAscent(rate=0.5, average="last"), every=Every(seen="val"))
    assert set(schedule.needs) == {"train", "val"}
    callback = ScheduleCallback(schedule, evaluation="val")
    made = trainer(tmp_path, rows, callback, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=8)
    made.train()
    assert schedule.steps == 6
    assert schedule.moves == 3
    logits = made.model.eval()(input_ids=torch.stack([row["input_ids"] for row in rows[:24]])).logits
    labels, places = torch.stack([row["labels"] for row in rows[:24]]), torch.tensor([row["domain"] for row in rows[:24]])
    last = cross_entropy(logits, labels, places, 3)
    before, after = schedule.history.weights[-2:]
    tilted = before * np.exp(0.5 * (last.sums / last.counts).numpy())
    assert after == pytest.approx(tilted / tilted.sum(), rel=1e-5)


def test_a_schedule_of_evaluations_alone(tmp_path, rows):
    """Sheared-LLaMA needs held-out losses and none of training: it moves at the trainer's evaluations."""
    schedule = mx.online(mx.problems.sheared_llama(mx.Domains(NAMES), [1.0, 2.0, 3.0]))
    assert set(schedule.needs) == {"val"}
    callback = ScheduleCallback(schedule, name=None, evaluation="val")
    made = trainer(tmp_path, rows, callback, eval_strategy="steps", eval_steps=3, per_device_eval_batch_size=8)
    made.train()
    assert schedule.steps == 6
    assert schedule.moves == 2


def test_factors_weigh_the_loss(tmp_path, rows, make_schedule):
    """A factor of 0 on two of three domains trains on the third alone."""
    callback = ScheduleCallback(make_schedule(), factors=lambda: [0.0, 0.0, 0.0])
    made = trainer(tmp_path, rows, callback, own_loss=True, steps=1)
    made.train()
    assert logged(made)[0]["loss"] == 0.0


class Sampler:
    """Something else that has a state."""

    drawn = 0

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = int(state["drawn"])


def test_what_is_kept_beside_the_schedule(tmp_path, rows, make_schedule):
    sampler = Sampler()
    sampler.drawn = 7
    made = trainer(
        tmp_path, rows, ScheduleCallback(make_schedule(), keep={"sampler": sampler}), steps=2, save_strategy="steps", save_steps=1
    )
    made.train()
    sampler.drawn = 0
    again = trainer(tmp_path, rows, ScheduleCallback(make_schedule(), keep={"sampler": sampler}), steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert sampler.drawn == 7
    lacking = trainer(tmp_path, rows, ScheduleCallback(make_schedule()), steps=2)
    with pytest.raises(InputError, match="state of 'sampler'"):
        lacking.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_column_that_does_not_arrive(tmp_path, rows, make_schedule):
    for own_loss in (False, True):
        made = trainer(
            tmp_path, [{k: v for k, v in row.items() if k != "domain"} for row in rows], ScheduleCallback(make_schedule()), 1, own_loss
        )
        with pytest.raises(InputError, match=r"no column 'domain'.*\(web, code, books\).*remove_unused_columns=False"):
            made.train()


def test_labels_that_do_not_arrive(tmp_path, rows, make_schedule):
    made = trainer(tmp_path, rows, ScheduleCallback(make_schedule()), 1, label_smoothing_factor=0.1)
    with pytest.raises(InputError, match="no forward pass of the step had labels"):
        made.train()


def test_a_checkpoint_without_a_schedule(tmp_path, rows, make_schedule):
    plain = [{k: v for k, v in row.items() if k != "domain"} for row in rows]
    trainer(tmp_path, plain, transformers.TrainerCallback(), 1, save_strategy="steps", save_steps=1).train()
    with pytest.raises(InputError, match="written without a ScheduleCallback"):
        trainer(tmp_path, rows, ScheduleCallback(make_schedule()), 2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_settings_that_cannot_work(tmp_path, rows, make_schedule):
    with pytest.raises(InputError, match="restores itself"):
        trainer(tmp_path, rows, ScheduleCallback(make_schedule()), restore_callback_states_from_checkpoint=True)
    with pytest.raises(InputError, match=r"'trian'.*did you mean 'train'"):
        ScheduleCallback(make_schedule(), name="trian")
    with pytest.raises(InputError, match="no labels"):
        ScheduleCallback(make_schedule()).loss({"logits": torch.zeros(1, 2, 3)}, None)
