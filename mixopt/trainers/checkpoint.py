"""Checkpoints of a plain training loop: all that it needs to go on exactly, written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, final

import torch

from mixopt.errors import InputError, listed

FORMAT = "mixopt checkpoint 1"
NAME = re.compile(r"step-(\d+)\.pt")


@final
class Checkpoint:
    """A folder of checkpoints of named ``parts``: a model, an optimizer, a schedule, a loader; whatever has a state_dict to load again.

    ``save`` writes one file, under another name until it is whole and on the disk, so that a run killed at any moment finds a whole
    one; the ``keep`` newest stay. torch's random numbers are kept as well, those of the GPUs included. Of several processes the
    first writes, and each restores all: for parts that are equal on all of them, as under DDP. Their random numbers are then each
    process's own affair. Files hold tensors, numbers and texts only, and are read with ``weights_only=True``.

    >>> import tempfile
    >>> import torch
    >>> model = torch.nn.Linear(2, 2)
    >>> checkpoint = Checkpoint(tempfile.mkdtemp(), model=model)
    >>> checkpoint.restore()
    0
    >>> _ = checkpoint.save(100)
    >>> checkpoint.restore()
    100

    Raises:
        InputError: no parts, one without a state, or fewer than one to keep.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2, **parts: Any):
        self.folder, self.keep, self.parts = Path(folder), keep, parts
        if keep < 1:
            raise InputError(f"keep is {keep}; at least one checkpoint has to stay")
        without = [n for n, part in parts.items() if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict"))]
        if without or not parts:
            raise InputError(
                f"{listed(without)} has no state_dict to save" if parts else "there is nothing to keep; name parts such as model=..."
            )

    def save(self, step: int) -> Path | None:
        """Write the parts as they are after a step; the path of the file, or None where another process writes.

        Raises:
            InputError: the folder cannot be written, or holds a later step, which ``restore`` would take for the newest.
        """
        if _rank() > 0:
            return None
        later = [path for path in self._files() if _step(path) > int(step)]
        if later:
            raise InputError(
                f"{self.folder} holds {later[-1].name}, and step {int(step)} is before it; restore() first, or give another folder, or "
                "remove the later ones to go back"
            )
        content = {"format": FORMAT, "step": int(step), **{f"part {n}": part.state_dict() for n, part in self.parts.items()}}
        if _world() == 1:
            content["random"] = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
        target = self.folder / f"step-{int(step):08d}.pt"
        part = target.with_name(f".{target.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
            for old in self._files()[: -self.keep]:
                old.unlink()
            for cut in self.folder.glob(".step-*.pt.part"):  # of a run that was killed while it wrote
                cut.unlink()
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror or error}; give another folder") from None
        return target

    def restore(self) -> int:
        """Load the newest checkpoint into the parts, and return its step; 0 where there is none.

        Raises:
            InputError: a file that is no checkpoint, or one of other parts; what a part's ``load_state_dict`` refuses.
        """
        files = self._files()
        if not files:
            return 0
        content = self._read(files[-1])
        saved = {name.removeprefix("part ") for name in content if name.startswith("part ")}
        if saved != set(self.parts):
            raise InputError(f"{files[-1]} holds {listed(sorted(saved))}, and the parts to restore are {listed(sorted(self.parts))}")
        for name, part in self.parts.items():
            part.load_state_dict(content[f"part {name}"])
        if "random" in content and _world() == 1:
            torch.set_rng_state(content["random"][0])
            if len(content["random"]) == 1 + torch.cuda.device_count():
                torch.cuda.set_rng_state_all(content["random"][1:])
        return int(content["step"])

    def _files(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        return sorted((path for path in self.folder.glob("step-*.pt") if NAME.fullmatch(path.name)), key=_step)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(f"{path} cannot be read as a checkpoint: {error}; remove it to go on from the one before") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} is no checkpoint of this version ({FORMAT}); give the folder that Checkpoint.save wrote")
        return content


def _step(path: Path) -> int:
    """The step of a checkpoint's file."""
    return int(path.stem.removeprefix("step-"))


def _rank() -> int:
    return torch.distributed.get_rank() if _joined() else 0


def _world() -> int:
    return torch.distributed.get_world_size() if _joined() else 1


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
