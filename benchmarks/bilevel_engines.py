"""What one hypergradient costs: as the domains grow at equal tokens, against one backward pass a domain; and by engine at a model's size.

The first table takes a multilayer perceptron on a fixed number of rows in k domains and solves each linear system with the same number
of products. The second takes a GPT of about ``--parameters``, the default proxy's 1M or GPT-2's 124M, and asks each engine for a
hypergradient at the parameters as they stand (``--module gpt2``: the library's own, attention as it comes, on the bytes of the embedded
corpus), every engine in a process of its own, so that its peak memory is its own: that
of the process above what the model and the data take (on a GPU: all that was allocated). An outer step of a run takes one
hypergradient and one training step, which has a row of its own. An engine that does not fit says so in its row.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, interleaved, interval, write

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.runtime.gpt import GPT
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import copied
from mixopt.solvers import ConjugateGradients, Implicit, Unrolled, ValueFunction
from mixopt.solvers.bilevel import BilevelSolver

ROWS, WIDTH, PRODUCTS, K = 4096, 64, 10, 4
FIXED = ConjugateGradients(steps=PRODUCTS, tolerance=1e-30, damping=1.0)
ENGINES: dict[str, BilevelSolver | None] = {
    "implicit": Implicit(curvature="gauss-newton", system=FIXED),
    "unrolled-20": Unrolled(steps=20, step_size=1e-2),
    "unrolled-20, checkpointed": Unrolled(steps=20, step_size=1e-2, mode="checkpointed"),
    "value function": ValueFunction(),
    "one step": Unrolled(steps=1),
    "a training step": None,
}
SHAPES = {
    860_160: {"vocabulary": 512, "context": 64, "width": 128, "layers": 4, "heads": 4},
    123_925_248: {"vocabulary": 50_257, "context": 512, "width": 768, "layers": 12, "heads": 12},
}
"""Parameters, and the GPT that has as many."""


def problem(names: list[str], targets: list[str]) -> mx.Problem:
    """Weights of the domains for the mean loss of the targets."""
    w, theta = mx.Mixture(names), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, names), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, targets, name="val")), over=w)


def domains(k: int, seed: int) -> tuple[Modelled, mx.FunctionLearner]:
    """A perceptron's squared losses on ``ROWS`` rows in k domains."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(k, ROWS // k, WIDTH, generator=draw), torch.randn(k, ROWS // k, generator=draw)
    start = {"in": torch.randn(WIDTH, 256, generator=draw) / 8, "out": torch.randn(256, generator=draw) / 16}

    def losses(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return ((torch.tanh(x @ p["in"]) @ p["out"] - y) ** 2).mean(1)

    learner = mx.FunctionLearner(start, {"train": losses, "val": lambda p: losses(p)[:1]})
    names = [f"d{i}" for i in range(k)]
    form = mx.plan(problem(names, ["d0"]), learner).form
    return Modelled(form, learner, bind_losses(form, learner.abilities), {}, {}), learner  # type: ignore[arg-type]


def growth(counts: list[int], pairs: int, seed: int) -> list[dict[str, Any]]:
    """One hypergradient for each number of domains, against one backward pass a domain on the same rows."""
    rows = []
    for k in counts:
        model, learner = domains(k, seed)
        w, leaves, solver = model.weights(np.full(k, 1 / k)), learner.start(), Implicit(system=FIXED)

        def hypergradient(solver=solver, model=model, w=w, leaves=leaves) -> None:  # type: ignore[no-untyped-def]
            solver.slope(model, w, leaves, None, None)

        def backward_each(learner=learner, leaves=leaves, k=k) -> None:  # type: ignore[no-untyped-def]
            at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
            losses = learner.losses(at, "train", None)
            for i in range(k):
                torch.autograd.grad(losses[i], at, retain_graph=i + 1 < k)

        ours, theirs = interleaved(hypergradient, backward_each, pairs)
        ratio, low, high = interval(theirs / ours)
        rows.append({"k": k, "ms": 1e3 * float(np.median(ours)), "ms of k backward passes": 1e3 * float(np.median(theirs))})
        rows[-1] |= {"growth": rows[-1]["ms"] / rows[0]["ms"], "ratio": [ratio, low, high]}
        print(
            f"k = {k:5d}: {rows[-1]['ms']:8.1f} ms, {rows[-1]['growth']:.2f} times k = {counts[0]}; "
            f"{k} backward passes take {ratio:.2f} [{low:.2f}, {high:.2f}] of it"
        )
    return rows


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def made(given: argparse.Namespace) -> mx.TorchLearner:
    """A GPT on random tokens of K domains, or the library's random GPT-2 on the bytes of the corpus."""
    shape = SHAPES[min(SHAPES, key=lambda n: abs(np.log(n / given.parameters)))]
    context, draw = shape["context"], np.random.default_rng(0)
    tokens = {f"d{i}": draw.integers(0, shape["vocabulary"], 20 * context) for i in range(K)}
    module: torch.nn.Module = GPT(**shape)
    if given.module == "gpt2":
        from transformers import GPT2Config, GPT2LMHeadModel

        from mixopt.demo.corpus import VOCABULARY, load

        sizes = {"n_positions": context, "n_embd": shape["width"], "n_layer": shape["layers"], "n_head": shape["heads"]}
        module = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes))
        tokens = {domain: text[: 20 * context] for domain, text in load().tokens["train"].items()}
    precision = None if given.precision[0] == "float32" else given.precision[0]
    streams = {"train": tokens, "val": tokens}
    return mx.TorchLearner(module, streams, context=context, per_domain=2, evaluation=2, device=given.device, autocast=precision)


def one_engine(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds and peak MiB of one engine's hypergradient, or of one training step, measured in this process."""
    learner = made(given)
    names = list(learner.abilities.provides["train"].names or ())
    form = mx.plan(problem(names, names), learner).form
    model = Modelled(form, learner, bind_losses(form, learner.abilities), {}, {})  # type: ignore[arg-type]
    w, leaves, batch = model.weights(np.full(len(names), 1 / len(names))), learner.start(), learner.evaluation()
    cuda, engine = learner.device.type == "cuda", ENGINES[name]
    trained = copied(leaves, trainable=True)
    optimizer = learner.optimizer(trained)
    before, times = resident(), []
    for _ in range(given.repeats + 1):
        start = time.perf_counter()
        if engine is None:
            optimizer.zero_grad()
            model.lower(w, trained, batch).backward()
            optimizer.step()
        else:
            with learner.second_order():
                engine.slope(model, w, leaves, batch, None)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    count = sum(leaf.numel() for leaf in leaves)
    return {"engine": name, "parameters": count, "ms": 1e3 * float(np.median(times[1:])), "MiB": peak}


def apart(name: str, precision: str, given: argparse.Namespace) -> dict[str, Any]:
    """The row of one engine, from a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--engine", name, "--precision", precision, "--module", given.module]
    command += ["--repeats", str(given.repeats), "--device", given.device, "--parameters", str(given.parameters)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"engine": name, "failed": done.stderr.strip().splitlines()[-1]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    """Measure, print both tables, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="*", default=[4, 64, 1024], help="numbers of domains; none leaves the first table out")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], nargs="+", default=["float32"], help="bf16 is autocast")
    parser.add_argument("--module", choices=["gpt", "gpt2"], default="gpt", help="gpt2 needs transformers")
    parser.add_argument("--parameters", type=float, default=1e6, help="about how many the GPT has: 1e6 or 124e6")
    parser.add_argument("--engine", choices=[*ENGINES], help="one engine in this process, as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS / "bilevel_engines.json")
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(one_engine(given.engine, given)))
        return
    rows = growth(given.counts, given.pairs, given.seed)
    for precision in given.precision:
        for name in ENGINES:
            rows.append(apart(name, precision, given) | {"module": given.module, "precision": precision})
            told = (
                rows[-1].get("failed") or f"{rows[-1]['ms']:9.1f} ms  {rows[-1]['MiB']:8.1f} MiB  ({rows[-1]['parameters']:,} parameters)"
            )
            print(f"{name:28s} {precision:8s} {told}", flush=True)
    settings = {key: value for key, value in vars(given).items() if key not in ("out", "engine")}
    write(given.out, __doc__, settings, rows)


if __name__ == "__main__":
    main()
