"""A folder of JSONL domains to tokens on disk: mixopt's prepare against datasets' load_dataset and map, in speed and in memory.

Every turn is a process of its own, so that its peak of memory is its own, and the two take turns.
The text is Python's standard library, repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENT = 4096  # characters
MB = 1_000_000


def texts() -> Iterator[str]:
    """Documents of Python's standard library, over and over."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py"))
    files = [file for file in files if "site-packages" not in file.parts]
    whole = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    yield from cycle([whole[i : i + DOCUMENT] for i in range(0, len(whole), DOCUMENT)])


def generate(folder: Path, size: int, domains: int) -> None:
    """Write ``size`` bytes of JSON lines in all, one file for each domain."""
    folder.mkdir(parents=True)
    documents = texts()
    for number in range(domains):
        written = 0
        with open(folder / f"domain{number:02}.jsonl", "w", encoding="utf-8") as file:
            while written < size / domains:
                written += file.write(json.dumps({"text": next(documents), "id": number}) + "\n")


def train_tokenizer(path: Path, vocabulary: int) -> None:
    """A byte-level BPE from the first few megabytes of the text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made, documents = Tokenizer(models.BPE()), texts()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([next(documents) for _ in range(1000)], trainer)
    made.save(str(path))


def by_mixopt(folder: Path, cache: Path, tokenizer: str) -> int:
    """Tokens of the text, without those that end documents."""
    from mixopt.data import Reading, prepare

    total = prepare(folder, cache, Reading(tokenizer=tokenizer)).count.total
    return total.tokens - (total.documents or 0)


def by_datasets(folder: Path, cache: Path, tokenizer: str) -> int:
    """The same by what one would write with datasets and transformers."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=[str(file) for file in sorted(folder.glob("*.jsonl"))], cache_dir=str(cache), split="train"
    )
    if tokenizer == "bytes":
        mapped = loaded.map(
            lambda batch: {"input_ids": [np.frombuffer(text.encode(), np.uint8) for text in batch["text"]]},
            batched=True,
            remove_columns=loaded.column_names,
        )
    else:
        fast = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
        mapped = loaded.map(lambda batch: {"input_ids": fast(batch["text"])["input_ids"]}, batched=True, remove_columns=loaded.column_names)
    return sum(len(row) for table in mapped.with_format("arrow").iter(1000) for row in table["input_ids"])


WAYS = {"mixopt": by_mixopt, "datasets": by_datasets}


def turn(way: str, folder: Path, tokenizer: str) -> dict[str, float]:
    """Seconds, peak of memory in MB and tokens of one way, in a process and with a cache of its own."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        command = [sys.executable, __file__, "--way", way, "--data", str(folder), "--cache", cache, "--tokenizer", tokenizer]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def alone(way: str, data: Path, cache: Path, tokenizer: str) -> None:
    """One turn, in this process; what it took is printed as JSON."""
    start = time.perf_counter()
    tokens = WAYS[way](data, cache / "tokens", tokenizer)
    took = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    print(json.dumps({"seconds": took, "peak_mb": peak / MB, "tokens": tokens}))


def measure(small: Path, large: Path, tokenizer: str, repeats: int) -> dict[str, Any]:
    """One row: both ways on both sizes."""
    from common import interval  # not at the top: it loads torch, which would count among the memory of a turn

    size = sum(file.stat().st_size for file in large.glob("*.jsonl"))
    first = {way: turn(way, small, tokenizer) for way in WAYS}
    turns: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for i in range(repeats):
        for way in list(WAYS)[:: 1 if i % 2 == 0 else -1]:
            turns[way].append(turn(way, large, tokenizer))
    counted = {way: {one["tokens"] for one in some} for way, some in turns.items()}
    if counted["mixopt"] != counted["datasets"]:
        raise SystemExit(f"not the same computation: {counted} tokens")
    times = {way: np.array([one["seconds"] for one in some]) for way, some in turns.items()}
    ratio, low, high = interval(times["datasets"] / times["mixopt"])
    row: dict[str, Any] = {"tokenizer": Path(tokenizer).stem, "mb": size / MB, "tokens": counted["mixopt"].pop()}
    for way in WAYS:
        row[f"{way}_mb_per_s"] = size / MB / float(np.median(times[way]))
        row[f"{way}_peak_mb_small"] = first[way]["peak_mb"]
        row[f"{way}_peak_mb"] = max(one["peak_mb"] for one in turns[way])
    return row | {"speedup": ratio, "low": low, "high": high}


def main() -> None:
    """Generate, measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1000, help="MB of JSON lines in all; memory is also measured at a tenth of it")
    parser.add_argument("--domains", type=int, default=20)
    parser.add_argument("--vocabulary", type=int, default=8000, help="tokens of the BPE that is trained for it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="threads of the tokenizer, for both")
    parser.add_argument("--work", type=Path, default=None, help="folder for text and tokens, about five times the size; emptied at the end")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tokenise.json")
    for hidden in ("--way", "--tokenizer"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--data", "--cache"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        alone(given.way, given.data, given.cache, given.tokenizer)
        return
    os.environ |= {"RAYON_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "true", "HF_DATASETS_OFFLINE": "1"}
    from common import write

    work = Path(tempfile.mkdtemp(dir=given.work))
    try:
        small, large, bpe = work / "small", work / "large", work / f"bpe{given.vocabulary}.json"
        generate(small, int(given.size * MB / 10), given.domains)
        generate(large, int(given.size * MB), given.domains)
        train_tokenizer(bpe, given.vocabulary)
        print(
            "tokenizer     MB   MB/s: mixopt  datasets   ratio, median [95 % interval]   peak MB at a tenth and at all: mixopt    datasets"
        )
        rows = []
        for tokenizer in ("bytes", str(bpe)):
            row = measure(small, large, tokenizer, given.repeats)
            rows.append(row)
            told = "  ".join(f"{row[f'{way}_peak_mb_small']:4.0f} {row[f'{way}_peak_mb']:4.0f}" for way in WAYS)
            print(
                f"{row['tokenizer']:9s} {row['mb']:6.0f} {row['mixopt_mb_per_s']:14.1f} {row['datasets_mb_per_s']:9.1f}   "
                f"{row['speedup']:.2f} [{row['low']:.2f}, {row['high']:.2f}]{'':40s}{told}",
                flush=True,
            )
    finally:
        shutil.rmtree(work)
    names = ("size", "domains", "vocabulary", "repeats", "threads")
    write(given.out, __doc__, {name: getattr(given, name) for name in names}, rows)


if __name__ == "__main__":
    main()
