#!/usr/bin/env python3
"""Tests whether short runs can be trusted as a first look at configs.

    scripts/search/scouts.py --trainer target/debug/trainer --data DATASET \\
        --memo swarm.jsonl --out scouts.jsonl --share 0.25

Does a config's rank after a share of the tokens, with a whole schedule of its own, agree with its rank after
all of them? The memo comes from `test-bed real-swarm` or `test-bed search --ground trainer`: it has configs
that a search really tried. Those with runs on at least two seeds are run once more, with a share of their
tokens, on another seed. The table shows the rank correlation of the short runs with full ones. Beside it
stands that of two full runs of the same configs: the worth of a full-length first look, which no short one
can beat. A second start goes on where --out ends.
"""
import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "surface"))
from collect import config_of, read_knobs, train

EVALUATION_TOKENS = 131_072
SEED = 7_000_001  # of every short run; no search draws it
REPEATS = 2000


def full_runs(paths):
    """Returns, for each config and token count, its finished runs as (bits per byte, seconds)."""
    runs = {}
    for path in paths:
        for line in path.read_text().splitlines():
            run = json.loads(line).get("run")
            if run and "finished" in run["outcome"]:
                report = run["outcome"]["finished"]
                seen = runs.setdefault((run["config"], run["tokens"]), {})
                seen[run["seed"]] = (report["validation"], run["seconds"])
    return {key: list(seen.values()) for key, seen in runs.items()}


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked = [0.0] * len(values)
    for rank, index in enumerate(order):
        ranked[index] = float(rank)
    return ranked


def spearman(a, b):
    return statistics.correlation(ranks(a), ranks(b))


def interval(rows, statistic):
    """Returns the 95 % bootstrap interval over configs, as text beside the value."""
    rng = random.Random(1)
    drawn = sorted(statistic([rng.choice(rows) for _ in rows]) for _ in range(REPEATS))
    return f"{statistic(rows):.2f} ({drawn[REPEATS // 40]:.2f} to {drawn[-REPEATS // 40]:.2f})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--memo", required=True, type=Path, nargs="+")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument(
        "--above", type=float, default=0.15,
        help="bits per byte above the median below which a config is a contender",
    )
    args = parser.parse_args()
    os.nice(19 - os.nice(0))
    knobs = read_knobs(Path(__file__).resolve().parents[2] / "node/docs/knobs.md")
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["config"], line["tokens"], line["share"]): line for line in known}
    runs = {key: seen for key, seen in full_runs(args.memo).items() if len(seen) >= 2}
    rows = []
    with args.out.open("a") as file:
        for (text, tokens), seen in sorted(runs.items()):
            line = done.get((text, tokens, args.share))
            if line is None:
                config = config_of(text, knobs)
                batch = config.get("batch_tokens", knobs["batch_tokens"]["default"])
                part = max(int(tokens * args.share) // batch, 8) * batch
                report, crash = train(args, config, part, SEED, "validation", EVALUATION_TOKENS)
                line = {"config": text, "tokens": tokens, "share": args.share, "crash": crash}
                if report:
                    line.update(bpb=report["validation"], seconds=report["training_cpu_seconds"])
                file.write(json.dumps(line) + "\n")
                file.flush()
            if "bpb" in line:
                rows.append((line["bpb"], line["seconds"], seen))
    middle = statistics.median(statistics.fmean(bpb for bpb, _ in seen) for *_, seen in rows)
    for name, kept in (
        ("all", rows), ("contenders", [row for row in rows if row[2][0][0] < middle + args.above])
    ):
        of_short = interval(
            kept, lambda rows: spearman([row[0] for row in rows], [row[2][0][0] for row in rows])
        )
        of_full = interval(
            kept, lambda rows: spearman([row[2][1][0] for row in rows], [row[2][0][0] for row in rows])
        )
        seconds = statistics.fmean(row[1] for row in kept) / statistics.fmean(row[2][0][1] for row in kept)
        print(
            f"{name}: {len(kept)} configs; a run of {args.share:g} of the tokens and a full one: {of_short};"
            f" two full ones: {of_full}; the short one takes {seconds:.2f} of the seconds"
        )


if __name__ == "__main__":
    main()
