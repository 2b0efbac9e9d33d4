"""Hugging Face's Trainer with a ``ScheduleCallback`` as one of several processes, started by torchrun: writes what it logged to FOLDER."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import transformers

import mixopt as mx
from mixopt.trainers import ScheduleCallback

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def main(folder):
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, (3, 9, 27)[i % 3], (12,), generator=draw) for i in range(96)]
    examples = [{"input_ids": row, "labels": row.clone(), "domain": i % 3} for i, row in enumerate(rows)]
    schedule = mx.online(mx.problems.group_dro(mx.Domains(["web", "code", "books"]), rate=0.1))
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    model = transformers.GPT2LMHeadModel(config).double()
    model.loss_type = "ForCausalLM"
    arguments = transformers.TrainingArguments(
        output_dir=f"{folder}/{WORLD}",
        max_steps=6,
        per_device_train_batch_size=4 // WORLD,
        remove_unused_columns=False,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        seed=1,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=examples, callbacks=[ScheduleCallback(schedule, check=2)])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    logged = [[v for k, v in e.items() if k == "loss" or k.startswith("weight/")] for e in trainer.state.log_history if "loss" in e]
    (Path(folder) / f"trainer-{RANK}-of-{WORLD}.json").write_text(json.dumps({"logged": logged, "weights": schedule.w.tolist()}))


if __name__ == "__main__":
    main(sys.argv[1])
    if WORLD > 1:
        torch.distributed.destroy_process_group()
        os._exit(0)  # as in several.py
