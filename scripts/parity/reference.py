"""Repeats a run of the trainer in PyTorch, with the default model and optimizer, and compares the losses.

Usage: reference.py FILE, where FILE comes from `cargo run -p autoswarm-trainer --example parity FILE`.

Written for this comparison alone, one matrix at a time and in the plainest form, so that it shares no
shortcut with the trainer: no stacked weights, no fused projections, no joint rotation of queries and keys.
"""

import json
import struct
import sys

import torch
import torch.nn.functional as F

TOLERANCE = 1e-3
HEAD_DIM, SOFTCAP, GATE_SCALE, ROPE_BASE = 32, 15.0, 2.0, 10_000.0
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def read_safetensors(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = torch.frombuffer(
                bytearray(data[8 + length + first : 8 + length + last]), dtype=torch.float32
            )
            tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


def rms(x):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)


def rotate(x):
    """Rotates [B, T, H, D] by position; dimension i of the first half pairs with i of the second."""
    half = x.shape[-1] // 2
    position = torch.arange(x.shape[1], dtype=torch.float64)
    frequency = ROPE_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(position, frequency)[:, None, :]
    cosine, sine = angle.cos().float(), angle.sin().float()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cosine + b * sine, b * cosine - a * sine], -1)


class Model:
    """The default config's model, each matrix a tensor of its own."""

    def __init__(self, saved):
        self.wte, self.head = saved["embedding"], saved["unembedding"]
        width = self.wte.shape[1]
        self.layers, value = [], 0
        depth = saved["attention_in"].shape[0]
        for i in range(depth):
            q, k, v = saved["attention_in"][i].split(width)
            layer = dict(
                q=q, k=k, v=v, o=saved["attention_out"][i], fc=saved["mlp_in"][i], proj=saved["mlp_out"][i]
            )
            layer |= dict(residual=saved["residual_factor"][i], feedback=saved["feedback_factor"][i])
            if i % 2 == (depth - 1) % 2:
                layer |= dict(ve=saved["value_embedding"][value], gate=saved["value_gate"][value])
                value += 1
            self.layers.append({name: tensor.clone().requires_grad_() for name, tensor in layer.items()})
        self.wte, self.head = self.wte.clone().requires_grad_(), self.head.clone().requires_grad_()

    def loss(self, rows):
        tokens, targets = rows[:, :-1], rows[:, 1:]
        x = x0 = rms(self.wte[tokens])
        for layer in self.layers:
            x = layer["residual"] * x + layer["feedback"] * x0
            x = x + self.attention(layer, rms(x), tokens)
            x = x + F.relu(rms(x) @ layer["fc"].T).square() @ layer["proj"].T
        logits = SOFTCAP * torch.tanh(rms(x) @ self.head.T / SOFTCAP)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def attention(self, layer, x, tokens):
        B, T, C = x.shape
        q, k, v = ((x @ layer[name].T).view(B, T, -1, HEAD_DIM) for name in "qkv")
        if "ve" in layer:
            gate = GATE_SCALE * torch.sigmoid(x[..., : layer["gate"].shape[1]] @ layer["gate"].T)
            v = v + gate[..., None] * layer["ve"][tokens].view(v.shape)
        q, k = rms(rotate(q)), rms(rotate(k))
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
        return y.transpose(1, 2).reshape(B, T, C) @ layer["o"].T


class AdamW:
    def __init__(self, parameter, rate, betas):
        self.parameter, self.rate, self.betas = parameter, rate, betas
        self.m, self.v, self.t = torch.zeros_like(parameter), torch.zeros_like(parameter), 0

    def step(self, factor, _progress):
        (b1, b2), g = self.betas, self.parameter.grad
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        m, v = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        self.parameter -= factor * self.rate * m / (v.sqrt() + 1e-10)


class Muon:
    def __init__(self, parameter):
        self.parameter, self.buffer, self.v = parameter, torch.zeros_like(parameter), 0.0

    def step(self, factor, progress):
        p, g = self.parameter, self.parameter.grad
        momentum = 0.85 + (0.95 - 0.85) * min(progress / 0.3, 1)
        self.buffer = momentum * self.buffer + (1 - momentum) * g
        x = (1 - momentum) * g + momentum * self.buffer
        x = x / (1.02 * x.norm() + 1e-6)
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        for a, b, c in POLAR_EXPRESS:
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        x = x.T if tall else x
        mean = (x * x).mean(1 if p.shape[0] >= p.shape[1] else 0, keepdim=True)
        self.v = 0.95 * self.v + 0.05 * mean
        scaled = x / self.v.clamp_min(1e-10).sqrt()
        update = scaled * x.norm() / scaled.norm().clamp_min(1e-10)
        decay = 0.2 * (1 - progress)
        rate = factor * 0.04 * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
        p -= rate * (update + decay * p * (update * p >= 0))


def optimizers(model):
    scale = (model.wte.shape[1] / 768) ** -0.5
    usual = (0.8, 0.95)
    out = [AdamW(model.wte, 0.6 * scale, usual), AdamW(model.head, 0.004 * scale, usual)]
    for layer in model.layers:
        out += [Muon(layer[name]) for name in ("q", "k", "v", "o", "fc", "proj", "gate") if name in layer]
        out.append(AdamW(layer["residual"], 0.5 * 0.01, usual))
        out.append(AdamW(layer["feedback"], 0.5, (0.96, 0.95)))
        if "ve" in layer:
            out.append(AdamW(layer["ve"], 0.6 * scale, usual))
    return out


def train_step(model, optimizers, rows, progress):
    loss = model.loss(rows)
    for optimizer in optimizers:
        optimizer.parameter.grad = None
    loss.backward()
    factor = 1.0 if progress <= 0.5 else 2 * (1 - progress)
    with torch.no_grad():
        for optimizer in optimizers:
            optimizer.step(factor, progress)
    return loss.item()


def compare(path):
    saved = read_safetensors(path)
    model = Model(saved)
    groups = optimizers(model)
    steps = len(saved["losses"])
    worst = 0.0
    for step in range(steps):
        ours = saved["losses"][step].item()
        theirs = train_step(model, groups, saved["rows"][step].long(), step / steps)
        difference = abs(ours - theirs) / theirs
        worst = max(worst, difference)
        if step % 10 in (0, 9):
            print(
                f"step {step:2}: trainer {ours:.6f}  PyTorch {theirs:.6f}"
                f"  relative difference {difference:.1e}"
            )
    print(f"largest relative difference over {steps} steps: {worst:.2e} (allowed: {TOLERANCE:.0e})")
    return 0 if worst <= TOLERANCE else 1


def main():
    torch.set_num_threads(1)
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    return compare(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
