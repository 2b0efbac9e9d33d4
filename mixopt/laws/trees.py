"""RegMix's regression: gradient-boosted trees by LightGBM, one model a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError, MissingExtraError, listed
from mixopt.language.domains import Domains
from mixopt.runs import Runs, Targets

from .law import Fit, signs
from .opaque import OpaqueLaw

FEWEST = 10
"""With fewer runs no tree has a split that means anything."""
PATIENCE = 3
"""The rounds without improvement after which RegMix's notebook stops."""


@final
@dataclass(frozen=True, eq=False)
class LightGBM(OpaqueLaw):
    """L_j(w) = s_j times a sum of boosted regression trees, for each target j in its unit; ``texts`` [m] are LightGBM's own text models.

    Trees are flat between their splits and beyond the runs: there is no derivative, no optimum inside a leaf, and no trend to follow
    outside the data. So the law stands in problems as one opaque atom; ``Simulation`` draws mixtures around a prior and takes the
    mean of the best. Needs the package lightgbm (``pip install 'mixopt[trees]'``).

    Source: Liu et al. 2024, RegMix, arXiv 2407.01492; code sail-sg/regmix.
    """

    texts: tuple[str, ...]

    name: ClassVar[str] = "lightgbm"

    @classmethod
    def fit(
        cls,
        runs: Runs,
        *,
        rounds: int = 1000,
        rate: float = 0.01,
        leaf: int | None = None,
        seed: int = 42,
        faithful_to: Literal["code"] | None = None,
        held_out: Runs | None = None,
    ) -> LightGBM:
        """Fit every target by least squares to the runs that have it: ``rounds`` trees of 31 leaves at most, each shrunk by ``rate``.

        A leaf holds ``leaf`` runs at least: by default a tenth of the runs, from 5 to LightGBM's own 20, for with 34 runs a tree of
        leaves of 20 has no split. There is no early stopping, which would need runs that the fit does not see.

        ``faithful_to="code"`` has the notebook's settings: leaves of 20, and an end once the squared error on ``held_out`` has not
        fallen for 3 rounds. The notebook stops by the very runs that it is then judged by, so its figures are a little too good.

        Raises:
            InputError: fewer than 10 runs of a target, a constant target, a setting out of range, ``held_out`` missing or without use,
                or runs over other domains or targets in it.
            MissingExtraError: lightgbm is not installed.
        """
        lgb = _lightgbm()
        _check(runs, rounds, rate, leaf, faithful_to, held_out)
        losses, mixtures = signs(runs.targets) * runs.metrics, runs.mixtures
        texts, counts = [], []
        for j, name in enumerate(runs.targets.names):
            there = np.isfinite(losses[:, j])
            _check_target(name, losses[there, j])
            least = leaf or (20 if faithful_to else int(np.clip(there.sum() // 10, 5, 20)))
            settings = {
                "objective": "regression",
                "learning_rate": rate,
                "min_data_in_leaf": least,
                "seed": seed,
                "verbosity": -1,
                "metric": ["l1", "l2"],
                "num_threads": 1,  # more only wait for each other over so few runs
                "force_col_wise": True,  # or else a clock decides in which order numbers are added
            }
            if not faithful_to and there.sum() < 200:
                settings["min_data_in_bin"] = 1  # of few runs every weight may be a threshold
            share = None if runs.weights is None else runs.weights[there]
            table = lgb.Dataset(mixtures[there], losses[there, j], weight=share, params=settings)
            kept: dict[str, Any] = {}
            if held_out is not None:
                judged = signs(held_out.targets)[j] * held_out.metrics[:, j]
                has = np.isfinite(judged)
                kept["valid_sets"] = [lgb.Dataset(held_out.mixtures[has], judged[has], reference=table)]
                kept["callbacks"] = [lgb.early_stopping(PATIENCE, verbose=False)]
            model = lgb.train(settings, table, num_boost_round=rounds, **kept)
            texts.append(model.model_to_string(num_iteration=model.best_iteration or -1))
            counts.append(int(there.sum()))
        return cls._told(runs, tuple(texts), counts)

    @classmethod
    def _told(cls, runs: Runs, texts: tuple[str, ...], counts: list[int]) -> LightGBM:
        m = len(runs.targets)
        blank = Fit(runs.mixtures.max(axis=0), np.array(counts), np.zeros(m), np.ones(m, dtype=bool), np.zeros(m, dtype=int))
        errors = cls(runs.domains, runs.targets, blank, texts).predicted(runs.mixtures) - runs.metrics
        told = "trees are flat beyond the runs: an optimum outside them is no prediction"
        fitted = Fit(blank.seen, blank.runs, np.sqrt(np.nanmean(errors**2, axis=0)), blank.converged, blank.identified, (told,))
        return cls(runs.domains, runs.targets, fitted, texts)

    @cached_property
    def models(self) -> tuple[Any, ...]:
        """The models as LightGBM reads them.

        Raises:
            MissingExtraError: lightgbm is not installed.
        """
        lgb = _lightgbm()
        return tuple(lgb.Booster(model_str=text) for text in self.texts)

    def column(self, j: int, mixtures: np.ndarray) -> np.ndarray:
        return np.asarray(self.models[j].predict(mixtures))

    @property
    def trees(self) -> np.ndarray:
        """The number of trees of each target [m]."""
        return np.array([model.num_trees() for model in self.models])

    def content(self) -> dict[str, Any]:
        return {"models": [text.splitlines() for text in self.texts]}

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> LightGBM:
        texts = tuple("\n".join(map(str, lines)) + "\n" for lines in content["models"])
        if len(texts) != len(targets):
            raise ValueError(f"{len(texts)} models for {len(targets)} targets")
        for text in texts:
            if not text.startswith("tree\n") or "\nend of trees\n" not in text or f"\nmax_feature_idx={len(domains) - 1}\n" not in text:
                raise ValueError(f"a model is none of LightGBM's over {len(domains)} domains, or was cut")
        return cls(domains, targets, fitted, texts)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("lightgbm", "trees", "the lightgbm law") from None
    except OSError:  # its library takes OpenMP from the system
        raise MissingExtraError("lightgbm with its OpenMP library (Debian: libgomp1)", "trees", "the lightgbm law") from None
    return lightgbm


def _check(runs: Runs, rounds: int, rate: float, leaf: int | None, faithful_to: str | None, held_out: Runs | None) -> None:
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds is {rounds!r}; the number of trees is a whole number >= 1")
    if not 0 < rate <= 1:
        raise InputError(f"rate is {rate!r}; what each tree adds is shrunk by a number in (0, 1]")
    if leaf is not None and (isinstance(leaf, bool) or not isinstance(leaf, int) or leaf < 1):
        raise InputError(f"leaf is {leaf!r}; the least number of runs in a leaf is a whole number >= 1")
    if faithful_to not in (None, "code"):
        raise InputError(f"faithful_to is {faithful_to!r}; of this law there is RegMix's 'code', or None")
    if (faithful_to is None) != (held_out is None):
        raise InputError(
            "RegMix's code stops early on runs that the fit does not see, in its notebook the test runs: give them as held_out=runs"
            if held_out is None
            else "held_out stops the fit early, which faithful_to='code' alone does; leave it out, or give both"
        )
    if held_out is not None and (held_out.domains.names != runs.domains.names or held_out.targets != runs.targets):
        raise InputError(
            f"held_out is over {listed(held_out.domains)} with targets {listed(held_out.targets.names)}; "
            "it needs the domains and the targets of the runs, in their order"
        )


def _check_target(name: str, y: np.ndarray) -> None:
    if len(y) < FEWEST:
        raise InputError(f"{len(y)} runs have the target {name!r}, and trees need {FEWEST} at least; laws with a formula need fewer")
    if np.ptp(y) == 0:
        raise InputError(f"the target {name!r} is {y[0]:.6g} in every run, so there is nothing to fit; drop it")
