"""Compares the trainer's operations by what they learn: pairs of runs on equal tokens, seed by seed.

Run by scripts/curves.sh. For each form it prints means over the seeds with their standard errors: the loss
minus that of `plain` after a quarter, a half, three quarters and all of the steps (nats, smoothed), and the
validation bits per byte minus those of `plain`. The form `f32` is plain in f32, which shows what rounding
alone does to such runs. Fails if a form's bits per byte are more than LIMIT standard errors from plain's.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

# By chance alone, one comparison in 300, over many seeds, is further off.
LIMIT = 3.0
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def train(args, config, form, seed):
    """Returns the loss at each of QUARTERS, and last the bits per byte."""
    dtype, form = ("f32", "plain") if form == "f32" else (args.dtype, form)
    command = [args.trainer, "train", "--json", "--config", config, "--data", args.data, "--seed", str(seed)]
    command += ["--device", args.device, "--dtype", dtype, "--threads", str(args.threads), "--min-steps", "1"]
    command += ["--budget-tokens", str(args.tokens), "--context", str(args.context)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "AUTOSWARM_OPERATIONS": form}
    )
    last = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}
    if last.get("event") != "finished":
        sys.exit(f"curves: {' '.join(map(str, command))}\n{last.get('message', done.stderr)}")
    report = last["report"]
    losses = []
    for share in QUARTERS:
        losses.append(
            min(report["curve"], key=lambda point: abs(point["step"] - share * report["steps"]))["loss"]
        )
    return [*losses, report["validation"]]


def summary(differences):
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), error


def main():
    parser = argparse.ArgumentParser(prog="scripts/curves.sh")
    parser.add_argument("--trainer", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--data", required=True, help="a folder that `trainer prepare` wrote")
    parser.add_argument("--config", help="a config [default: the trainer's]")
    parser.add_argument("--tokens", type=int, default=262_144, help="training tokens of a run")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=8, help="pairs; at least 2")
    parser.add_argument("--forms", nargs="+", default=["fused"], choices=["fused", "grouped", "f32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="f32", help="of all forms but f32")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("one pair has no standard error; give --seeds 2 or more")
    with tempfile.TemporaryDirectory() as folder:
        config = args.config or pathlib.Path(folder, "config.toml")
        pathlib.Path(folder, "config.toml").touch()
        rows = {
            form: [train(args, config, form, seed) for seed in range(1, args.seeds + 1)]
            for form in ["plain", *args.forms]
        }
    plain = rows["plain"]
    bpb = [row[-1] for row in plain]
    print(
        f"plain: {statistics.mean(bpb):.4f} bpb, {statistics.stdev(bpb):.4f} from seed to seed;"
        f" {args.seeds} seeds, {args.tokens} tokens"
    )
    print(f"{'form':8} {'loss after 1/4':>18} {'1/2':>18} {'3/4':>18} {'all':>18} {'bpb':>18}")
    worst = 0.0
    for form in args.forms:
        cells = [
            summary([ours - its for ours, its in zip(a, b)]) for a, b in zip(zip(*rows[form]), zip(*plain))
        ]
        print(f"{form:8} " + " ".join(f"{mean:+9.4f} ± {error:.4f}" for mean, error in cells), flush=True)
        mean, error = cells[-1]
        worst = max(worst, abs(mean) / error if error > 0 else 0.0)
    print(f"furthest from plain: {worst:.1f} standard errors of the bits per byte (allowed: {LIMIT:.0f})")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
