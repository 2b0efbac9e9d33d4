"""The table of a journal: its finished runs, or each point of their curves, as ``Runs``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mixopt.errors import InputError
from mixopt.files import natural
from mixopt.runs import Runs, Targets

from .job import Finished
from .journal import Journal


def collect(path: str | os.PathLike[str], *, curves: bool = False) -> Runs:
    """The finished runs of a sweep's journal as a table, in the order of their names, of all sweeps that share it.

    With ``curves`` there is a row for each point of each run's curve, named run@step, with the steps and the tokens up to there: what
    laws in steps and ADO's are fitted to. All points of a run are of one schedule of the rate, longer than the points before its last.

    Runs that were stopped early are left out with a note, but for their points, which are as good as others. Where sweeps gave several
    runs one name, all but the first have a number after it. To write the table as RegMix or Olmix lay theirs out: ``Runs.to_pair``.

    Raises:
        InputError: a file that is no journal, or one without such runs.
    """
    journal = Journal(path)
    told, found = journal.told(), _once(journal.finished())
    jobs = journal.jobs()  # read last: another sweep may be adding runs
    whole = {key: one for key, one in found.items() if not one.stopped}
    rows = list(_rows(found if curves else whole, jobs, curves))
    if not rows:
        raise InputError(f"no run of {path} has come to its end")
    notes = (f"{len(found) - len(whole)} of {len(found)} runs were stopped early, and are left out",)
    runs = tabled(told["domains"], told["targets"], rows)
    return runs if curves or len(found) == len(whole) else replace(runs, notes=(*notes, *runs.notes))


def tabled(domains: Any, targets: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Runs:
    """A table of losses in nats per token, of rows that have id, label, seed, mixture, losses, params, tokens and steps."""
    return Runs.from_arrays(
        domains,
        [row["mixture"] for row in rows],
        Targets(tuple(targets), unit="nats per token"),
        [row["losses"] for row in rows],
        ids=[row["id"] for row in rows],
        labels=[row["label"] for row in rows],
        params=[row["params"] for row in rows],
        tokens=[row["tokens"] for row in rows],
        steps=[row["steps"] for row in rows],
        seeds=[row["seed"] for row in rows],
    )


def _once(found: Mapping[str, Finished]) -> dict[str, Finished]:
    """Each run once, where it was trained with and without a curve, or stopped by one sweep and not by another: the one that tells most."""
    best: dict[str, Finished] = {}
    for key, one in found.items():
        name = key.split(":")[0]
        before = best.get(name)
        if before is None or (not one.stopped, len(one.curve)) > (not before.stopped, len(before.curve)):
            best[name] = one
    return {one.key: one for one in best.values()}


def _rows(found: Mapping[str, Finished], jobs: Mapping[str, Any], curves: bool) -> Iterator[dict[str, Any]]:
    """What the table has of each run, or of each point of its curve; namesakes are told apart in the order in which they finished."""
    names: Counter[str] = Counter()
    told: list[tuple[int, str, Finished]] = []
    for key, one in found.items():
        name = jobs[key]["id"]
        names[name] += 1
        told.append((names[name], name, one))
    for count, name, one in sorted(told, key=lambda row: (row[0], natural(row[1]))):
        job, unique = jobs[one.key], name if count == 1 else f"{name}~{count}"
        for step, losses in one.curve if curves else [(one.steps, one.losses)]:
            yield {
                "id": f"{unique}@{step}" if curves else unique,
                "mixture": job["mixture"],
                "losses": losses,
                "label": job["label"],
                "params": one.params,
                "tokens": one.tokens * step / one.steps,
                "steps": step,
                "seed": job["seed"],
            }
