"""``mixopt run``: the user's own domains and model, from folders to a recommendation that was measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixopt.errors import unknown

from .common import Json, Quiet, Voice, command, seeded
from .reading import DomainField, Dtype, Eos, Per, Split, TextField, Tokenizer, Undecodable, reading

if TYPE_CHECKING:
    from mixopt.study.outcome import Outcome
    from mixopt.study.study import Study

UNITS = {"auto": "", "bpb": "bits per byte", "nats": "nats per token"}


def _model(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Model")


def _aim(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="What a mixture is judged by")


def _size(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="How much to spend")


def run(
    data: Annotated[Path, typer.Option(help="Folder with one domain for each sub-folder or file.")],
    out: Annotated[Path, typer.Option(help="Folder for tokens, runs, mixtures and the report; give it again to go on.")] = Path("out/run"),
    text_field: TextField = "text",
    domain_field: DomainField = "",
    tokenizer: Tokenizer = "",
    per: Per = "folder",
    split: Split = "train",
    dtype: Dtype = "",
    eos: Eos = "",
    undecodable: Undecodable = "refuse",
    val: Annotated[list[str] | None, _aim("A validation set: name=FOLDER. Repeatable.")] = None,
    objective: Annotated[
        list[str] | None, _aim("mean, a domain or set, or label:name=share,name=share. Repeatable; the first is the main one.")
    ] = None,
    unit: Annotated[str, _aim("bpb, nats (per token), or auto: bpb where bytes are known.")] = "auto",
    budget: Annotated[float, _aim("Tokens of the run that the mixture is for.")] = 0.0,
    cap: Annotated[float, _aim("Epochs that it may read a domain at most.")] = 4.0,
    model: Annotated[str, _model("hf:FOLDER or FILE.py:FUNCTION; without one a small GPT.")] = "",
    proxy: Annotated[str, _model("A smaller model for proxies and methods; else the model.")] = "",
    context: Annotated[int, _model("Tokens of a window.")] = 64,
    batch: Annotated[int, _model("Windows of a batch.")] = 16,
    rate: Annotated[float, _model("Peak learning rate of AdamW; 0 for the usual one.")] = 0.0,
    device: Annotated[str, _model("Where models are trained: cpu, cuda, cuda:1.")] = "cpu",
    methods: Annotated[str, _size("Of law, doremi, doge, implicit.")] = "law,doremi,doge",
    proxies: Annotated[int, _size("Proxy runs; 0 for three for each of the law's parameters, and at least 24.")] = 0,
    proxy_steps: Annotated[int, _size("Steps of a proxy and of a method.")] = 200,
    target_steps: Annotated[int, _size("Steps of a run of the verdict.")] = 350,
    seeds: Annotated[int, _size("Seeds of the verdict; 0 for no verdict.")] = 5,
    minutes: Annotated[float, _size("The time to fit into; steps are cut to it.")] = 10.0,
    seed: Annotated[int, seeded("Seed of proxies, mixtures and methods.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Tokenise, say what would be trained and how long it takes, and stop.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew in a folder that holds an earlier study.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find a mixture of your own domains for your own model, and measure whether it was worth it."""
    from mixopt.fitting.options import folders
    from mixopt.study.console import Screen
    from mixopt.study.own import Asked, begun
    from mixopt.study.own import run as carry_out
    from mixopt.study.study import introduce

    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    own = model.removeprefix("hf:") if model.startswith("hf:") else ""
    has_tokenizer = bool(own) and (Path(own) / "tokenizer.json").is_file()
    named = tokenizer or (own if has_tokenizer else "")
    asked = Asked(
        data=str(data),
        out=str(out),
        reading=reading(text_field, domain_field, named, per, split, dtype, eos, undecodable),
        sets=folders(val or (), "--val"),
        model=model,
        proxy=proxy,
        objectives=tuple(objective or ()),
        unit=UNITS[unit],
        methods=tuple(m for m in methods.split(",") if m),
        context=context,
        batch=batch,
        rate=rate,
        proxies=proxies,
        proxy_steps=proxy_steps,
        target_steps=target_steps,
        seeds=seeds,
        minutes=minutes,
        budget=budget,
        cap=cap,
        seed=seed,
        device=device,
    )
    voice = Voice(json, quiet)
    if plan:
        study, again = begun(asked, Screen(Voice(json, quiet and json).console), fresh=fresh)
        introduce(study, again)
        if json:
            voice.answer("", _planned(study, again))
        return
    outcome = carry_out(asked, Screen(voice.console), fresh=fresh, command=command())
    voice.answer(*_answer(outcome, out))


def _planned(study: Study, again: bool) -> dict[str, Any]:
    """What would be trained on what, and how long it takes, as the object of --json."""
    return {
        "domains": dict(zip(study.data.domains, study.data.domains.sizes.tolist(), strict=True)),
        "targets": [target.name for target in study.data.targets],
        "unit": study.data.unit,
        "methods": study.methods,
        "sizes": study.sizes.asdict(),
        "seconds": study.work / study.speed,
        "goes_on": again,
    }


def _answer(outcome: Outcome, out: Path) -> tuple[str, dict[str, Any]]:
    """The recommendation as text and as the object of --json."""
    made = outcome.report
    assert made is not None
    content = {
        "weights": dict(made.recommended),
        "recommendation": made.recommendation,
        "doubts": made.doubts,
        "targets": {t: [asdict(line) for line in lines] for t, lines in outcome.lines.items()},
        "folder": str(out),
    }
    return made.recommendation, content
