"""Finding mixtures: each method of the demo in the few lines that a user would write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import mixopt as mx
from mixopt.errors import LearnerError
from mixopt.problems import doge, doremi, validation_problem
from mixopt.problems.laws import CrossValidation, Exponential, cross_validate
from mixopt.report.result import Result, Status
from mixopt.runs import Runs, Targets
from mixopt.runtime.ensemble import Recipe, train
from mixopt.runtime.gpt import GPT
from mixopt.runtime.torch_learner import TorchLearner
from mixopt.solver import Solver
from mixopt.solvers import ConjugateGradients, Implicit, Normalised

from .data import Data
from .sizes import CONTEXT, LAYERS, Sizes, work

KL_WEIGHT = 0.05
EPOCHS = 4.0
TOGETHER = 6
LEARNING_RATE = 3e-3
MEAN = "mean"
UNIT = "nats per byte"

Tell = Callable[[float], None]


@dataclass(frozen=True)
class Found:
    """A mixture that a method found: for which target, with what evidence, and what it cost.

    ``tokens`` are those read by proxy models, counted as training tokens (three passes each); ``trace`` is [T, k].
    """

    method: str
    target: str
    weights: Mapping[str, float]
    evidence: tuple[str, ...]
    tokens: float
    seconds: float
    trace: tuple[tuple[float, ...], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def proxy(sizes: Sizes, seed: int = 0) -> GPT:
    """A proxy model."""
    return GPT(context=CONTEXT, width=sizes.proxy_width, layers=LAYERS, seed=seed)


def target(sizes: Sizes, seed: int) -> GPT:
    """A target model, larger than the proxies."""
    return GPT(context=CONTEXT, width=sizes.target_width, layers=LAYERS, seed=seed)


def recipe(steps: int, sizes: Sizes) -> Recipe:
    """How proxies and targets are trained."""
    return Recipe(steps=steps, batch=sizes.batch)


def design(data: Data, sizes: Sizes, seed: int) -> np.ndarray:
    """Mixtures [R, k] of the proxy runs: uniform, natural, every single domain, and draws from the flat Dirichlet."""
    k = len(data.domains)
    fixed = [np.full(k, 1 / k), data.domains.natural, *np.eye(k)]
    drawn = np.random.default_rng(seed).dirichlet(np.ones(k), size=max(sizes.proxies - len(fixed), k))
    return np.vstack([fixed, drawn])


def proxy_runs(data: Data, sizes: Sizes, seed: int, done: Runs | None, save: Callable[[Runs], None], tell: Tell) -> Runs:
    """The runs of the design, trained a few at a time as one vmapped ensemble; each few are saved as they finish."""
    mixtures = design(data, sizes, seed)
    windows = data.validation.fixed(sizes.test_windows)
    metrics = np.empty((0, len(data.names))) if done is None else np.array(done.metrics)

    def table() -> Runs:
        tokens = np.full(len(metrics), float(sizes.proxy_tokens))
        return Runs.from_arrays(data.domains, mixtures[: len(metrics)], Targets(data.names, unit=UNIT), metrics, tokens=tokens)

    tell(len(metrics) / len(mixtures))
    while len(metrics) < len(mixtures):
        first = len(metrics)
        part = mixtures[first : first + TOGETHER]
        models = train(
            lambda s: proxy(sizes, s),
            part,
            data.train,
            recipe(sizes.proxy_steps, sizes),
            seeds=range(seed + first, seed + first + len(part)),
            data_seed=range(seed + first, seed + first + len(part)),
            watch=part_of(tell, first, len(part), len(mixtures)),
        )
        metrics = np.vstack([metrics, models.losses(windows).cpu().numpy()])
        save(table())
    return table()


def part_of(tell: Tell, before: int, now: int, all: int) -> Callable[[int, int], None]:
    """Progress of a few models as progress of all: ``before`` are finished, ``now`` are being trained."""
    return lambda step, steps: tell((before + now * step / steps) / all)


def target_losses(metrics: np.ndarray, names: Sequence[str], target: str, held_out: str) -> np.ndarray:
    """One target's loss [...] from the losses of all domains [..., m]: the mean of those trained on, or the one held out."""
    at = [i for i, n in enumerate(names) if (n == held_out) == (target != MEAN)]
    return np.asarray(metrics)[..., at].mean(axis=-1)


def mixed(runs: Runs) -> Runs:
    """The runs on more than one domain: at the corners losses of 8 nats follow no exponential, and would bend the law."""
    return runs.subset(runs.mixtures.max(axis=1) < 1)


def fit_law(runs: Runs) -> tuple[Exponential, CrossValidation]:
    """The exponential law of every target from the mixed runs, and its cross-validated errors."""
    own = mixed(runs)
    return Exponential.fit(own, ridge=1e-3), cross_validate(own, folds=min(8, len(own)), ridge=1e-3)


def repetition(data: Data, sizes: Sizes) -> mx.Relation:
    """No domain is read more than a few times by a target run; the laws and the bilevel problem are under this cap."""
    return mx.graph.epochs(mx.Mixture(data.domains), budget=sizes.target_tokens, at_most=EPOCHS).named("repetition")


def law_program(law: Exponential, data: Data, sizes: Sizes, target: str) -> mx.Problem:
    """Eq. 3: the law's loss plus KL to the natural proportions, no domain repeated more than a few times."""
    domains = data.domains
    w = mx.Mixture(domains)
    loss = mx.mean(law(w)[list(domains)]) if target == MEAN else law[target](w)
    return mx.minimize(loss + KL_WEIGHT * mx.kl(w, domains.natural), over=w, subject_to=[repetition(data, sizes)])


def by_law(law: Exponential, checked: CrossValidation, data: Data, sizes: Sizes, target: str, tokens: float) -> Found:
    """The law's optimum by the conic solver, with its duals."""
    clock = time.perf_counter()
    result = mx.solve(law_program(law, data, sizes, target))
    caps = result.duals["repetition"]
    assert isinstance(caps, dict)
    binding = {n: v for n, v in caps.items() if v > 1e-4}
    duals = "; ".join(f"{n} {v:.3f}" for n, v in binding.items()) or "no cap binds"
    at = [i for i, n in enumerate(law.targets.names) if (n == data.held_out) == (target != MEAN)]
    fit = f"cross-validated RMSE {checked.rmse[at].mean():.3f} nats, rank correlation {checked.spearman[at].mean():.2f}"
    assert result.check is not None
    gap = "-" if result.check.gap is None else f"{result.check.gap:.0e}"
    evidence = (fit, f"{result.status.name}, Frank-Wolfe gap {gap}", f"duals of repetition: {duals}")
    return Found("law", target, result.weights, evidence, tokens, time.perf_counter() - clock, details={"duals": caps})


def learner(data: Data, sizes: Sizes, parameters: Mapping[str, torch.Tensor] | None = None) -> TorchLearner:
    """A proxy on the training streams, with the validation of the trained domains and of the held-out one as targets."""
    module = proxy(sizes)
    if parameters is not None:
        module.load_state_dict(dict(parameters))
    split = {name: data.validation.part(name) for name in data.names}
    return TorchLearner(
        module,
        {"train": data.train, MEAN: {n: split[n] for n in data.domains}, data.held_out: {data.held_out: split[data.held_out]}},
        context=CONTEXT,
        per_domain=sizes.per_domain,
        evaluation=sizes.test_windows // 2,
        optimizer=lambda tensors: torch.optim.AdamW(tensors, lr=LEARNING_RATE, betas=(0.9, 0.99)),
        device=data.train.device,
    )


def by_doremi(data: Data, sizes: Sizes, seed: int, tell: Tell) -> Found:
    """Min-max: a reference trained on the natural proportions, then the game against its losses."""
    clock = time.perf_counter()
    natural = data.domains.natural[None]
    models = train(
        lambda s: proxy(sizes, s),
        natural,
        data.train,
        recipe(sizes.method_steps, sizes),
        seeds=[seed],
        data_seed=seed,
        watch=lambda step, steps: tell(0.3 * step / steps),
    )
    method = doremi(data.domains, steps=sizes.method_steps)
    reference = {"reference": models.member(0)}
    result = whole(mx.solve(method, learner(data, sizes), given=reference, seed=seed, watch=lambda p: tell(0.3 + 0.7 * p.step / p.steps)))
    assert result.check is not None
    spread = np.exp(result.trace.entropy[-1])
    evidence = (f"best-response gap {result.check.gap:.3f} nats; {spread:.1f} effective domains of {len(data.domains)}",)
    read = sizes.method_steps * sizes.batch * CONTEXT + _tokens(result, data, sizes)
    return Found("DoReMi", "all", result.weights, evidence, read, time.perf_counter() - clock, _trace(result))


def whole(result: Result) -> Result:
    """The result of a run that went to its end; a part of one is not kept.

    Raises:
        KeyboardInterrupt: the run was interrupted, for which ``solve`` hands back the best point so far.
        LearnerError: its losses were not finite.
    """
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    if result.status is Status.FAILED:
        raise LearnerError(result.message)
    return result


def bilevel_solvers(data: Data, sizes: Sizes) -> dict[str, Solver]:
    """The two solvers of one and the same bilevel problem."""
    one_step = doge(data.domains, mu=0.01, step_size=1e-3, steps=sizes.method_steps).solver
    implicit = Implicit(
        curvature="gauss-newton",
        system=ConjugateGradients(steps=10, damping=0.3, tolerance=1e-2),
        geometry="entropic",
        rate=Normalised(0.2),
        warmup=sizes.method_steps // 2,
        outer_steps=sizes.outer_steps,
        train=10,
    )
    return {"DoGE": one_step, "implicit": implicit}


def by_bilevel(name: str, solver: Solver, data: Data, sizes: Sizes, target: str, seed: int, tell: Tell) -> Found:
    """A bilevel solver on the validation problem, and the audit of its direction: the trained model, at uniform weights."""
    clock = time.perf_counter()
    targets = None if target == MEAN else mx.Domains([target])
    problem = validation_problem(data.domains, targets, name=target, subject_to=[repetition(data, sizes)])
    result = whole(mx.solve(problem, learner(data, sizes), solver=solver, seed=seed, watch=lambda p: tell(0.5 * p.step / p.steps)))
    checked = mx.audit(problem, learner(data, sizes, result.parameters), solver=solver, steps=sizes.audit_steps)
    tell(1.0)
    evidence = [
        f"inner gradient {checked.inner:.2f}{', not converged' if checked.inner > 1e-3 else ''}",
        f"cosine {checked.cosine:.2f} with finite differences of the {checked.steps}-step loss",
        f"(which agree with themselves to {checked.agreement:.2f} on other batches)",
    ]
    if "system" in result.trace.series and name == "implicit":
        evidence.append(f"linear system solved to {np.median(result.trace['system']):.2f} of its right side")
    details = {"cosine": checked.cosine, "agreement": checked.agreement, "inner": checked.inner}
    return Found(
        name,
        target,
        result.weights,
        tuple(evidence),
        _tokens(result, data, sizes),
        time.perf_counter() - clock,
        _trace(result),
        details,
    )


def speed(data: Data, sizes: Sizes) -> float:
    """Operations a second of short ensemble runs on this machine, at the size of the target models: the middle of three."""
    small = Recipe(steps=5, batch=sizes.batch)
    weights = np.tile(data.domains.natural, (TOGETHER, 1))

    def once() -> float:
        clock = time.perf_counter()
        train(lambda s: target(sizes, s), weights, data.train, small, seeds=range(TOGETHER), data_seed=0)
        return time.perf_counter() - clock

    once()
    return work(TOGETHER * small.tokens(CONTEXT), sizes.target_width) / sorted(once() for _ in range(3))[1]


def _tokens(result: Result, data: Data, sizes: Sizes) -> float:
    """Training tokens that a run is worth: forward passes, two more for each gradient, four for each Hessian product, by three."""
    batch = len(data.domains) * sizes.per_domain * CONTEXT
    cost = result.cost
    return (cost.tokens + (2 * cost.gradients + 4 * cost.hessian_products) * batch) / 3


def _trace(result: Result) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in result.trace.weights.round(5).tolist())
