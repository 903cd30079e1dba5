#!/usr/bin/env python3
"""Trains sampled configs, the data of the response surface, and appends a line per run to a CSV file.

    scripts/surface/collect.py --trainer target/release/trainer --data DATASET --out runs.csv --runs 600

The dataset is what `trainer prepare` wrote for swarm-configs/default.toml. Each run has the tokens that its
own price buys in BUDGET CPU seconds on one thread. These are CPU seconds, so that a busy machine changes
nothing but the wait. A second start goes on where the file ends. The samples (column `kind`):

    near    the calibrated start with one to four knobs moved by a step or two
    broad   the start with five to fourteen knobs moved by up to three steps
    elite   one of the best configs so far with one to four knobs moved: where a search goes
    repeat  a few fixed configs and the best ones on many seeds, for the noise and what runs on one seed share
    tokens  as near and elite, with half to twice the tokens: what training longer is worth
    asked   every other run a line of the file given with --ask: tests what a fit thinks is best
    search  taken over from a search by from_memo.py
"""
import argparse
import csv
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BUDGET = 5.0
EVALUATION_TOKENS = 131_072
SEEDS = 6  # of single runs; few, so that the effect of a seed can be told from that of a config
FEWEST_STEPS = 8
COLUMNS = (
    "kind,seed,price,steps,tokens,cpu_seconds,seconds,parameters,flops,memory,validation,audit,crash,config"
).split(",")
# Seconds beside training, and the smoothed training loss, nats, at these shares of the steps.
COLUMNS += ["beside", "curve"]
CURVE_SHARES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0]

# The calibrated start (node/src/objectives/train/calibrated.rs) of one core of 6e10 training FLOP/s for 5 s
# when the runs were made; since then it is 64 wide.
START = {
    "depth": 2, "width": 32, "head_dim": 32, "sequence_length": 64, "batch_tokens": 1024,
    "window_pattern": "SSSL", "short_window": 0.035, "activation": "swiglu", "mlp_ratio": 2.5,
    "value_embeddings": "none",
}
# A step of each knob, as in node/src/proposers/evolve/space.rs: octaves, octaves after an offset, octaves of
# 1 - x, or plain.
STEPS = {
    "depth": ("ratio", 0.5), "width": ("ratio", 0.5), "mlp_ratio": ("ratio", 0.6),
    "warmdown": ("plain", 0.15), "softcap": ("offset", 5.0, 0.6), "matrix_decay": ("offset", 0.03, 1.0),
    "muon_momentum": ("complement", 0.8),
    "unembedding_init": ("ratio", 2.0), "embedding_init": ("ratio", 1.0), "matrix_init": ("ratio", 0.5),
    "attention_scale": ("ratio", 0.5), "projection_init": ("offset", 0.2, 1.0),
    "final_rate": ("offset", 0.03, 0.8), "warmup": ("offset", 0.03, 0.8),
    "normuon_beta2": ("complement", 1.0), "muon_momentum_start": ("complement", 1.0),
    "muon_momentum_warmup": ("plain", 0.2), "gradient_clip": ("offset", 0.3, 1.0), "dropout": ("plain", 0.1),
    "value_gate_scale": ("ratio", 0.6), "value_embedding_init": ("offset", 0.3, 0.8),
    "value_gate_init": ("offset", 0.2, 1.0),
    "residual_init": ("ratio", 0.4), "feedback_init": ("offset", 0.05, 1.0), "rope_base": ("ratio", 2.0),
    "adam_eps": ("ratio", 6.0), "residual_lr_scale": ("ratio", 1.5), "short_window": ("ratio", 1.0),
}
# Knobs that are moved more often, because more depends on them.
WEIGHTY = set(
    "depth width head_dim sequence_length batch_tokens mlp_ratio activation window_pattern short_window "
    "value_embeddings head softcap matrix_lr embedding_lr unembedding_lr matrix_optimizer warmdown "
    "final_rate warmup matrix_decay muon_momentum embedding_init unembedding_init matrix_init "
    "projection_init embedding_norm scalar_lr".split()
)
CLOSED = {"width_rounding", "micro_batch_tokens", "value_gate_width"}


def read_knobs(path):
    """Returns the rows of the knob table: name, kind, low, high, grid, choices, default."""
    knobs = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1]
        if len(cells) != 7 or not cells[0].isdigit():
            continue
        name, kind, span, default = cells[1].strip("`"), cells[3], cells[4], cells[5]
        if kind == "choice":
            knobs[name] = {"kind": kind, "choices": re.split(r" \\\| ", span), "default": default}
        else:
            low, high, grid = re.fullmatch(r"([^…]+)…(\S+)(?: by (\S+))?", span).groups()
            number = int if kind in ("integer", "power of two") else float
            knobs[name] = {
                "kind": kind, "low": float(low), "high": float(high), "grid": float(grid or 1),
                "default": number(default),
            }
    return knobs


def moved(knob, name, value, steps):
    """Returns the value `steps` steps away, at least one grid point, inside the range."""
    kind = knob["kind"]
    usual = {"integer": ("plain", knob["grid"]), "power of two": ("ratio", 1.0), "log": ("ratio", 0.6)}
    how = STEPS.get(name) or usual.get(kind)
    if how is None:
        how = (
            ("complement", 1.0)
            if "beta" in name
            else ("offset", 0.01, 1.0) if "decay" in name else ("plain", 2 * knob["grid"])
        )
    if how[0] == "ratio":
        x = value * 2 ** (steps * how[1])
    elif how[0] == "offset":
        x = (value + how[1]) * 2 ** (steps * how[2]) - how[1]
    elif how[0] == "complement":
        x = 1 - (1 - value) * 2 ** (-steps * how[1])
    else:
        x = value + steps * how[1]
    x = min(max(x, knob["low"]), knob["high"])
    if kind == "power of two":
        return 2 ** round(math.log2(x))
    if kind == "log":
        return float(f"{x:.1e}")
    snapped = round(x / knob["grid"]) * knob["grid"]
    if snapped == value:
        snapped = value + math.copysign(knob["grid"], steps)
    snapped = min(max(snapped, knob["low"]), knob["high"])
    return int(snapped) if kind == "integer" else round(snapped, 6)


def mutate(knobs, config, count, reach, rng):
    """Returns a config with `count` knobs moved by up to `reach` steps."""
    config = dict(config)
    names = [name for name in knobs if name not in CLOSED]
    weights = [3.0 if name in WEIGHTY else 1.0 for name in names]
    chosen = set()
    while len(chosen) < count:
        chosen.add(rng.choices(names, weights)[0])
    for name in sorted(chosen):
        knob = knobs[name]
        now = config.get(name, knob["default"])
        if knob["kind"] == "choice":
            value = rng.choice([choice for choice in knob["choices"] if choice != now])
        else:
            value = moved(knob, name, now, rng.choice([-1, 1]) * rng.uniform(0.5, reach))
        config[name] = value
    return config


def text_of(config):
    return " ".join(f"{name}={config[name]}" for name in sorted(config))


def config_of(text, knobs):
    config = {}
    for part in text.split():
        name, value = part.split("=")
        kind = knobs[name]["kind"]
        config[name] = (
            value
            if kind == "choice"
            else int(value) if kind in ("integer", "power of two") else float(value)
        )
    return config


def train(args, config, tokens, seed, splits, evaluation):
    """Runs one trainer, and returns its report or the class of its failure."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.writelines(f'{name} = {json.dumps(value)}\n' for name, value in config.items())
        file.flush()
        command = [
            args.trainer, "train", "--config", file.name, "--data", args.data, "--budget-tokens", str(tokens)
        ]
        command += [
            "--seed", str(seed), "--threads", "1", "--min-steps", "1", "--cap-seconds", "900", "--json"
        ]
        command += ["--splits", splits, "--evaluation-tokens", str(evaluation)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        )
    last = json.loads((done.stdout.splitlines() or ['{"event":"none"}'])[-1])
    if last["event"] == "finished":
        return last["report"], None
    return None, last.get("class", "killed")


def losses(report):
    """Returns the smoothed loss at each of CURVE_SHARES."""
    curve = report["curve"]
    return [
        min(curve, key=lambda point: abs(point["step"] - share * report["steps"]))["loss"]
        for share in CURVE_SHARES
    ]


def run(args, kind, config, seed, share=1.0):
    """Prices a config, trains it, and returns its line."""
    line = dict.fromkeys(COLUMNS, "")
    line.update(kind=kind, seed=seed, config=text_of(config))
    batch = max(config.get("batch_tokens", 8192), min(config.get("sequence_length", 2048), 256))
    weights = config.get("depth", 4) * 12 * config.get("width", 128) ** 2 + 512 * config.get("width", 128)
    few = min(max(int(1.0 / (6 * batch * weights / 2e10 + 0.004)), 4), 240)
    report, crash = train(args, config, few * batch, seed, "validation", 1024)
    if report is None:
        return {**line, "crash": crash}
    batch = report["tokens"] // report["steps"]
    price = report["tokens"] / report["training_cpu_seconds"]
    line["price"] = round(price, 1)
    steps = int(price * BUDGET * share / batch)
    if steps < FEWEST_STEPS:
        return {**line, "crash": "too_slow"}
    report, crash = train(args, config, steps * batch, seed, "validation,audit", EVALUATION_TOKENS)
    if report is None:
        return {**line, "tokens": steps * batch, "crash": crash}
    line.update(
        steps=report["steps"], tokens=report["tokens"], cpu_seconds=round(report["training_cpu_seconds"], 4),
        seconds=round(report["training_seconds"], 2), parameters=report["parameters"],
        flops=f'{report["flops"]:.4e}', memory=report["peak_memory_bytes"],
        validation=round(report["validation"], 6), audit=round(report["audit"], 6),
        beside=round(report["startup_seconds"] + report["evaluation_seconds"], 2),
        curve=" ".join(f"{loss:.4f}" for loss in losses(report)),
    )
    return line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument(
        "--salt", default="", help="makes another sample: for several at once, each with a file of its own"
    )
    parser.add_argument(
        "--only-repeats", action="store_true", help="make repeats of the start and of small changes alone"
    )
    parser.add_argument(
        "--ask", type=Path, help="a file of configs, `knob=value` pairs on a line; read anew each time"
    )
    args = parser.parse_args()
    os.nice(19 - os.nice(0))
    knobs = read_knobs(Path(__file__).resolve().parents[2] / "node/docs/knobs.md")
    done = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    if done and list(done[0]) != COLUMNS:
        sys.exit(f"{args.out}: the columns are not {','.join(COLUMNS)}; add the missing ones, empty")
    fixed = [START] + [mutate(knobs, START, 1 + k % 4, 2, random.Random(k)) for k in range(5)]
    # Beside these larger changes, a small change of each group.
    fixed += [
        {**START, **small}
        for small in ({"matrix_lr": 0.03}, {"warmdown": 0.65}, {"rope_base": 2e4}, {"matrix_init": 1.2})
    ]
    if args.only_repeats:
        fixed = [START, *fixed[-4:]]
    with args.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not done:
            writer.writeheader()
        for number in range(len(done), args.runs):
            rng = random.Random(f"surface {number}{args.salt}")
            values = [row for row in done if row["validation"] != "" and row["kind"] != "tokens"]
            best = sorted(values, key=lambda row: float(row["validation"]))[: 8 + number // 50]
            centre = START
            kind = ["near", "elite", "broad", "repeat", "near", "elite", "broad", "near"][number % 8]
            if args.only_repeats:
                kind = "repeat"
            elif number % 16 in (9, 15):
                kind = "tokens"
            elif number % 16 == 6:
                kind = "repeat"
            share = rng.choice([0.5, 0.7, 1.4, 2.0]) if kind == "tokens" else 1.0
            if best and number >= 24 and (kind == "elite" or number % 16 == 9):
                centre = config_of(rng.choice(best)["config"], knobs)
            elif kind == "elite":
                kind = "near"
            seed = rng.randint(1, SEEDS)
            asked = args.ask.read_text().splitlines() if args.ask and args.ask.exists() else []
            known = {row["config"] for row in done}
            asked = [
                text for text in (text_of(config_of(line, knobs)) for line in asked) if text not in known
            ]
            if asked and number % 2 and not args.only_repeats:
                kind, config = "asked", config_of(asked[0], knobs)
            elif kind == "repeat":
                # Every third repeat is of one of the best configs. The fixed ones take turns on seeds 1, 2, 3
                # and so on.
                if number // 8 % 3 == 2 and best and not args.only_repeats:
                    config = config_of(best[number // 24 % 3]["config"], knobs)
                else:
                    made = [
                        sum(row["kind"] == kind and row["config"] == text_of(config) for row in done)
                        for config in fixed
                    ]
                    config = fixed[made.index(min(made))]
                    seed = 1 + min(made)
            elif kind == "broad":
                config = mutate(knobs, centre, rng.randint(5, 14), 3, rng)
            else:
                config = mutate(knobs, centre, rng.randint(1, 4), 2, rng)
            line = run(args, kind, config, seed, share if kind == "tokens" else 1.0)
            writer.writerow(line)
            file.flush()
            done.append({column: str(value) for column, value in line.items()})
            print(
                number, kind, line["validation"] or line["crash"], line["price"], line["seconds"],
                file=sys.stderr, flush=True,
            )


if __name__ == "__main__":
    main()
