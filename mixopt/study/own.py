"""A study of the user's own data and model: what ``mixopt run`` is asked, and how it becomes a study."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import mixopt as mx
from mixopt.data.prepare import prepare
from mixopt.data.prepared import Prepared
from mixopt.data.reading import Reading
from mixopt.errors import InputError, listed, unknown
from mixopt.files import safe
from mixopt.language.domains import Domains
from mixopt.runtime.streams import Streams
from mixopt.runtime.torch_learner import checked_device

from . import models as making
from .console import Screen
from .data import NATS, Data, Target, mean_of
from .models import Models, small_gpts
from .outcome import Outcome
from .sizes import EPOCHS, METHODS, Sizes, known_methods
from .store import Store
from .study import Study, carried_out, introduce, measured

BITS = "bits per byte"
WIDTHS = (32, 56)


@final
@dataclass(frozen=True)
class Asked:
    """What a study of one's own data is asked: where things lie, what a mixture is judged by, and how much to spend.

    ``model`` and ``proxy`` are specs as ``models.factory`` takes them (no proxy: the model itself); ``sets`` maps a name to a
    folder of validation text; ``objectives`` are "mean", a measured name, or "label:name=share,name=share". Numbers of 0 take
    their defaults. ``minutes`` is the time to fit into; steps are cut to it.
    """

    data: str
    out: str
    reading: Reading = field(default_factory=Reading)
    sets: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    proxy: str = ""
    objectives: tuple[str, ...] = ()
    unit: str = ""
    methods: tuple[str, ...] = METHODS[:3]
    context: int = 64
    batch: int = 16
    rate: float = 0.0
    proxies: int = 0
    proxy_steps: int = 200
    target_steps: int = 350
    seeds: int = 5
    minutes: float = 10.0
    budget: float = 0.0
    cap: float = EPOCHS
    seed: int = 0
    device: str = "cpu"


def begun(asked: Asked, screen: Screen, *, fresh: bool = False) -> tuple[Study, bool]:
    """The study that was asked for, its data tokenised and its sizes fitted; and whether it goes on with one that was begun.

    Raises:
        InputError: data, a model, a name or a number that does not fit; a folder that holds another study.
        MissingExtraError: a format needs a package that is not installed.
    """
    clock = time.perf_counter()
    _check(asked)
    store = Store.open(asked.out)
    checked_device(asked.device)
    if fresh:
        store.clear()
    screen.head("mixopt run: which mixture of these domains trains the better model?")
    own, sets = _prepared(asked, store, screen, fresh)
    data = _data(asked, own, sets)
    models = _models(asked, own.vocabulary)
    sizes = _sizes(asked, models, len(data.domains))
    identity = _identity(asked, own, sets, sizes)
    before = store.sizes(identity)
    origins = {asked.data: own.fingerprint} | {place: sets[name].fingerprint for name, place in asked.sets.items()}
    study = Study(data, models, before or sizes, store, screen, identity, origins, asked.seed, asked.methods)
    return measured(study, before is not None, time.perf_counter() - clock), before is not None


def run(asked: Asked, screen: Screen | None = None, *, fresh: bool = False, command: str = "mixopt.study.own.run") -> Outcome:
    """Carry out the study that was asked for, or go on with it; everything found and measured lies in its folder."""
    clock = time.perf_counter()
    study, again = begun(asked, screen or Screen(), fresh=fresh)
    introduce(study, again)
    return carried_out(study, clock, command)


def _check(asked: Asked) -> None:
    known_methods(asked.methods)
    if asked.proxy and not asked.model:
        raise InputError(f"the proxy {asked.proxy} is a smaller model in place of --model, and there is none; give --model too")
    for name in ("rate", "budget", "proxies"):
        if not 0 <= getattr(asked, name) < math.inf:
            raise InputError(f"{name} is {getattr(asked, name)}; it is > 0, or 0 for the usual one")
    for name in ("context", "batch", "proxy_steps", "target_steps"):
        if getattr(asked, name) < 1:
            raise InputError(f"{name.replace('_', '-')} is {getattr(asked, name)}; it is at least 1")
    if asked.seeds == 1 or asked.seeds < 0:
        raise InputError(f"{asked.seeds} seeds give no interval; give 2 or more, or 0 for no verdict")
    for name in ("minutes", "cap"):
        if not getattr(asked, name) > 0:
            raise InputError(f"{name} is {getattr(asked, name)}; it is > 0")
    if asked.unit not in ("", BITS, NATS):
        raise InputError(f"the unit is {asked.unit!r}; it is {BITS!r} or {NATS!r}")


def _prepared(asked: Asked, store: Store, screen: Screen, fresh: bool) -> tuple[Prepared, dict[str, Prepared]]:
    """The data and the validation sets as tokens in the study's folder; what was tokenised before is taken from there."""
    folder = store.folder / "tokens"

    def one(place: str, name: str, share: float) -> Prepared:
        with screen.stage(f"reading {name}", 0.0) as tell:
            made = prepare(
                place,
                folder / name,
                asked.reading,
                validation=share,
                test=share,
                fresh=fresh,
                watch=lambda done, whole: tell(done / max(whole, 1)),
            )
        for note in made.notes:
            screen.say(f"  note: {note}", "yellow")
        return made

    own = one(asked.data, "data", 0.05)
    own.check(asked.context)
    sets = {name: one(place, f"val-{safe(name)}", 0.5) for name, place in asked.sets.items()}
    for made in sets.values():
        made.check(asked.context, ("validation", "test"))
    return own, sets


def _data(asked: Asked, own: Prepared, sets: Mapping[str, Prepared]) -> Data:
    """Streams of the domains, of their held-out parts and of the validation sets; a set named as a domain takes its place."""
    held = {part: dict(own.parts[part]) for part in ("validation", "test")}
    scale = _scales(own)
    several: dict[str, tuple[str, ...]] = {}
    for name, one in sets.items():
        names = (name,) if len(one.domains) == 1 else tuple(f"{name}/{d}" for d in one.domains)
        several[name] = names
        for measured_name, domain in zip(names, one.domains, strict=True):
            for part in held:
                held[part][measured_name] = one.parts[part][domain]
        scale |= dict(zip(names, _scales(one).values(), strict=True))
    unit = asked.unit or (BITS if all(scale.values()) else NATS)
    if unit == BITS and not all(scale.values()):
        silent = [n for n, s in scale.items() if not s]
        raise InputError(f"how many bytes the tokens of {listed(silent)} stand for is not known; give --tokenizer, or --unit nats")

    def stream(part: Mapping[str, Any]) -> Streams:
        return Streams(part, asked.context, asked.device, vocabulary=own.vocabulary)

    return Data(
        own.domains,
        stream(own.parts["train"]),
        stream(held["validation"]),
        stream(held["test"]),
        held["validation"],
        _targets(asked, own.domains, held["validation"], several),
        unit,
        scale if unit == BITS else {},
    )


def _scales(prepared: Prepared) -> dict[str, float]:
    """What turns nats per token into bits per byte, by domain; 0 where the bytes are not known."""
    each = prepared.bytes_per_token
    return {d: 1 / (known * math.log(2)) if (known := each[d]) else 0.0 for d in prepared.domains}


def _targets(asked: Asked, domains: Domains, names: Mapping[str, Any], several: Mapping[str, Sequence[str]]) -> tuple[Target, ...]:
    """The targets asked for; by default the mean of the domains, and each validation set that is none of them."""
    mean = mean_of(domains, title=f"mean of the {len(domains)} domains trained on")
    outside = [s for s in several if s not in domains]
    groups = {s: mean_of(n, s, f"{s}, never trained on") for s, n in several.items()}
    if not asked.objectives:
        return (mean, *(groups[s] for s in outside))
    return tuple(_target(spec, mean, groups, list(names)) for spec in asked.objectives)


def _target(spec: str, mean: Target, groups: Mapping[str, Target], names: Sequence[str]) -> Target:
    if spec == "mean":
        return mean
    if spec in groups:
        return groups[spec]
    if spec in names:
        return Target(spec, {spec: 1.0}, spec)
    label, colon, rest = spec.partition(":")
    if not colon:
        raise unknown("objective", spec, ["mean", *groups, *names])
    shares: dict[str, float] = {}
    for part in rest.split(","):
        name, equals, value = part.rpartition("=")
        if name not in names:
            raise unknown(f"measured set in the objective {spec!r}:", name or part, names)
        try:
            shares[name] = float(value)
        except ValueError:
            raise InputError(f"{part!r} in the objective {spec!r} is not name=share") from None
    total = sum(shares.values())
    if not (equals and total > 0 and min(shares.values()) > 0):
        raise InputError(f"the shares of the objective {spec!r} are to be > 0")
    return Target(label, {n: s / total for n, s in shares.items()}, spec)


def _models(asked: Asked, vocabulary: int) -> Models:
    if not asked.model:
        made = small_gpts(*WIDTHS, vocabulary, asked.context)
        return replace(made, rate=asked.rate or made.rate)
    target = making.factory(asked.model, vocabulary=vocabulary, context=asked.context)
    proxy = making.factory(asked.proxy, vocabulary=vocabulary, context=asked.context) if asked.proxy else target
    usual = 1e-4 if making.has_weights(asked.model) else 1e-3
    return Models.of(asked.proxy or asked.model, proxy, target, asked.rate or usual)


def _sizes(asked: Asked, models: Models, k: int) -> Sizes:
    """The sizes asked for; the law wants three runs for each of its parameters."""
    return Sizes(
        seconds=60 * asked.minutes,
        proxies=asked.proxies or max(24, 3 * (k + 1)),
        proxy_parameters=models.proxy_parameters,
        proxy_steps=asked.proxy_steps,
        method_steps=asked.proxy_steps,
        outer_steps=20,
        audit_steps=20,
        target_parameters=models.target_parameters,
        target_steps=asked.target_steps,
        seeds=asked.seeds,
        batch=asked.batch,
        context=asked.context,
        budget=asked.budget or None,
        cap=asked.cap,
    )


def _identity(asked: Asked, own: Prepared, sets: Mapping[str, Prepared], sizes: Sizes) -> dict[str, Any]:
    """What makes this study another one than that of a folder: data, models, targets and sizes as asked, before they are fitted."""
    spoken = {
        "sets": {n: s.fingerprint[:12] for n, s in sets.items()},
        "objectives": list(asked.objectives),
        "unit": asked.unit,
        "rate": asked.rate,
        "sizes": asdict(sizes),
    }
    return {
        "data": own.fingerprint[:12],
        "model": f"{asked.model or 'small GPT'} {_digest(asked.model)}".strip(),
        "proxy": f"{asked.proxy or asked.model or 'small GPT'} {_digest(asked.proxy)}".strip(),
        "seed": asked.seed,
        "settings": hashlib.sha256(repr(sorted(spoken.items())).encode()).hexdigest()[:12],
        "mixopt": mx.__version__,
    }


def _digest(spec: str) -> str:
    """A digest of the file that makes a model."""
    path = Path(spec.removeprefix("hf:")) / "config.json" if spec.startswith("hf:") else Path(spec.rpartition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path.is_file() else ""
