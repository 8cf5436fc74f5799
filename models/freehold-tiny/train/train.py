#!/usr/bin/env python3
"""Trains freehold-tiny on the shards of corpus/make-shards.mjs, on one CPU core or a GPU.

    python3 train.py --corpus DIR --run DIR [--seed 1] [--steps 16000] [--until N] [--device cpu]

The batch and the learning rate of a step depend on the step alone, so a run can be stopped at any time and goes on from
its last checkpoint. Everything it measures is one JSON line per event in RUN/log.jsonl.
"""

import argparse
import json
import os
import resource
import time

# Debian's OpenBLAS does not know every virtual processor and then falls back to kernels seven times slower (14 GFLOP/s instead of 95).
if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo', encoding='ascii', errors='replace') as info:
        flags = info.read()
    if 'avx512f' in flags:
        os.environ.setdefault('OPENBLAS_CORETYPE', 'SkylakeX')
    elif 'avx2' in flags:
        os.environ.setdefault('OPENBLAS_CORETYPE', 'Haswell')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import torch
import torch.nn.functional as F

import kernels
from model import CONFIG, Tiny, attention_parts, document_lengths

STEP_TOKENS = 4096
SHARD_STEPS = 250
LONG_EVERY = 8
EVAL_LAYOUT = [(8, 512)]
# Answer tokens a step is counted with, the rest of the shape is padding; a step that has more (1,240 at most) leaves out the last.
ANSWERS = 1184
WARM_UP = 100
EQUAL_STEPS = 1200
RATE_KNOTS = [(0, 1.0)]
MATRIX_RATE = 0.02
VECTOR_RATE = 0.004
MOMENTUM = 0.95
# Share of its size a matrix loses per step at rate 1, and how much slower queries and keys learn. Without both, scores grow
# until every head looks at one token alone; from then on nothing new to look at is found, and looking up never forms.
DECAY = 0.1
SCORE_RATE = 0.5
AVERAGE = 0.995
LOG_EVERY = 25
SAVE_EVERY = 100
EVAL_EVERY = 500


def parts_of(position, layout):
    """What attention needs to know of a step: lengths for the kernels in C, masks for PyTorch."""
    if position.device.type == 'cpu' and kernels.available():
        return document_lengths(position)
    return attention_parts(position, layout, CONFIG['heads'])


def layout_of(step):
    """Rows of a step, as corpus/make-shards.mjs lays them."""
    return [(24, 128), (1, 1024)] if step % LONG_EVERY == LONG_EVERY - 1 else [(28, 128), (1, 512)]


def read_steps(path):
    """(ids, positions, targets) of every step in a file."""
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % (STEP_TOKENS * 5) != 0:
        raise ValueError(f'{path}: expected whole steps of {STEP_TOKENS * 5} bytes, got {raw.size} bytes.')
    raw = raw.reshape(-1, STEP_TOKENS * 5)
    ids = raw[:, :STEP_TOKENS * 2].copy().view(np.uint16).astype(np.int64)
    positions = raw[:, STEP_TOKENS * 2:STEP_TOKENS * 4].copy().view(np.uint16).astype(np.int64)
    return ids, positions, raw[:, STEP_TOKENS * 4:].copy()


def weights_of(targets, step):
    """A weight per answer token: equal at first, then 1/sqrt(length of its answer).

    Long copies drown labels of one token, but out of them grows the looking-up that most families need. So they lead
    until it is there.
    """
    if step < EQUAL_STEPS:
        return np.ones(int(targets.sum()), dtype=np.float32)
    edges = np.diff(np.concatenate(([0], targets.astype(np.int8), [0])))
    lengths = np.nonzero(edges == -1)[0] - np.nonzero(edges == 1)[0]
    return np.repeat(1 / np.sqrt(lengths), lengths).astype(np.float32)


def rate_of(step, steps):
    """Share of the full learning rate: a short rise, then straight lines through RATE_KNOTS to 0 at the last step."""
    knots = RATE_KNOTS + [(steps, 0.0)]
    for (begin, high), (end, low) in zip(knots, knots[1:]):
        if step < end:
            return min(1.0, (step + 1) / WARM_UP) * (high + (low - high) * (step - begin) / (end - begin))
    return 0.0


class Shards:
    def __init__(self, folder):
        self.folder, self.number, self.steps = folder, -1, None

    def step(self, step):
        if step // SHARD_STEPS != self.number:
            self.number = step // SHARD_STEPS
            self.steps = read_steps(os.path.join(self.folder, f'shard-{self.number:03d}.bin'))
        return [part[step % SHARD_STEPS] for part in self.steps]


def orthogonal(matrices):
    """The nearest orthogonal matrices, roughly: five Newton-Schulz steps (coefficients of the Muon optimizer)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    if matrices[0].device.type == 'cpu' and kernels.available():
        return [orthogonal_by_kernels(matrix, a, b, c) for matrix in matrices]
    x = torch.stack(matrices)
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        s = torch.bmm(x, x.transpose(1, 2))
        x = a * x + torch.bmm(b * s + c * torch.bmm(s, s), x)
    return x


def orthogonal_by_kernels(matrix, a, b, c):
    x = (matrix / (matrix.norm() + 1e-7)).contiguous()
    for _ in range(5):
        s = kernels.product(x, x, flip_b=True)
        x = kernels.product(kernels.product(s, s).mul_(c).add_(s, alpha=b), x).add_(x, alpha=a)
    return x


class Muon:
    """Momentum, made orthogonal, for the matrices inside the blocks. Same shapes share one batch of products."""

    def __init__(self, weights, scoring):
        self.groups = {}
        self.scoring = {id(weight) for weight in scoring}
        for weight in weights:
            self.groups.setdefault((min(weight.shape), max(weight.shape)), []).append(weight)
        self.momentum = {key: [torch.zeros_like(w) for w in group] for key, group in self.groups.items()}

    @torch.no_grad()
    def step(self, rate):
        for key, group in self.groups.items():
            updates = []
            for weight, momentum in zip(group, self.momentum[key]):
                momentum.mul_(MOMENTUM).add_(weight.grad)
                update = weight.grad.add(momentum, alpha=MOMENTUM)
                updates.append(update.T if weight.shape[0] > weight.shape[1] else update)
            for weight, update in zip(group, orthogonal(updates)):
                update = update.T if weight.shape[0] > weight.shape[1] else update
                share = SCORE_RATE if id(weight) in self.scoring else 1.0
                weight.mul_(1 - rate * DECAY)
                weight.add_(update, alpha=-rate * share * max(1, weight.shape[0] / weight.shape[1]) ** 0.5)

    def state_dict(self):
        return self.momentum

    def load_state_dict(self, state):
        for key, momentum in state.items():
            for mine, saved in zip(self.momentum[key], momentum):
                mine.copy_(saved)


@torch.no_grad()
def exact_matches(model, folder, name, device):
    """Share of held-out documents whose every answer token is the likeliest: greedy decoding would write the same."""
    ids, positions, targets = read_steps(os.path.join(folder, f'held-{name}.bin'))
    with open(os.path.join(folder, f'held-{name}.json'), encoding='utf8') as file:
        families = json.load(file)
    right, total, at = {}, {}, 0
    for i in range(ids.shape[0]):
        answers = np.nonzero(targets[i])[0]
        position = torch.from_numpy(positions[i]).to(device)
        document = np.cumsum(positions[i] == 0) - 1
        index = torch.from_numpy(answers - 1).to(device)
        parts = parts_of(position, EVAL_LAYOUT)
        guess = model(torch.from_numpy(ids[i]).to(device), position, parts, index).argmax(-1).cpu().numpy()
        good = guess == ids[i][answers]
        for document_number in np.unique(document[answers]):
            family = families[at]
            at += 1
            total[family] = total.get(family, 0) + 1
            right[family] = right.get(family, 0) + int(good[document[answers] == document_number].all())
    if at != len(families):
        raise ValueError(f'held-{name}: {len(families)} documents listed, {at} found.')
    shares = {family: right[family] / total[family] for family in total}
    return {'items': at, 'overall': sum(right.values()) / at, 'mean': sum(shares.values()) / len(shares),
            'families99': sum(share >= 0.99 for share in shares.values()), 'families': shares}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--corpus', required=True)
    arguments.add_argument('--run', required=True)
    arguments.add_argument('--seed', type=int, default=1)
    arguments.add_argument('--steps', type=int, default=16000, help='length of the schedule')
    arguments.add_argument('--until', type=int, help='stop before this step, with a checkpoint')
    arguments.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    arguments.add_argument('--matrix-rate', type=float, default=MATRIX_RATE)
    arguments.add_argument('--vector-rate', type=float, default=VECTOR_RATE)
    options = arguments.parse_args()
    os.makedirs(options.run, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)

    model = Tiny().to(options.device)
    matrices = [w for name, w in model.named_parameters() if w.dim() == 2 and 'token_embd' not in name]
    others = [w for name, w in model.named_parameters() if w.dim() != 2 or 'token_embd' in name]
    muon = Muon(matrices, [w for name, w in model.named_parameters() if 'attn_q' in name or 'attn_k' in name])
    adam = torch.optim.AdamW(others, lr=options.vector_rate, betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0)
    average = {name: w.detach().clone() for name, w in model.named_parameters()}
    checkpoint = os.path.join(options.run, 'checkpoint.pt')
    start, cpu_before, wall_before = 0, 0.0, 0.0
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, map_location=options.device)
        model.load_state_dict(saved['model'])
        muon.load_state_dict(saved['muon'])
        adam.load_state_dict(saved['adam'])
        average, start, cpu_before, wall_before = saved['average'], saved['step'], saved['cpu'], saved['wall']
    began = time.time()
    cpu_seconds = lambda: cpu_before + sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    wall_seconds = lambda: wall_before + time.time() - began
    log = open(os.path.join(options.run, 'log.jsonl'), 'a', encoding='utf8')

    def note(**event):
        log.write(json.dumps(event) + '\n')
        log.flush()

    def save(step):
        state = {'model': model.state_dict(), 'muon': muon.state_dict(), 'adam': adam.state_dict(), 'average': average,
                 'step': step, 'cpu': cpu_seconds(), 'wall': wall_seconds(), 'seed': options.seed, 'steps': options.steps}
        torch.save(state, checkpoint + '.new')
        os.replace(checkpoint + '.new', checkpoint)

    def judge(step):
        for name in ('trained', 'held'):
            result = exact_matches(model, options.corpus, name, options.device)
            note(event='eval', step=step, tokens=step * STEP_TOKENS, wordings=name, cpuS=round(cpu_seconds(), 1), **result)

    shards = Shards(options.corpus)
    until = min(options.steps, options.until or options.steps)
    losses = []
    for step in range(start, until):
        ids, position, targets = shards.step(step)
        answers = np.nonzero(targets)[0][:ANSWERS]
        at = np.zeros(ANSWERS, dtype=np.int64)
        at[:answers.size] = answers - 1
        wanted = np.zeros(ANSWERS, dtype=np.int64)
        wanted[:answers.size] = ids[answers]
        weights = np.zeros(ANSWERS, dtype=np.float32)
        weights[:answers.size] = weights_of(targets, step)[:ANSWERS]
        weights /= weights.sum()
        to = lambda array: torch.from_numpy(array).to(options.device)
        parts = parts_of(to(position), layout_of(step))
        logits = model(to(ids), to(position), parts, to(at))
        loss = (F.cross_entropy(logits, to(wanted), reduction='none') * to(weights)).sum()
        for weight in model.parameters():
            weight.grad = None
        loss.backward()
        rate = rate_of(step, options.steps)
        muon.step(options.matrix_rate * rate)
        for group in adam.param_groups:
            group['lr'] = options.vector_rate * rate
        adam.step()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                average[name].lerp_(weight, 1 - AVERAGE)
        losses.append(loss.item())
        done = step + 1
        if done % LOG_EVERY == 0:
            note(event='step', step=done, tokens=done * STEP_TOKENS, loss=round(sum(losses) / len(losses), 5),
                 rate=round(rate, 5), cpuS=round(cpu_seconds(), 1), wallS=round(wall_seconds(), 1))
            losses = []
        if done % SAVE_EVERY == 0 or done == until:
            save(done)
        if done % EVAL_EVERY == 0 or done == options.steps:
            judge(done)


if __name__ == '__main__':
    main()
