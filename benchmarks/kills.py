"""A training run killed with SIGKILL at random moments and begun again each time, held against the run that was left alone.

A small GPT on the embedded corpus, its batches drawn by the live weights of an excess-loss game, checkpoints every few steps. Each step's
loss, weights and samples are compared bit by bit, those repeated after a kill too, and in the end the model, optimizer and schedule.

``--trainer loop`` is a plain loop with ``mx.trainers.Checkpoint``, with ``--ranks 2`` as DDP over gloo; ``--trainer hf`` is Hugging Face's
Trainer with its own checkpoints and a ``ScheduleCallback``. Lives are forked from a process that has everything imported.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import mixopt as mx
from mixopt.demo import corpus
from mixopt.errors import InputError
from mixopt.loading import tokens
from mixopt.runtime.gpt import GPT
from mixopt.trainers import Checkpoint, Meter, ScheduleCallback, cross_entropy

CONTEXT, BATCH = 32, 8
Run = Callable[[Path, int, int], None]


def game(rows: dict[str, Any]) -> Any:
    """A schedule over the domains: the saddle of the worst excess over a bigram-like reference of 3 nats."""
    domains = mx.Domains(rows)
    w, theta = mx.Mixture(domains), mx.model()
    excess = mx.losses(theta, domains) - mx.parameter("reference", len(domains))
    problem = mx.minimize(mx.maximize(w @ excess, over=w), over=theta)
    solver = mx.solvers.DescentAscent(rate=0.2, smoothing=1e-2, average="last")
    return mx.online(problem, solver, given={"reference": [3.0] * len(domains)}, every=2)


def writer(path: Path) -> Callable[..., None]:
    """A function that appends a line to a file in one system call, so that a kill cannot cut it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def write(step: int, loss: float, weights: Any, samples: torch.Tensor) -> None:
        seen = hashlib.sha256(samples.numpy().tobytes()).hexdigest()[:16]
        os.write(file, f"{step} {float(loss).hex()} {' '.join(float(x).hex() for x in weights)} {seen}\n".encode())

    return write


def loop(rows: dict[str, Any], folder: Path, steps: int, every: int, rank: int = 0, ranks: int = 1) -> None:
    """A plain loop, on one or several processes."""
    if ranks > 1:
        folder.mkdir(parents=True, exist_ok=True)
        meeting = folder / f"meeting-{os.getppid()}-{os.environ['LIFE']}"
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    torch.manual_seed(1)
    model, schedule = GPT(256, CONTEXT, 32, 2, seed=0), game(rows)
    net = torch.nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    loader = tokens(rows, schedule, BATCH, context=CONTEXT, batches=steps)
    checkpoint = Checkpoint(folder / "checkpoints", model=model, optimizer=optimizer, schedule=schedule, loader=loader)
    step, meter, write = checkpoint.restore(), Meter(schedule, check=5), writer(folder / f"log-{rank}")
    for batch in loader:
        step += 1
        inputs, labels = batch.data[:, :-1], batch.data[:, 1:]
        inputs = torch.where(
            torch.rand(inputs.shape) < 0.02 if ranks == 1 else torch.tensor(False), 0, inputs
        )  # noise that has to come again
        loss = cross_entropy(net(inputs), labels, batch.domains, len(rows), shift=False)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        meter.add(loss.sums, loss.counts)
        meter.step(step)
        write(step, loss.total.item(), schedule.w, batch.data)
        if step % every == 0 or step == steps:
            checkpoint.save(step)
    if ranks > 1:
        dist.barrier()


def hugging_face(rows: dict[str, Any], folder: Path, steps: int, every: int, rank: int = 0, ranks: int = 1) -> None:
    """The Trainer, with batches of ours and checkpoints of its own."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    schedule = game(rows)
    loader = tokens(rows, schedule, BATCH, context=CONTEXT, batches=steps)
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=CONTEXT + 1, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM"
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)  # with its dropout
    callback = ScheduleCallback(schedule, keep={"loader": loader})
    write = writer(folder / f"log-{rank}")

    class Written(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if "loss" in logs:
                write(state.global_step, logs["loss"], schedule.w, batches.last)

    class Batches:
        def __len__(self) -> int:
            return steps

        def __iter__(self) -> Any:
            for batch in loader:
                self.last = batch.data
                yield {"input_ids": batch.data, "labels": batch.data, "domain": batch.domains}

    batches = Batches()

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return batches

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=every,
        save_total_limit=2,
        logging_steps=1,
        learning_rate=3e-3,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
        ignore_data_skip=True,
    )
    trainer = Trainer(model, arguments, callbacks=[callback, Written()])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=whole(folder))


def whole(folder: Path) -> str | None:
    """The newest of the Trainer's checkpoints that it finished: trainer_state.json is the last file that it writes."""
    found = sorted((int(p.name.split("-")[1]), p) for p in folder.glob("checkpoint-*"))
    for _, path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def life(run: Any, rows: Any, folder: Path, steps: int, every: int, ranks: int, number: int) -> list[Any]:
    """The processes of one life, forked."""
    os.environ["LIFE"] = str(number)
    made = [multiprocessing.get_context("fork").Process(target=run, args=(rows, folder, steps, every, r, ranks)) for r in range(ranks)]
    for process in made:
        process.start()
    return made


def waiting(run: Run, *given: Any) -> None:
    """A run that waits at its end for the kill, however late that comes."""
    run(*given)
    signal.pause()


def lines(folder: Path, rank: int = 0) -> list[str]:
    path = folder / f"log-{rank}"
    return path.read_text().splitlines() if path.exists() else []


def ended(folder: Path, steps: int) -> bool:
    """Whether the last step is done."""
    last = lines(folder)
    return bool(last) and int(last[-1].split()[0]) == steps


def killed(run: Any, rows: Any, folder: Path, steps: int, every: int, ranks: int, kills: int, draw: random.Random) -> int:
    """Lives that end by SIGKILL after random steps and a random time, then one that ends by itself; returns how many were killed."""
    done = number = 0
    while done < kills:
        number += 1
        target = len(lines(folder)) + draw.randint(0, 2 * every)
        processes = life(partial(waiting, run), rows, folder, steps, every, ranks, number)
        while len(lines(folder)) < target and not ended(folder, steps) and all(p.is_alive() for p in processes):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.1))
        done += all(p.is_alive() for p in processes)
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            process.join()
        if ended(folder, steps):
            break
    for process in (processes := life(run, rows, folder, steps, every, ranks, number + 1)):
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"the last life ended with {[p.exitcode for p in processes]}")
    return done


def final(folder: Path) -> list[bytes]:
    """Hashes of what the last checkpoint holds: tensors, and the rest as text."""
    newest = max(folder.glob("checkpoints/step-*.pt"), default=None)
    if newest is not None:
        return [digest(torch.load(newest, weights_only=True))]
    newest = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    state = json.loads((newest / "trainer_state.json").read_text())["stateful_callbacks"]["ScheduleCallback"]
    return [digest(torch.load(newest / "optimizer.pt", weights_only=True)), (newest / "model.safetensors").read_bytes(), digest(state)]


def digest(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.numpy().tobytes()).digest()
    if isinstance(value, dict):
        return hashlib.sha256(b"".join(str(k).encode() + digest(v) for k, v in value.items())).digest()
    if isinstance(value, (list, tuple)):
        return hashlib.sha256(b"".join(map(digest, value))).digest()
    return repr(value).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainer", choices=["loop", "hf"], default="loop")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=0, help="steps of the run; by default enough for the kills")
    parser.add_argument("--every", type=int, default=3, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.trainer == "hf" and given.ranks > 1:
        raise InputError("several processes are those of the plain loop")
    torch.set_num_threads(1)
    rows = {name: row[:20_000] for name, row in corpus.load().tokens["train"].items()}
    run = {"loop": loop, "hf": hugging_face}[given.trainer]
    steps = given.steps or 2 * given.every * given.kills
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        alone, other = Path(place) / "alone", Path(place) / "killed"
        for process in (processes := life(run, rows, alone, steps, given.every, given.ranks, -1)):
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit(f"the run that was left alone ended with {[p.exitcode for p in processes]}")
        done = killed(run, rows, other, steps, given.every, given.ranks, given.kills, random.Random(given.seed))
        wrong, repeated = [], 0
        for rank in range(given.ranks):
            wanted = {line.split()[0]: line for line in lines(alone, rank)}
            found = lines(other, rank)
            repeated += len(found) - steps
            wrong += [line for line in found if wanted.get(line.split()[0]) != line]
            wrong += [step for step in wanted if step not in {line.split()[0] for line in found}]
        ends = final(alone) == final(other)
    said = {"trainer": given.trainer, "ranks": given.ranks, "steps": steps, "kills": done, "repeated": repeated, "differing": len(wrong)}
    print(json.dumps({**said, "same end": ends, "seconds": round(time.perf_counter() - clock)}))
    if wrong or not ends:
        sys.exit(f"not the same run: {wrong[:3]}")


if __name__ == "__main__":
    main()
