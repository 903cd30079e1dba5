#!/usr/bin/env python3
"""Prints runs that searches made on the real trainer as lines of collect.py's file.

    scripts/surface/from_memo.py target/search/runs.jsonl >runs.csv
    scripts/surface/from_memo.py --distinct target/search/runs.jsonl >runs.csv

The memo comes from `test-bed search --ground trainer --memo FILE`. With --distinct, one run of each config is
printed, for collect.py to go on from. The surface has to be right where searches go. A crash is a line
without a value.
"""
import argparse
import csv
import json
import sys

from collect import COLUMNS, losses


def lines_of(memo):
    """Yields the runs of a memo as lines."""
    prices, seen = {}, set()
    for text in memo:
        # A last line without its end was cut off by the death of its writer.
        entry = json.loads(text) if text.endswith("\n") else {}
        if "price" in entry:
            prices[entry["price"]["config"]] = entry["price"]["price"]["tokens_per_second"]
        if "run" not in entry:
            continue
        run = entry["run"]
        key = (run["config"], run["seed"], run["tokens"])
        if key in seen:
            continue
        seen.add(key)
        line = dict.fromkeys(COLUMNS, "")
        line.update(
            kind="search", seed=run["seed"], tokens=run["tokens"],
            config=" ".join(sorted(run["config"].split())),
        )
        if prices.get(run["config"]):
            line["price"] = round(prices[run["config"]], 1)
        report = run["outcome"].get("finished")
        if report is None:
            line["crash"] = run["outcome"]["crashed"]["class"]
        else:
            line.update(
                steps=report["steps"], tokens=report["tokens"],
                cpu_seconds=round(report["training_cpu_seconds"], 4),
                seconds=round(report["training_seconds"], 2), parameters=report["parameters"],
                flops=f'{report["flops"]:.4e}', memory=report["peak_memory_bytes"],
                validation=round(report["validation"], 6), audit=round(report["audit"], 6),
                beside=round(report["startup_seconds"] + report["evaluation_seconds"], 2),
                curve=" ".join(f"{loss:.4f}" for loss in losses(report)),
            )
        yield line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("memos", nargs="+", type=argparse.FileType(), metavar="MEMO")
    parser.add_argument("--distinct", action="store_true", help="one run of each config")
    args = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    configs = set()
    for memo in args.memos:
        for line in lines_of(memo):
            if not (args.distinct and line["config"] in configs):
                writer.writerow(line)
            configs.add(line["config"])


if __name__ == "__main__":
    main()
