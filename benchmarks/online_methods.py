"""Online methods in a plain training loop on the demo's corpus, against uniform and natural at equal tokens: a property, not a timing.

Every run of a seed has the same model at the start, the same number of steps and of windows a step. Methods that sample draw their windows
by the weights of the moment; those that weigh read every domain alike and weigh its loss, as their sources do. What a method reads
beyond its training tokens is counted beside it: held-out windows, a second look at a batch, a reference run, runs on one domain alone.

Two targets are measured on test text: the mean of the domains trained on, and docstrings, which are never trained on. Differences from
uniform and natural are paired by seed; their intervals are Student's, at 95 % for all methods of a column together (Bonferroni). An
interval that holds 0 claims nothing.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write
from scipy.stats import t as student
from torch.nn import functional as F  # noqa: N812

import mixopt as mx
from mixopt.demo.corpus import load
from mixopt.demo.data import prepare
from mixopt.problems import (
    ado,
    aioli,
    dograph,
    famo,
    grape,
    group_dro,
    odm,
    online_doge,
    online_doremi,
    online_law,
    pike,
    r_and_b,
    sheared_llama,
    skill_it,
    stages,
    velocitune,
)
from mixopt.runtime.gpt import GPT
from mixopt.trainers import domain_sums

CONTEXT, WINDOWS, LOOK = 64, 15, 8
"""Tokens a window, windows a step, windows of each held-out domain that an evaluation reads."""
CLUSTERS = 6
"""DoGraph's clusters of gradients."""


@dataclass(frozen=True)
class Case:
    """One method: its schedule, whether weights draw the windows or weigh them, and how often it looks at held-out text (steps)."""

    name: str
    schedule: Callable[[Setting], mx.Schedule]
    weighs: bool = False
    evaluates: int = 0
    by_gradients: int = 0
    before: Callable[[Setting], int] = lambda setting: 0


@dataclass
class Setting:
    """A seed's data, start and steps; what several methods need before their run is found once: reference, targets, effects."""

    data: Any
    seed: int
    steps: int
    width: int
    probe: int

    @property
    def domains(self) -> mx.Domains:
        return self.data.domains

    def model(self) -> GPT:
        return GPT(256, CONTEXT, self.width, 2, 2, seed=self.seed)

    def losses(self, model: GPT, streams: Any, windows: int) -> np.ndarray:
        """Mean losses of everything measured, in nats per byte, on fixed windows."""
        with torch.no_grad():
            return np.array([float(token_losses(model, part).mean()) for part in streams.fixed(windows)])

    def held_out(self, model: GPT) -> np.ndarray:
        return self.losses(model, self.data.validation, LOOK)[: len(self.domains)]

    @cached_property
    def reference(self) -> GPT:
        """A model trained at the natural mixture for as many steps."""
        with torch.enable_grad():
            return run(self, Case("reference", lambda s: fixed(s, s.domains.natural)))[0]

    @cached_property
    def first(self) -> np.ndarray:
        return self.held_out(self.model())

    @cached_property
    def aims(self) -> np.ndarray:
        """The held-out losses of the reference, a little lower where a start would not be above them."""
        return np.minimum(self.held_out(self.reference), self.first - 0.1)

    @cached_property
    def law(self) -> mx.laws.Online:
        """The effects of a short run on each domain alone."""
        k = len(self.domains)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a run on one domain alone is meant
            alone = [run(self, Case("alone", lambda s, w=w: fixed(s, w)), steps=self.probe)[0] for w in np.eye(k)]
        runs = mx.Runs.from_arrays(self.domains, np.eye(k), self.domains.names, np.array([self.held_out(m) for m in alone]))
        return mx.laws.Online.fit(runs, self.first)


def fixed(setting: Setting, weights: Any) -> mx.Schedule:
    return mx.online(stages(setting.domains, [weights]))


def token_losses(model: GPT, windows: torch.Tensor) -> torch.Tensor:
    """Losses [b, t] of windows [b, t + 1]."""
    logits = model(windows[:, :-1].long())
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].long().flatten(), reduction="none").view(len(windows), -1)


def run(setting: Setting, case: Case, steps: int | None = None) -> tuple[GPT, mx.Schedule, int]:
    """The model and the schedule after a run, and the windows that were read beyond those trained on."""
    model, schedule, k = setting.model(), case.schedule(setting), len(setting.domains)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw, more, after = torch.Generator().manual_seed(setting.seed), 0, None
    streams, each = setting.data.train, WINDOWS // k
    for step in range(1, (steps or setting.steps) + 1):
        if case.evaluates and (step - 1) % case.evaluates == 0:
            schedule.observe(val=setting.held_out(model), step=step)
            more += LOOK * k
        if case.by_gradients and (step - 1) % case.by_gradients == 0:
            more += look_at_gradients(setting, schedule, model, draw, step)
        if case.weighs:
            windows, which = streams.draw(each, draw).flatten(0, 1), torch.arange(k).repeat_interleave(each)
        else:
            windows, which = streams.draw_by(torch.from_numpy(schedule.w), WINDOWS, draw)
        losses = token_losses(model, windows)
        more += observe(setting, schedule, losses, windows, which, step, after)
        sums, counts = by_domain(losses, which, k)
        descended = (torch.from_numpy(schedule.w).float() @ (sums / counts)) if case.weighs else losses.mean()
        optimizer.zero_grad()
        descended.backward()
        optimizer.step()
        if "after" in schedule.needs:
            with torch.no_grad():
                after = domain_sums(token_losses(model, windows), which, k)
            more += WINDOWS
    return model, schedule, more


def by_domain(losses: torch.Tensor, which: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums and counts [k] through which gradients flow."""
    sums = torch.zeros(k).index_add(0, which, losses.sum(1))
    return sums, torch.zeros(k).index_add(0, which, torch.full((len(which),), float(losses.shape[1])))


def observe(
    setting: Setting, schedule: mx.Schedule, losses: torch.Tensor, windows: torch.Tensor, which: torch.Tensor, step: int, after: Any
) -> int:
    """Tell the schedule what it reads of a training batch; returns the windows read for it."""
    k, told, more = len(setting.domains), {}, 0
    for name in schedule.needs:
        if name == "train":
            told[name] = domain_sums(losses, which, k)
        elif name == "excess":
            with torch.no_grad():
                excess = (losses - token_losses(setting.reference, windows)).clamp(min=0)
            told[name], more = domain_sums(excess, which, k), WINDOWS
        elif name == "after" and after is not None:
            told[name] = after
    if told:
        counts = {name: count for name, (_, count) in told.items()}
        share = {"share": told["train"][1] / told["train"][1].sum()} if "share" in schedule.needs else {}
        means = {name: torch.where(count > 0, total / count, torch.nan) for name, (total, count) in told.items()}
        schedule.observe(**means, **share, counts=counts, step=step)
    elif not schedule.needs:
        schedule.observe(step=step)
    return more


def look_at_gradients(setting: Setting, schedule: mx.Schedule, model: GPT, draw: torch.Generator, step: int) -> int:
    """What a method by gradients reads of fresh training batches, and of held-out ones where it has targets; the windows that took."""
    k, windows = len(setting.domains), 2
    batches = list(setting.data.train.draw(windows, draw))
    if "labels" in schedule.needs:
        return look_at_clusters(setting, schedule, model, draw, step)
    if "signal" in schedule.needs:
        signal, noise = mx.scores.signal_and_noise(model, batches)
        schedule.observe(signal=signal, noise=noise, step=step)
        return k * windows
    if "val" in schedule.needs:
        targets = list(setting.data.validation.draw(windows, draw))[:k]
        schedule.observe(gram=mx.scores.products(model, batches, targets), val=setting.held_out(model), step=step)
        return (2 * windows + LOOK) * k
    if "alignment" in schedule.needs:
        targets = list(setting.data.validation.draw(windows, draw))[:k]
        schedule.observe(alignment=mx.scores.alignment(model, batches, targets), step=step)
        return 2 * k * windows
    schedule.observe(gram=mx.scores.products(model, batches), step=step)
    return k * windows


def look_at_clusters(setting: Setting, schedule: mx.Schedule, model: GPT, draw: torch.Generator, step: int) -> int:
    """Clusters of single windows by their last-layer gradients; the windows that took."""
    k, windows = len(setting.domains), 12
    rows = list(setting.data.train.draw(windows, draw).flatten(0, 1)[:, None])
    with torch.no_grad():
        losses = token_losses(model, torch.cat(rows)).mean(1)
    sketches = mx.scores.sketches(model, rows, size=512, layers="last")
    found = mx.scores.clusters(sketches, losses, np.repeat(np.arange(k), windows), CLUSTERS, domains=k, seed=setting.seed)
    schedule.observe(**found.content(), step=step)
    return k * windows


def curves(setting: Setting) -> dict[str, Any]:
    """ADO's first fit after a third of the steps, and then every sixth."""
    start, skip = max(setting.steps // 3, 130), setting.steps // 9
    return {
        "start": start,
        "skip": max(skip, 10),
        "refit": max(setting.steps // 6, 65),
        "smooth": 21,
        "context": CONTEXT,
        "curve": "squares",
    }


def reference_windows(setting: Setting) -> int:
    return setting.steps * WINDOWS


CASES = (
    Case("uniform", lambda s: fixed(s, np.full(len(s.domains), 1 / len(s.domains)))),
    Case("natural", lambda s: fixed(s, s.domains.natural)),
    Case("group DRO", lambda s: mx.online(group_dro(s.domains)), weighs=True),
    Case("online DoReMi", lambda s: mx.online(online_doremi(s.domains)), weighs=True, before=reference_windows),
    Case("Sheared LLaMA", lambda s: mx.online(sheared_llama(s.domains, s.aims)), evaluates=25, before=reference_windows),
    Case("Velocitune", lambda s: mx.online(velocitune(s.domains, s.aims, s.first)), evaluates=25, before=reference_windows),
    Case("FAMO", lambda s: mx.online(famo(s.domains)), weighs=True),
    Case("Skill-It", lambda s: mx.online(skill_it(s.domains, s.law)), evaluates=25, before=lambda s: s.probe * WINDOWS * len(s.domains)),
    Case("Skill-It (survey)", lambda s: mx.online(skill_it(s.domains, s.law, faithful_to="survey")), evaluates=25,
         before=lambda s: s.probe * WINDOWS * len(s.domains)),
    Case("online law", lambda s: mx.online(online_law(s.domains, s.law)), evaluates=25,
         before=lambda s: s.probe * WINDOWS * len(s.domains)),
    Case("ODM (paper)", lambda s: mx.online(odm(s.domains))),
    Case("ODM (code)", lambda s: mx.online(odm(s.domains, warmup=s.steps // 50, faithful_to="code"), start=s.domains.natural)),
    Case("ADO", lambda s: mx.online(ado(s.domains, **curves(s)))),
    Case("online DoGE", lambda s: mx.online(online_doge(s.domains, every=10, step_size=3e-3)), by_gradients=10),
    Case("R&B", lambda s: mx.online(r_and_b(s.domains, every=10)), by_gradients=10),
    Case("GRAPE", lambda s: mx.online(grape(s.domains, s.domains, rate=0.1, task_rate=0.1), every=mx.Every(seen="gram")), by_gradients=10),
    Case("PiKE", lambda s: mx.online(pike(s.domains, gain=0.05, damping=0.05, batch=2), every=mx.Every(seen="signal")), by_gradients=10),
    Case("DoGraph (bounds)", lambda s: mx.online(dograph(s.domains, CLUSTERS), every=mx.Every(seen="gram")), by_gradients=50),
    Case("DoGraph (penalty)", lambda s: mx.online(dograph(s.domains, CLUSTERS, form="penalty"), every=mx.Every(seen="gram")),
         by_gradients=50),
    Case("Aioli", lambda s: mx.online(aioli(s.domains, rate=1.0, hold=15), every=mx.Every(seen="val")), evaluates=5),
    Case("Aioli (paper)", lambda s: mx.online(aioli(s.domains, hold=15, faithful_to="paper"), every=mx.Every(seen="val")),
         evaluates=5),
)  # fmt: skip


def difference(values: np.ndarray, base: np.ndarray, comparisons: int) -> list[float]:
    """The mean of paired differences and the half-width of its interval."""
    apart, n = values - base, len(values)
    if n < 2:
        return [float(apart.mean()), math.inf]
    wide = student.ppf(1 - 0.025 / comparisons, n - 1) * apart.std(ddof=1) / math.sqrt(n)
    return [float(apart.mean()), float(wide)]


def main() -> None:
    """Run every method from every seed, print the table, and write it with the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--probe", type=int, default=60, help="steps of each run on one domain alone")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once, each on one thread")
    parser.add_argument("--only", nargs="*", help="names of methods; uniform and natural always run")
    parser.add_argument("--out", type=Path, default=RESULTS / "online_methods.json")
    given = parser.parse_args()
    cases = [c for c in CASES if not given.only or c.name in (*given.only, "uniform", "natural")]
    work = partial(of_seed, names=[c.name for c in cases], steps=given.steps, width=given.width, probe=given.probe)
    with ProcessPoolExecutor(given.jobs) as pool:
        seeds = list(pool.map(work, range(given.seeds)))
    found = {c.name: [one[c.name] for one in seeds] for c in cases}
    rows, data = [row(case.name, found, len(cases) - 1) for case in cases], prepare(load(), given.steps * WINDOWS * CONTEXT)
    shown(rows, data)
    settings = {"seeds": given.seeds, "steps": given.steps, "width": given.width, "windows": WINDOWS, "context": CONTEXT}
    write(given.out, __doc__, settings | {"domains": list(data.domains.names), "targets": [t.title for t in data.targets]}, rows)


def of_seed(seed: int, names: list[str], steps: int, width: int, probe: int) -> dict[str, dict[str, Any]]:
    """What one seed's runs of these methods measured."""
    torch.set_num_threads(1)
    setting, found = Setting(prepare(load(), steps * WINDOWS * CONTEXT), seed, steps, width, probe), {}
    for case in CASES:
        if case.name in names:
            found[case.name] = measured(setting, case)
            print(f"seed {seed}  {case.name:18s} " + "  ".join(f"{v:.4f}" for v in found[case.name]["losses"]), flush=True)
    return found


def measured(setting: Setting, case: Case) -> dict[str, Any]:
    """One run: the targets' losses on test text, the mean weights, and the windows read beyond those trained on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, schedule, more = run(setting, case)
    tested = setting.losses(model, setting.data.test, 32)
    course = schedule.history.weights
    assert np.allclose(course.sum(axis=1), 1)
    assert course.min() >= 0
    return {
        "losses": [float(setting.data.score(tested, target)) for target in setting.data.targets],
        "weights": course.mean(axis=0).tolist(),
        "last": schedule.w.tolist(),
        "more": more + case.before(setting),
        "warned": any("collapsing" in str(w.message) for w in caught),
    }


def row(name: str, found: dict[str, list[dict[str, Any]]], comparisons: int) -> dict[str, Any]:
    """A method's losses and differences by target, its mean weights, and what it read."""
    losses = {n: np.array([one["losses"] for one in some]) for n, some in found.items()}
    mine, made = losses[name], found[name]
    return {
        "method": name,
        "losses": mine.mean(axis=0).tolist(),
        "less uniform": [difference(mine[:, j], losses["uniform"][:, j], comparisons) for j in range(mine.shape[1])],
        "less natural": [difference(mine[:, j], losses["natural"][:, j], comparisons) for j in range(mine.shape[1])],
        "weights": np.mean([one["weights"] for one in made], axis=0).tolist(),
        "spread": np.std([one["weights"] for one in made], axis=0).tolist(),
        "windows read more": float(np.mean([one["more"] for one in made])),
        "warned of collapse": sum(one["warned"] for one in made),
        "each": [one["losses"] for one in made],
    }


def shown(rows: list[dict[str, Any]], data: Any) -> None:
    """The table by target: loss, and differences from uniform and natural with their intervals; a star where 0 is outside."""
    for j, target in enumerate(data.targets):
        print(f"\n{target.title} ({data.unit})\n{'method':18s}  loss    less uniform        less natural")
        for one in rows:
            parts = []
            for base in ("less uniform", "less natural"):
                mean, wide = one[base][j]
                parts.append(
                    "-".center(18) if one["method"] == base[5:] else f"{mean:+.4f} +- {wide:.4f}{'*' if abs(mean) > wide else ' '}"
                )
            print(f"{one['method']:18s}  {one['losses'][j]:.4f}  {'  '.join(parts)}")
    print(f"\n{'mean weights':18s}  " + "  ".join(f"{n[:9]:>9s}" for n in data.domains) + "  more read  warned")
    for one in rows:
        weights = "  ".join(f"{w:9.3f}" for w in one["weights"])
        print(f"{one['method']:18s}  {weights}  {one['windows read more']:9.0f}  {one['warned of collapse']}")


if __name__ == "__main__":
    main()
