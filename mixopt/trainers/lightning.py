"""A schedule in Lightning: a callback that reads loss sums by domain off what ``training_step`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from mixopt.errors import InputError, MissingExtraError, unknown
from mixopt.schedules.schedule import Schedule

from .meter import Meter

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        Callback = None
_Base: Any = Callback or object


@final
class LightningCallback(_Base):
    """Feeds a schedule from Lightning's ``Trainer``: ``Trainer(..., callbacks=[LightningCallback(schedule)])``.

    ``training_step`` returns, beside its loss, the sums and counts by domain [k] that ``cross_entropy`` gives:
    ``{"loss": loss.total, "sums": loss.sums, "counts": loss.counts}``. Those of a step's micro-batches add up, then those of all
    processes, and the schedule observes them as ``name`` when the optimizer has stepped. The weights are logged as ``weight/NAME``, and the
    state is in Lightning's own checkpoints. A ``MixtureLoader`` given to ``fit`` is restored by Lightning itself.

    Raises:
        InputError: a measurement that the schedule does not need; a ``training_step`` that returns no sums.
        MissingExtraError: neither lightning nor pytorch_lightning is installed.
    """

    def __init__(self, schedule: Schedule, *, name: str = "train", check: int = 100):
        if Callback is None:
            raise MissingExtraError("lightning", "lightning", "a schedule in Lightning")
        self.schedule, self.meter, self.name = schedule, Meter(schedule, check=check), name
        if name not in schedule.needs:
            raise unknown("measurement of this schedule", name, schedule.needs)
        self._step = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin at the trainer's step."""
        self._step = trainer.global_step
        self.meter.clear()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add a micro-batch, and observe where it ended a step."""
        if not isinstance(outputs, Mapping) or not {"sums", "counts"} <= set(outputs):
            raise InputError(
                "training_step returns no sums by domain; let it return {'loss': loss.total, 'sums': loss.sums, 'counts': loss.counts} of "
                "loss = mixopt.trainers.cross_entropy(...)"
            )
        self.meter.add(outputs["sums"], outputs["counts"], self.name)
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self.meter.step(self._step)
            module.log_dict({f"weight/{name}": weight for name, weight in self.schedule.weights.items()}, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """What Lightning writes into its checkpoint."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from Lightning's checkpoint."""
        self.schedule.load_state_dict(state)
