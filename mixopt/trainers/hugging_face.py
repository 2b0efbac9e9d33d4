"""A schedule in Hugging Face's ``Trainer``: a callback that reads losses by domain off the trainer's own forward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from mixopt.errors import InputError, MissingExtraError, listed, unknown
from mixopt.schedules.plain import as_arrays, as_lists, as_tensors
from mixopt.schedules.schedule import Schedule

from .losses import IGNORED, cross_entropy
from .meter import Meter

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError:
    raise MissingExtraError("transformers", "hf", "a schedule in Hugging Face's Trainer") from None


@final
class ScheduleCallback(TrainerCallback, ExportableState):
    """Feeds a schedule from a ``Trainer``, with no other change: ``Trainer(..., callbacks=[ScheduleCallback(schedule)])``.

    The batch carries one more ``column``, the position of each row's domain [B], or of each token's [B, T] in packed sequences. The
    callback takes it out before the model sees it, and makes sums by domain of the logits that the model returns. The trainer has to
    keep the column: ``TrainingArguments(remove_unused_columns=False)``. A step's micro-batches add up, then all processes, and the
    schedule observes them as ``name`` at the end of the step; None for a schedule that needs no training losses. Where it needs those
    of an ``evaluation``, the evaluations during training are observed under that name; give the trainer one evaluation set then.

    With ``Trainer(..., compute_loss_func=callback.loss)`` the loss itself comes from here: the softmax is made once instead of twice, and
    ``factors()`` [k] multiply each domain's token losses, such as w/q where batches are drawn by q.

    The state is in the trainer's own checkpoints, and ``resume_from_checkpoint`` goes on from it exactly. So are the states of ``keep``, by
    name, such as a sampler's: whatever has ``state_dict`` and ``load_state_dict`` of plain numbers and tensors. The weights are in
    the trainer's log as ``weight/NAME``.

    Raises:
        InputError: a column or labels that do not arrive, settings of the trainer that do not fit, a checkpoint without a schedule.
        MissingExtraError: transformers is not installed.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        column: str = "domain",
        name: str | None = "train",
        evaluation: str | None = None,
        factors: Callable[[], Any] | None = None,
        ignored: int = IGNORED,
        keep: Mapping[str, Any] | None = None,
        check: int = 100,
    ):
        self.schedule, self.meter = schedule, Meter(schedule, check=check)
        for wanted in (name, evaluation):
            if wanted is not None and wanted not in schedule.needs:
                raise unknown("measurement of this schedule", wanted, schedule.needs)
        self.column, self.name, self.evaluation = column, name, evaluation
        self.factors, self.ignored, self.keep = factors, ignored, dict(keep or {})
        self._domains: Tensor | None = None
        self._hooked: nn.Module | None = None
        self._trains = self._evaluates = False

    def loss(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Any = None) -> Tensor:
        """The ``compute_loss_func`` of a trainer: a causal model's mean loss in nats per token, with ``factors`` while it trains."""
        if labels is None:
            raise InputError("the batch has no labels; a causal model's are its input_ids, with -100 where padded")
        return self._summed(outputs, labels, num_items_in_batch)

    def state(self) -> dict[str, Any]:
        """What the trainer writes into its checkpoint."""
        states = {"schedule": self.schedule, **{f"keep {name}": thing for name, thing in self.keep.items()}}
        return {"args": {}, "attributes": {name: as_lists(as_arrays(thing.state_dict())) for name, thing in states.items()}}

    def on_init_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Refuse settings that cannot work, and look at the model's forward passes from now on."""
        if args.n_gpu > 1:
            raise InputError(f"the trainer uses {args.n_gpu} GPUs in one process (DataParallel); start it with torchrun, one process a GPU")
        if args.restore_callback_states_from_checkpoint:
            raise InputError(
                "restore_callback_states_from_checkpoint=True makes new callbacks, and a schedule cannot be made from a file; leave it "
                "out: ScheduleCallback restores itself"
            )
        if self.evaluation is not None and args.eval_strategy == "epoch":
            raise InputError("an evaluation is observed at the end of a step; give the trainer eval_strategy='steps' with eval_steps")
        self._hook(others["model"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Go on from the state in the trainer's checkpoint."""
        self._hook(others["model"])
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved is None and state.global_step > 0:
            raise InputError(
                f"the checkpoint of step {state.global_step} was written without a ScheduleCallback, so it has no weights to go on from; "
                "begin anew, or give the schedule its weights with start= and train from the checkpoint's model"
            )
        for name, content in (saved or {"attributes": {}})["attributes"].items():
            thing = self.schedule if name == "schedule" else self.keep.get(name.removeprefix("keep "))
            if thing is None:
                raise InputError(f"the checkpoint has the state of {name.removeprefix('keep ')!r}, which keep= does not name")
            thing.load_state_dict(as_tensors(as_arrays(content)))

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Forget forward passes that were no part of a step."""
        self.meter.clear()
        self._trains = True

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Observe the step, or wait for the evaluation that belongs to it."""
        self._trains = False
        if self.name is not None and not self.meter.waiting:
            raise InputError(
                "no forward pass of the step had labels; give the model labels in its batch, or the trainer "
                "compute_loss_func=callback.loss (which label smoothing needs)"
            )
        self._evaluates = self.evaluation is not None and control.should_evaluate
        if self.meter.waiting and not self._evaluates:
            self.meter.step(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Observe the step together with its evaluation."""
        if self._evaluates:
            self._evaluates = False
            self.meter.step(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Write the weights into the trainer's log."""
        if logs is not None and "loss" in logs:
            weights = {f"weight/{name}": weight for name, weight in self.schedule.weights.items()}
            logs.update(weights)
            state.log_history[-1].update(weights)

    def _hook(self, model: nn.Module) -> None:
        if self._hooked is model:
            return
        self._hooked = model
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.register_forward_hook(self._after, with_kwargs=True)

    def _before(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Take the domains out of what the model is given."""
        self._domains = kwargs.get(self.column)
        return args, {name: value for name, value in kwargs.items() if name != self.column}

    def _after(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Add up a forward pass that was given labels; where ``loss`` is the trainer's, it was not."""
        if kwargs.get("labels") is not None and self._wanted is not None:
            with torch.no_grad():
                self._summed(output, kwargs["labels"])

    @property
    def _wanted(self) -> str | None:
        """What a forward pass now is a measurement of."""
        return self.name if self._trains else self.evaluation if self._evaluates else None

    def _summed(self, outputs: Any, labels: Tensor, items: Any = None) -> Tensor:
        """The mean loss, its sums by domain added to the meter where they are wanted."""
        logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
        if logits is None:
            raise InputError("the model returns no logits (a fused loss such as Liger's makes none); switch that off")
        if self._domains is None:
            raise InputError(
                f"the batch has no column {self.column!r} with the position of each row's domain in {listed(self.schedule.domains.names)}; "
                "put it into the data set, and keep it with TrainingArguments(remove_unused_columns=False) and through the collator"
            )
        factors = self.factors() if self.factors is not None and self._trains else None
        loss = cross_entropy(logits, labels, self._domains, len(self.schedule.domains), factors=factors, ignored=self.ignored, items=items)
        if self._wanted is not None:
            self.meter.add(loss.sums, loss.counts, self._wanted)
        return loss.total
