"""Trains the model of reference.py on made-up tokens, and prints its speed, for scripts/bench.sh.

Usage: speed.py eager|compile D,W,S,B,V THREADS [cpu]
       speed.py eager|compile D,W,S,B,V THREADS cuda:0 HEAD_DIM

The second form is bf16 with flash attention; its windows are SSSL, of half a sequence and a whole one. Prints
{"first_step_seconds": …} when it is ready. Then reads seconds, one number per line, and answers each line
with {"tokens_per_second": …}.

Matrices of one size are stacked for Muon, and the tables and scalars go through one AdamW, as in
karpathy/autoresearch. With `compile`, torch.compile makes the model and both optimizers. Like the trainer's
own benchmark, it trains on one batch again and again.
"""

import json
import sys
import time

STARTED = time.perf_counter()

import torch
import torch.nn.functional as F

from reference import GATE_SCALE, HEAD_DIM, ROPE_BASE, SOFTCAP, POLAR_EXPRESS, Model

RATES = dict(wte=0.6, head=0.004, ve=0.6, residual=0.005, feedback=0.5)


def initial(depth, width, head_dim, vocabulary):
    def uniform(*size):
        return (torch.rand(*size) * 2 - 1) * (3 / width) ** 0.5

    values = sum(i % 2 == (depth - 1) % 2 for i in range(depth))
    return dict(
        embedding=torch.randn(vocabulary, width),
        unembedding=torch.randn(vocabulary, width) * 0.001,
        attention_in=uniform(depth, 3 * width, width),
        attention_out=torch.zeros(depth, width, width),
        mlp_in=uniform(depth, 4 * width, width),
        mlp_out=torch.zeros(depth, width, 4 * width),
        value_embedding=uniform(values, vocabulary, width),
        value_gate=torch.zeros(values, width // head_dim, min(32, width)),
        residual_factor=torch.ones(depth),
        feedback_factor=torch.full((depth,), 0.1),
    )


def adamw(parameters, grads, firsts, seconds, rates, step):
    for p, g, m, v, rate in zip(parameters, grads, firsts, seconds, rates):
        m.lerp_(g, 0.2)
        v.lerp_(g.square(), 0.05)
        p.sub_(rate * (m / (1 - 0.8**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-10))


def muon(stack, grad, momentum, second, rate, keep, decay):
    momentum.lerp_(grad, 1 - keep)
    x = grad.lerp(momentum, keep)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    x = x if x.device.type == "cpu" else x.bfloat16()
    tall = x.size(-2) > x.size(-1)
    for a, b, c in POLAR_EXPRESS:
        gram = x.mT @ x if tall else x @ x.mT
        polynomial = b * gram + c * (gram @ gram)
        x = a * x + (x @ polynomial if tall else polynomial @ x)
    x = x.float()
    along = -1 if x.size(-2) >= x.size(-1) else -2
    mean = x.square().mean(along, keepdim=True)
    second.lerp_(mean, 0.05)
    scale = second.clamp_min(1e-10).rsqrt()
    count = x.size(along)
    before = (mean.sum((-2, -1), keepdim=True) * count).sqrt()
    after = ((mean * scale.square()).sum((-2, -1), keepdim=True) * count).sqrt()
    x = x * (scale * (before / after.clamp_min(1e-10)))
    rate = rate * max(1.0, x.size(-2) / x.size(-1)) ** 0.5
    return stack - rate * (x + decay * stack * (x * stack >= 0))


class FlashModel(Model):
    """The same model as karpathy/autoresearch runs it on a GPU: stream and heads in bf16, flash attention."""

    def __init__(self, saved, sequence, head_dim):
        super().__init__(saved)
        self.head_dim = head_dim
        half = head_dim // 2
        angle = torch.outer(torch.arange(sequence), ROPE_BASE ** (-torch.arange(half) / half))[:, None, :]
        self.cosine, self.sine = angle.cos().bfloat16(), angle.sin().bfloat16()
        whole = [i % 4 == 3 or i == len(self.layers) - 1 for i in range(len(self.layers))]
        self.windows = [None if is_whole else sequence // 2 - 1 for is_whole in whole]

    def loss(self, rows):
        tokens, targets = rows[:, :-1], rows[:, 1:]
        norm = lambda x: F.rms_norm(x, (x.size(-1),))
        x = x0 = norm(self.wte[tokens].bfloat16())
        for layer, window in zip(self.layers, self.windows):
            x = layer["residual"] * x + layer["feedback"] * x0
            x = x + self.flash(layer, norm(x), tokens, window)
            x = x + F.relu(norm(x) @ layer["fc"].T).square() @ layer["proj"].T
        logits = SOFTCAP * torch.tanh((norm(x) @ self.head.T).float() / SOFTCAP)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def flash(self, layer, x, tokens, window):
        B, T, C = x.shape
        q, k, v = ((x @ layer[name].T).view(B, T, -1, self.head_dim) for name in "qkv")
        if "ve" in layer:
            gate = GATE_SCALE * torch.sigmoid(x[..., : layer["gate"].shape[1]] @ layer["gate"].T)
            v = v + gate[..., None] * layer["ve"][tokens].bfloat16().view(v.shape)

        def turned(x):
            a, b = x.chunk(2, -1)
            x = torch.cat([a * self.cosine + b * self.sine, b * self.cosine - a * self.sine], -1)
            return F.rms_norm(x, (self.head_dim,))

        window = {} if window is None else dict(window_size_left=window, window_size_right=0)
        attention = torch.ops.aten._flash_attention_forward
        y = attention(turned(q), turned(k), v, None, None, T, T, 0.0, True, False, **window)[0]
        return y.reshape(B, T, C) @ layer["o"].T


class Trainer:
    def __init__(self, shape, compiled, head_dim):
        depth, width, sequence, batch, vocabulary = shape
        self.tokens = batch * sequence
        self.rows = torch.randint(vocabulary, (batch, sequence + 1))
        make = torch.compile if compiled else lambda f: f
        weights = initial(depth, width, head_dim, vocabulary)
        model = Model(weights) if self.rows.device.type == "cpu" else FlashModel(weights, sequence, head_dim)
        self.loss, self.adamw, self.muon = make(model.loss), make(adamw), make(muon)
        tables, stacks = [("wte", model.wte), ("head", model.head)], {}
        for layer in model.layers:
            for name, tensor in layer.items():
                if name in RATES:
                    tables.append((name, tensor))
                else:
                    stacks.setdefault(tuple(tensor.shape), []).append(tensor)
        self.tables = [tensor for _, tensor in tables]
        self.rates = [torch.tensor(RATES[name]) for name, _ in tables]
        self.firsts = [torch.zeros_like(t) for t in self.tables]
        self.seconds = [torch.zeros_like(t) for t in self.tables]
        self.stacks = []
        for (rows, columns), tensors in stacks.items():
            momentum = torch.zeros(len(tensors), rows, columns)
            second = momentum.mean(-1 if rows >= columns else -2, keepdim=True)
            self.stacks.append((tensors, momentum, second))
        self.factors = torch.tensor(0.04), torch.tensor(0.9), torch.tensor(0.2)
        self.step_number = torch.tensor(0.0)

    def step(self):
        with torch.autocast(self.rows.device.type, torch.bfloat16, enabled=self.rows.device.type != "cpu"):
            loss = self.loss(self.rows)
        loss.backward()
        self.step_number += 1
        with torch.no_grad():
            grads = [t.grad for t in self.tables]
            self.adamw(self.tables, grads, self.firsts, self.seconds, self.rates, self.step_number)
            for tensors, momentum, second in self.stacks:
                grad = torch.stack([t.grad for t in tensors])
                updated = self.muon(torch.stack(tensors), grad, momentum, second, *self.factors)
                torch._foreach_copy_(tensors, list(updated.unbind()))
            for tensor in self.tables + [t for tensors, *_ in self.stacks for t in tensors]:
                tensor.grad = None
        return loss.item()


def main():
    mode, shape, threads = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], int(sys.argv[3])
    torch.set_num_threads(threads)
    if mode == "compile":
        from torch._inductor import config as inductor

        inductor.cpp.threads = threads  # otherwise compiled loops take every core
    torch.set_default_device(sys.argv[4] if len(sys.argv) > 4 else "cpu")
    torch.manual_seed(0)
    trainer = Trainer(shape, mode == "compile", int(sys.argv[5]) if len(sys.argv) > 5 else HEAD_DIM)
    trainer.step()
    print(json.dumps(dict(first_step_seconds=time.perf_counter() - STARTED)), flush=True)
    for _ in range(4):
        trainer.step()
    for line in sys.stdin:
        seconds, started, cpu, steps = float(line), time.perf_counter(), time.process_time(), 0
        while steps < 3 or time.perf_counter() - started < seconds:
            trainer.step()
            steps += 1
        tokens = steps * trainer.tokens
        answer = dict(tokens_per_second=tokens / (time.perf_counter() - started))
        print(
            json.dumps(answer | dict(cpu_tokens_per_second=tokens / (time.process_time() - cpu))), flush=True
        )


if __name__ == "__main__":
    main()
