"""Measures the trainer and PyTorch by turns, and prints medians and ratios. Run by scripts/bench.sh."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

SHAPES = ["2,64,128,16,256", "4,128,256,16,256", "4,256,256,16,1024"]
SPEED = pathlib.Path(__file__).with_name("speed.py")


class PyTorch:
    """A process of speed.py that has warmed up and waits between its turns."""

    def __init__(self, mode, shape, threads):
        command = [sys.executable, SPEED, mode, shape, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first_step = self.answer()["first_step_seconds"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench: PyTorch ended without an answer")
        return json.loads(line)

    def measure(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.answer()["tokens_per_second"]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def trainer(args, shape):
    command = [args.trainer, "bench", "--json", "--shape", shape, "--threads", str(args.threads)]
    command += ["--seconds", str(args.seconds), "--dtype", args.dtype]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(output.strip().splitlines()[-1])
    return result[0] if isinstance(result, list) else result


def compare(args, shape):
    eager, compiled = (PyTorch(mode, shape, args.threads) for mode in ("eager", "compile"))
    rounds = []
    for _ in range(args.rounds + 1):
        ours = trainer(args, shape)
        rounds.append(
            (ours["tokens_per_second"], eager.measure(args.seconds), compiled.measure(args.seconds), ours)
        )
    eager.end()
    compiled.end()
    rounds.pop(0)  # torch.compile's helper processes were still at work
    median = lambda values: statistics.median(list(values))
    return dict(
        shape=shape,
        threads=args.threads,
        dtype=args.dtype,
        trainer=median(r[0] for r in rounds),
        eager=median(r[1] for r in rounds),
        compile=median(r[2] for r in rounds),
        over_eager=median(r[0] / r[1] for r in rounds),
        over_compile=median(r[0] / r[2] for r in rounds),
        ratios_over_compile=sorted(round(r[0] / r[2], 2) for r in rounds),
        first_step_seconds=dict(
            trainer=median(r[3]["first_step_seconds"] for r in rounds),
            eager=eager.first_step,
            compile=compiled.first_step,
        ),
    )


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh")
    parser.add_argument("--trainer", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--dtype", default="f32", help="the trainer's; PyTorch's is f32")
    parser.add_argument("--shape", action="append")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for shape in args.shape or SHAPES:
        row = compare(args, shape)
        if args.json:
            print(json.dumps(row), flush=True)
            continue
        first = row["first_step_seconds"]
        print(
            f"{shape:18} trainer {row['trainer']:8.0f}  eager {row['eager']:8.0f}"
            f"  compile {row['compile']:8.0f} tokens/s"
            f"  ratio {row['over_eager']:.2f} / {row['over_compile']:.2f} {row['ratios_over_compile']}"
            f"  first step {first['trainer']:.2f} / {first['eager']:.1f} / {first['compile']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
