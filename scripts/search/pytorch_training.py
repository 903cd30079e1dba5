"""The training behind scripts/search/pytorch_trainer.py: a config in, the trainer's report out."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import tomllib

import numpy
import torch
import torch.nn.functional as F
from torch._inductor import config as inductor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))
from speed import muon  # noqa: E402

TRAINER = os.environ.get("TRAINER", "target/release/trainer")
# As in trainer/src/optimizer.rs and train.rs.
REFERENCE_WIDTH, DIVERGED = 768.0, 100.0
# The only values of these knobs that this file supports.
FIXED = dict(
    kv_group=1, qk_norm="on", attention_scale=1.0, norm="rms", norm_place="pre", embedding_norm="on",
    block="serial", head="untied", value_embeddings="none", dropout=0.0, residual_scalars="on",
    warmdown_shape="linear",
    decay_schedule="linear", matrix_optimizer="muon", cautious_decay="on", muon_steps=5, muon_nesterov="on",
    normuon_beta2=0.95, gradient_clip=0.0, init_kind="uniform", projection_init=0.0, embedding_decay=0.0,
    unembedding_decay=0.0, scalar_decay=0.0,
)  # fmt: skip


class Failed(Exception):
    """A run that gives no number: the class of its failure, and the message."""


def check(config):
    """Refuses a config with parts that this file does not support."""
    for knob, value in FIXED.items():
        if config[knob] != value:
            raise Failed("failed", f"PyTorch's side has no `{knob} = {config[knob]}`, only {value}")
    if config["activation"] not in ("relu2", "swiglu"):
        raise Failed("failed", f"PyTorch's side has no `activation = {config['activation']}`")
    if config["micro_batch_tokens"] < config["batch_tokens"]:
        raise Failed("failed", "PyTorch's side has no micro-batches")


class Saved:
    """A file of `trainer train --save`: names and shapes of the tensors, and room for their values."""

    def __init__(self, path):
        self.path, data = path, path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.head, self.body = data[: 8 + length], bytearray(data[8 + length :])
        self.entries = json.loads(data[8 : 8 + length])
        self.shapes = {
            name: entry["shape"] for name, entry in self.entries.items() if name != "__metadata__"
        }
        about = self.entries["__metadata__"]
        self.context, self.config = int(about["context"]), tomllib.loads(about["config"])

    def write(self, tensors):
        for name in self.shapes:
            first, last = self.entries[name]["data_offsets"]
            self.body[first:last] = tensors[name].detach().contiguous().numpy().tobytes()
        self.path.write_bytes(self.head + self.body)


class Model:
    """The trainer's model, with each matrix a tensor of its own, as in nn.Linear."""

    def __init__(self, config, saved):
        shapes = saved.shapes
        vocabulary, self.width = shapes["embedding"]
        self.head_dim, self.softcap = config["head_dim"], config["softcap"]
        self.gated = config["activation"] == "swiglu"
        depth, width = config["depth"], self.width
        hidden = shapes["mlp_out"][2]

        def uniform(rows, columns):
            return (torch.rand(rows, columns) * 2 - 1) * config["matrix_init"] * (3 / width) ** 0.5

        self.tables = [
            torch.randn(vocabulary, width) * config["embedding_init"],
            torch.randn(vocabulary, width) * config["unembedding_init"],
            torch.full((depth,), config["residual_init"]),
            torch.full((depth,), config["feedback_init"]),
        ]
        self.layers = []
        for _ in range(depth):
            layer = {name: uniform(width, width) for name in "qkv"}
            layer |= dict(
                o=torch.zeros(width, width), up=uniform(hidden, width), down=torch.zeros(width, hidden)
            )
            if self.gated:
                layer["gate"] = uniform(hidden, width)
            self.layers.append(layer)
        self.matrices = [tensor for layer in self.layers for tensor in layer.values()]
        for tensor in self.tables + self.matrices:
            tensor.requires_grad_()

        length, half = config["sequence_length"], self.head_dim // 2
        frequency = config["rope_base"] ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)[:, None, :]
        self.cosine, self.sine = angle.cos().float(), angle.sin().float()
        window = max(1, round(config["short_window"] * saved.context))
        ones = torch.ones(length, length, dtype=torch.bool)
        mask = ones.tril() & ones.triu(1 - window) if window < length else None
        pattern = config["window_pattern"]
        short = [pattern[i % len(pattern)] == "S" and i + 1 < depth for i in range(depth)]
        self.masks = [mask if is_short else None for is_short in short]

    def loss(self, tokens, targets):
        embedding, head, residual, feedback = self.tables
        x = x0 = self.norm(F.embedding(tokens, embedding))
        for i, (layer, mask) in enumerate(zip(self.layers, self.masks)):
            x = residual[i] * x + feedback[i] * x0
            x = x + self.attention(layer, self.norm(x), mask)
            hidden = F.linear(self.norm(x), layer["up"])
            if self.gated:
                hidden = F.silu(F.linear(self.norm(x), layer["gate"])) * hidden
            else:
                hidden = F.relu(hidden).square()
            x = x + F.linear(hidden, layer["down"])
        logits = self.softcap * torch.tanh(F.linear(self.norm(x), head) / self.softcap)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @staticmethod
    def norm(x):
        return F.rms_norm(x, (x.size(-1),))

    def attention(self, layer, x, mask):
        B, T, C = x.shape
        q, k, v = (F.linear(x, layer[name]).view(B, T, -1, self.head_dim) for name in "qkv")
        q, k = (self.norm(self.rotate(t)) for t in (q, k))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return F.linear(y.transpose(1, 2).reshape(B, T, C), layer["o"])

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cosine + b * self.sine, b * self.cosine - a * self.sine], -1)

    def saved(self):
        """Returns the tensors as the trainer stacks them."""
        stack = lambda *names: torch.stack([torch.cat([layer[n] for n in names]) for layer in self.layers])
        embedding, head, residual, feedback = self.tables
        return dict(
            embedding=embedding,
            unembedding=head,
            residual_factor=residual,
            feedback_factor=feedback,
            attention_in=stack("q", "k", "v"),
            attention_out=stack("o"),
            mlp_in=stack("gate", "up") if self.gated else stack("up"),
            mlp_out=stack("down"),
        )


def adamw(parameters, grads, firsts, seconds, keeps, rates, corrections, epsilon):
    for p, g, m, v, (k1, k2), rate, (c1, c2) in zip(
        parameters, grads, firsts, seconds, keeps, rates.unbind(), corrections.unbind()
    ):
        m.lerp_(g, 1 - k1)
        v.lerp_(g.square(), 1 - k2)
        p.sub_(rate * (m / c1) / ((v / c2).sqrt() + epsilon))


class Learner:
    def __init__(self, config, saved, compiled):
        make = (lambda f: torch.compile(f, dynamic=False)) if compiled else lambda f: f
        self.config, self.model = config, Model(config, saved)
        self.loss, self.adamw, self.muon = make(self.model.loss), make(adamw), make(muon)
        knob = config.__getitem__
        scale = (self.model.width / REFERENCE_WIDTH) ** -knob("lr_width_power")
        self.keeps = [
            (knob(f"{group}_beta1"), knob(f"{group}_beta2"))
            for group in ("embedding", "unembedding", "scalar", "feedback")
        ]
        rates = [knob("embedding_lr") * scale, knob("unembedding_lr") * scale]
        rates += [knob("scalar_lr") * knob("residual_lr_scale"), knob("scalar_lr")]
        self.rates = torch.tensor(rates)
        self.matrix_rate = knob("matrix_lr")
        self.firsts = [torch.zeros_like(t) for t in self.model.tables]
        self.seconds = [torch.zeros_like(t) for t in self.model.tables]
        self.steps, self.stacks, by_shape = 0, [], {}
        for matrix in self.model.matrices:
            by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
        for (rows, columns), matrices in by_shape.items():
            momentum = torch.zeros(len(matrices), rows, columns)
            self.stacks.append(
                (matrices, momentum, momentum.mean(-1 if rows >= columns else -2, keepdim=True))
            )

        self.initial = [t.detach().clone() for t in self.model.tables + self.model.matrices]

    def begin(self):
        """Goes back to the initial values."""
        with torch.no_grad():
            for tensor, value in zip(self.model.tables + self.model.matrices, self.initial):
                tensor.copy_(value)
        for state in self.firsts + self.seconds + [part for stack in self.stacks for part in stack[1:]]:
            state.zero_()
        self.steps = 0

    def factors(self, progress):
        """Returns the factor on rates, Muon's momentum and the decay."""
        knob = self.config.__getitem__
        rise = progress / knob("warmup") if progress < knob("warmup") else 1.0
        left = 1.0
        if progress > 1 - knob("warmdown"):
            left = 1 - min((progress - 1 + knob("warmdown")) / knob("warmdown"), 1)
        rate = min(rise, knob("final_rate") + (1 - knob("final_rate")) * left)
        start, end, until = knob("muon_momentum_start"), knob("muon_momentum"), knob("muon_momentum_warmup")
        momentum = start + (end - start) * progress / until if progress < until else end
        return rate, momentum, knob("matrix_decay") * (1 - progress)

    def step(self, rows, progress):
        loss = self.loss(rows[:, :-1], rows[:, 1:])
        loss.backward()
        rate, momentum, decay = self.factors(progress)
        self.steps += 1
        corrections = torch.tensor([[1 - b1**self.steps, 1 - b2**self.steps] for b1, b2 in self.keeps])
        tables = self.model.tables
        with torch.no_grad():
            grads = [t.grad for t in tables]
            self.adamw(
                tables, grads, self.firsts, self.seconds, self.keeps, self.rates * rate, corrections,
                self.config["adam_eps"],
            )  # fmt: skip
            numbers = [torch.tensor(x) for x in (self.matrix_rate * rate, momentum, decay)]
            for matrices, buffer, second in self.stacks:
                grad = torch.stack([m.grad for m in matrices])
                updated = self.muon(torch.stack(matrices), grad, buffer, second, *numbers)
                torch._foreach_copy_(matrices, list(updated.unbind()))
            for tensor in tables + self.model.matrices:
                tensor.grad = None
        return loss.item()


class Data:
    """Windows of the training tokens in a random order."""

    def __init__(self, folder, sequence, seed):
        vocabulary = json.loads((folder / "dataset.json").read_text())["vocabulary"]
        self.tokens = numpy.memmap(
            folder / "train.bin", dtype="<u1" if vocabulary <= 256 else "<u2", mode="r"
        )
        self.sequence = sequence
        windows = (len(self.tokens) - 1) // sequence
        self.order = numpy.random.default_rng(seed).permutation(windows)
        self.next = 0

    def rows(self, count):
        starts = numpy.take(self.order, range(self.next, self.next + count), mode="wrap") * self.sequence
        self.next += count
        places = starts[:, None] + numpy.arange(self.sequence + 1)
        return torch.from_numpy(self.tokens[places].astype(numpy.int64))


def trainer(*arguments):
    """Runs the trainer, and returns the last event that it printed."""
    done = subprocess.run([TRAINER, *arguments], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise RuntimeError(f"{TRAINER} said nothing: {done.stderr}")
    return json.loads(lines[-1])


def train(args, folder):
    model = folder / "model.safetensors"
    common = [
        "--config", args.config, "--data", args.data, "--threads", str(args.threads), "--min-steps", "1",
        "--json",
    ]  # fmt: skip
    frame = trainer(
        "train", *common, "--budget-tokens", "1", "--evaluation-tokens", "1024", "--save", str(model)
    )
    if frame["event"] != "finished":
        return frame
    saved = Saved(model)
    config, batch = saved.config, saved.config["batch_tokens"]
    check(config)
    rows = batch // config["sequence_length"]
    steps = max(1, (args.budget_tokens + batch // 2) // batch)
    torch.manual_seed(args.seed)
    learner = Learner(config, saved, os.environ.get("PYTORCH", "compile") == "compile")
    data = Data(pathlib.Path(args.data), config["sequence_length"], args.seed)
    for _ in range(2):
        learner.step(data.rows(rows), 0.0)  # compiles
    learner.begin()
    data.next = 0
    started, cpu, curve = time.perf_counter(), time.process_time(), []
    for step in range(steps):
        loss = learner.step(data.rows(rows), step / steps)
        if not loss < DIVERGED:
            raise Failed(
                "not_a_number" if loss != loss else "diverged", f"the loss of step {step + 1} is {loss}"
            )
        if time.perf_counter() - started > args.cap_seconds:
            raise Failed("timed_out", f"training passed its hard cap of {args.cap_seconds} s")
        curve.append(loss)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    saved.write(learner.model.saved())
    report = frame["report"]
    report |= dict(seed=args.seed, steps=steps, tokens=steps * batch, flops=report["flops"] * steps, curve=[])
    speed = float(os.environ.get("PYTORCH_SPEED", "1"))
    report |= dict(
        training_seconds=seconds / speed, training_cpu_seconds=cpu_seconds / speed, initial_loss=curve[0]
    )
    for split in args.splits.split(","):
        value = subprocess.run(
            [TRAINER, "evaluate", "--model", model, "--data", args.data, "--threads", str(args.threads),
             "--json"]
            + ["--splits", split, "--evaluation-tokens", str(args.evaluation_tokens)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        report[split] = json.loads(value.strip().splitlines()[-1])["bpb"]
    return dict(event="finished", report=report)


def run(args):
    """Returns the last event of a run, as the trainer would print it."""
    torch.set_num_threads(args.threads)
    inductor.cpp.threads = args.threads  # otherwise compiled loops take every core
    with tempfile.TemporaryDirectory() as folder:
        try:
            return train(args, pathlib.Path(folder))
        except Failed as failed:
            return dict(zip(("event", "class", "message"), ("failed", *failed.args)))
