#!/usr/bin/env python3
"""Searches with Optuna's TPE, CMA-ES, or a walk that needs no library, against `test-bed oracle`.

    scripts/search/rivals.py --bed target/debug/test-bed --method tpe --seed 1 --seconds 1800 --range near

Options that are unknown here go to the oracle. It pays for the runs, applies the predictor, chooses in the
end, and judges; its stories are printed. An axis is a number in steps or a name, so each knob has the scale
that the node's own search gives it.

    tpe        TPE, multivariate and grouped
    tpe-plain  TPE, one knob at a time
    cmaes      CMA-ES from the start; knobs without an order stay as they are
    cmaes-slow CMA-ES with its learning rate adapted to noise
    walk       moves one or two knobs of the best config so far; lower is kept
"""
import argparse
import json
import random
import subprocess
import sys
import warnings

# Standard deviation of CMA-ES's first generation, steps. With about 50 knobs, a child lies some 3 steps away.
SIGMA = 0.5
# Draws in a row that the predictor may rule out; the last of them then counts as a bad config.
MOST_DRAWS = 100
# Draws per run that the seconds could buy; a search that draws more ends, since it finds nothing to run.
DRAWS_PER_RUN = 20
RUN_SECONDS = 5.0


class Over(Exception):
    """The seconds are spent."""


class Oracle:
    """The test-bed's oracle, as a child process."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        greeting = self.read()
        self.axes, self.seconds = greeting["axes"], greeting["seconds"]
        self.draws = int(DRAWS_PER_RUN * self.seconds / RUN_SECONDS)
        self.start = {axis["knob"]: axis["start"] for axis in self.axes}

    def read(self):
        line = self.child.stdout.readline()
        if not line:
            sys.exit(f"the oracle ended with {self.child.wait()}; what it said stands above")
        return json.loads(line)

    def ask(self, question):
        self.child.stdin.write(json.dumps(question) + "\n")
        self.child.stdin.flush()
        reply = self.read()
        if "error" in reply:
            sys.exit(f"the oracle does not understand: {reply['error']}")
        return reply

    def run(self, config):
        """Returns a config's value, `None` for a crash or if it is ruled out, and whether it is ruled out."""
        self.draws -= 1
        reply = self.ask({"run": {"config": config}})
        if "over" in reply or self.draws <= 0:
            raise Over
        return reply.get("value"), "misfit" in reply

    def end(self, name):
        stories = self.ask({"end": name})["stories"]
        if self.child.wait() != 0:
            sys.exit("the oracle failed in the end")
        return stories


def tpe(oracle, seed, multivariate):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.TPESampler(multivariate=multivariate, group=multivariate, seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(oracle.start)
    space = {
        axis["knob"]: optuna.distributions.FloatDistribution(axis["low"], axis["high"])
        if axis["kind"] == "steps"
        else optuna.distributions.CategoricalDistribution(axis["names"])
        for axis in oracle.axes
    }
    while True:
        trial = study.ask(space)
        value, _ = oracle.run(trial.params)
        if value is None:
            # TPE ranks a pruned trial without a value below every finished one.
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)


def cmaes(oracle, seed, adapt):
    import cmaes as library
    import numpy

    axes = [axis for axis in oracle.axes if axis["kind"] == "steps"]
    bounds = numpy.array([[axis["low"], axis["high"]] for axis in axes])
    mean = numpy.array([axis["start"] for axis in axes])
    worst, _ = oracle.run({})
    search = library.CMA(mean=mean, sigma=SIGMA, bounds=bounds, seed=seed, lr_adapt=adapt)
    while True:
        generation = []
        for _ in range(search.population_size):
            for _ in range(MOST_DRAWS):
                x = search.ask()
                value, ruled_out = oracle.run({axis["knob"]: float(steps) for axis, steps in zip(axes, x)})
                if not ruled_out:
                    break
            worst = max(worst, value) if value is not None else worst
            generation.append((x, worst if value is None else value))
        search.tell(generation)


def walk(oracle, seed):
    rng = random.Random(seed)
    best = dict(oracle.start)
    lowest, _ = oracle.run(best)
    while True:
        child = dict(best)
        for axis in rng.sample(oracle.axes, rng.choice([1, 2])):
            name = axis["knob"]
            if axis["kind"] == "steps":
                child[name] = min(max(child[name] + rng.gauss(0, 1), axis["low"]), axis["high"])
            else:
                child[name] = rng.choice(axis["names"])
        value, _ = oracle.run(child)
        if value is not None and value < lowest:
            best, lowest = child, value


METHODS = {
    "tpe": lambda oracle, seed: tpe(oracle, seed, True),
    "tpe-plain": lambda oracle, seed: tpe(oracle, seed, False),
    "cmaes": lambda oracle, seed: cmaes(oracle, seed, False),
    "cmaes-slow": lambda oracle, seed: cmaes(oracle, seed, True),
    "walk": walk,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bed", required=True, help="the test-bed")
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument("--seed", type=int, default=1)
    args, rest = parser.parse_known_args()
    oracle = Oracle([args.bed, "oracle", "--seed", str(args.seed), *rest])
    try:
        METHODS[args.method](oracle, args.seed)
    except Over:
        pass
    for story in oracle.end(args.method):
        print(json.dumps(story), flush=True)


if __name__ == "__main__":
    main()
