"""Finding mixtures: each method of a study in the few lines that a user would write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import mixopt as mx
from mixopt.errors import LearnerError
from mixopt.fitting import Recommendation, recommend
from mixopt.problems import doge, doremi, validation_problem
from mixopt.report.result import Result, Status
from mixopt.runs import Runs, Targets
from mixopt.runtime.ensemble import Recipe, train
from mixopt.runtime.streams import Streams
from mixopt.runtime.torch_learner import TorchLearner
from mixopt.solver import Solver
from mixopt.solvers import Implicit, Normalised
from mixopt.solvers.implicit import NETWORKS

from .data import Data, Target
from .models import Models
from .sizes import Sizes, together, work

KL_WEIGHT = 0.05
ALL = "all"
"""The target of a method that looks at none."""

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

    @property
    def label(self) -> str:
        """The method, with its target where it has one."""
        return self.method if self.target == ALL else f"{self.method} ({self.target})"


def recipe(steps: int, sizes: Sizes, models: Models) -> Recipe:
    """How proxies and targets are trained."""
    return Recipe(steps=steps, batch=sizes.batch, rate=models.rate)


def design(data: Data, sizes: Sizes, seed: int) -> np.ndarray:
    """Mixtures [R, k] of the proxy runs: uniform, natural, every single domain, and draws from the flat Dirichlet.

    Single domains are left out where they would take more than half of the runs.
    """
    k = len(data.domains)
    fixed = [np.full(k, 1 / k), data.domains.natural, *(np.eye(k) if 2 * k <= sizes.proxies else ())]
    drawn = np.random.default_rng(seed).dirichlet(np.ones(k), size=max(sizes.proxies - len(fixed), k))
    return np.vstack([fixed, drawn])


def proxy_runs(data: Data, sizes: Sizes, models: Models, seed: int, done: Runs | None, save: Callable[[Runs], None], tell: Tell) -> Runs:
    """The runs of the design, trained a few at a time as one vmapped ensemble; each few are saved as they finish."""
    mixtures = design(data, sizes, seed)
    windows = data.validation.fixed(sizes.test_windows)
    metrics = np.empty((0, len(data.names))) if done is None else np.array(done.metrics)

    def table() -> Runs:
        tokens = np.full(len(metrics), float(sizes.proxy_tokens))
        return Runs.from_arrays(data.domains, mixtures[: len(metrics)], Targets(data.names, unit=data.unit), metrics, tokens=tokens)

    tell(len(metrics) / len(mixtures))
    while len(metrics) < len(mixtures):
        first = len(metrics)
        part = mixtures[first : first + together(sizes.proxy_parameters)]
        trained = train(
            models.proxy,
            part,
            data.train,
            recipe(sizes.proxy_steps, sizes, models),
            seeds=range(seed + first, seed + first + len(part)),
            data_seed=range(seed + first, seed + first + len(part)),
            watch=part_of(tell, first, len(part), len(mixtures)),
        )
        metrics = np.vstack([metrics, data.measured(trained.losses(windows).cpu().numpy())])
        save(table())
    return table()


def part_of(tell: Tell, before: int, now: int, all: int) -> Callable[[int, int], None]:
    """Progress of a few models as progress of all: ``before`` are finished, ``now`` are being trained."""
    return lambda step, steps: tell((before + now * step / steps) / all)


def mixed(runs: Runs) -> Runs:
    """The runs on more than one domain: losses at the corners follow no exponential, and would bend the law."""
    return runs.subset(runs.mixtures.max(axis=1) < 1)


def recommended(runs: Runs, data: Data, sizes: Sizes, target: Target) -> Recommendation:
    """Eq. 3: the law's optimum for a target, with KL to the natural proportions and no domain repeated more than a few times.

    The law and its ridge are fixed. On the demo's proxies the law that ``recommend`` chooses errs less (0.023 for 0.041 nats per byte on
    the mean of the domains, 0.017 for 0.027 on docstrings), but target models trained at its mixtures do no better: over five paired
    seeds they lose 0.001 +- 0.011 less on the mean and 0.025 +- 0.012 more on docstrings.
    """
    own = mixed(runs)
    domains = data.domains
    return recommend(
        own,
        objective={n: target.weights.get(n, 0.0) for n in data.names},
        kl=KL_WEIGHT,
        prior=dict(zip(domains, domains.natural.tolist(), strict=True)),
        tokens=dict(zip(domains, domains.sizes.tolist(), strict=True)),
        budget=sizes.run_tokens,
        cap=sizes.cap,
        law="exponential",
        ridge=1e-3,
        folds=min(8, len(own)),
    )


def repetition(data: Data, sizes: Sizes) -> mx.Relation:
    """No domain is read more than a few times by the run that the mixture is for; bilevel problems are under this cap, as the law is."""
    return mx.graph.epochs(mx.Mixture(data.domains), budget=sizes.run_tokens, at_most=sizes.cap).named("repetition")


def by_law(found: Recommendation, data: Data, target: Target, tokens: float) -> Found:
    """A law's recommendation as the study keeps it, with its fit and its duals."""
    result, fit = found.result, found.quality
    caps = result.duals["repetition"]
    assert isinstance(caps, dict)
    assert result.check is not None
    binding = "; ".join(f"{n} {v:.3f}" for n, v in caps.items() if v > 1e-4)
    gap = "-" if result.check.gap is None else f"{result.check.gap:.0e}"
    evidence = (
        f"cross-validated RMSE {fit.rmse:.3f} {data.unit}, rank correlation {fit.spearman:.2f}",
        f"{result.status.name}, Frank-Wolfe gap {gap}",
        f"duals of repetition: {binding or 'no cap binds'}",
    )
    return Found("law", target.name, result.weights, evidence, tokens, result.cost.seconds, details={"duals": caps})


def learner(data: Data, sizes: Sizes, models: Models, parameters: Mapping[str, torch.Tensor] | None = None) -> TorchLearner:
    """A proxy on the training streams, with what each target weighs as a validation loss of the target's name."""
    module = models.proxy(0)
    if parameters is not None:
        module.load_state_dict(dict(parameters), strict=False)
    device, vocabulary = data.train.device, data.validation.vocabulary
    measured = {
        t.name: Streams({n: data.validation_tokens[n] for n in t.weights}, sizes.context, device, vocabulary=vocabulary)
        for t in data.targets
    }
    return TorchLearner(
        module,
        {"train": data.train, **measured},
        context=sizes.context,
        per_domain=sizes.per_domain,
        evaluation=sizes.test_windows // 2,
        optimizer=lambda tensors: torch.optim.AdamW(tensors, lr=0.3 * models.rate, betas=(0.9, 0.99)),
        device=device,
    )


def by_doremi(data: Data, sizes: Sizes, models: Models, seed: int, tell: Tell) -> Found:
    """Min-max: a reference trained on the natural proportions, then the game against its losses."""
    clock = time.perf_counter()
    natural = data.domains.natural[None]
    trained = train(
        models.proxy,
        natural,
        data.train,
        recipe(sizes.method_steps, sizes, models),
        seeds=[seed],
        data_seed=seed,
        watch=lambda step, steps: tell(0.3 * step / steps),
    )
    method = doremi(data.domains, steps=sizes.method_steps)
    reference = {"reference": trained.member(0)}
    result = whole(
        mx.solve(method, learner(data, sizes, models), given=reference, seed=seed, watch=lambda p: tell(0.3 + 0.7 * p.step / p.steps))
    )
    assert result.check is not None
    spread = np.exp(result.trace.entropy[-1])
    evidence = (f"best-response gap {result.check.gap:.3f} nats; {spread:.1f} effective domains of {len(data.domains)}",)
    read = sizes.method_steps * sizes.batch * sizes.context + _tokens(result, data, sizes)
    return Found("DoReMi", ALL, result.weights, evidence, read, time.perf_counter() - clock, _trace(result))


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
        system=NETWORKS,
        geometry="entropic",
        rate=Normalised(0.2),
        warmup=sizes.method_steps // 2,
        outer_steps=sizes.outer_steps,
        train=10,
    )
    return {"DoGE": one_step, "implicit": implicit}


def by_bilevel(name: str, solver: Solver, data: Data, sizes: Sizes, models: Models, target: Target, seed: int, tell: Tell) -> Found:
    """A bilevel solver on the validation problem, and the audit of its direction: the trained model, at uniform weights."""
    clock = time.perf_counter()
    shares = [share * data.scale.get(n, 1.0) for n, share in target.weights.items()]
    measured = mx.Domains(target.weights)
    problem = validation_problem(data.domains, measured, weights=shares, name=target.name, subject_to=[repetition(data, sizes)])
    own = learner(data, sizes, models)
    result = whole(mx.solve(problem, own, solver=solver, seed=seed, watch=lambda p: tell(0.5 * p.step / p.steps)))
    checked = mx.audit(problem, learner(data, sizes, models, result.parameters), solver=solver, steps=sizes.audit_steps)
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
        target.name,
        result.weights,
        tuple(evidence),
        _tokens(result, data, sizes),
        time.perf_counter() - clock,
        _trace(result),
        details,
    )


def speed(data: Data, sizes: Sizes, models: Models) -> float:
    """Operations a second of short ensemble runs on this machine, at the size of the target models: the middle of three."""
    small = Recipe(steps=5, batch=sizes.batch)
    runs = together(models.target_parameters)
    weights = np.tile(data.domains.natural, (runs, 1))

    def once() -> float:
        clock = time.perf_counter()
        train(models.target, weights, data.train, small, seeds=range(runs), data_seed=0)
        return time.perf_counter() - clock

    once()
    return work(runs * small.tokens(sizes.context), models.target_parameters) / sorted(once() for _ in range(3))[1]


def _tokens(result: Result, data: Data, sizes: Sizes) -> float:
    """Training tokens that a run is worth: forward passes, two more for each gradient, four for each Hessian product, by three."""
    batch = len(data.domains) * sizes.per_domain * sizes.context
    cost = result.cost
    return (cost.tokens + (2 * cost.gradients + 4 * cost.hessian_products) * batch) / 3


def _trace(result: Result) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in result.trace.weights.round(5).tolist())
