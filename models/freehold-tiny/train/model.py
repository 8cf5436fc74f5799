"""The network of freehold-tiny: a Llama block stack small enough to train on one CPU core.

Everything works on one flat row of tokens per step. Attention alone sees the rows a step is cut into, so that every
matrix keeps its shape from step to step (a new shape would make the CPU kernels be built again).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    'vocab': 1536,
    'width': 128,
    'layers': 5,
    'heads': 4,
    'ffn': 320,
    'context': 1024,
    'ropeBase': 10000.0,
    'normEpsilon': 1e-5,
}


def rope_tables(config):
    """Cosines and sines per position for the interleaved rotary embedding that llama.cpp uses for this architecture."""
    half = config['width'] // config['heads'] // 2
    frequency = config['ropeBase'] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(config['context'], dtype=torch.float64)[:, None] * frequency[None, :]
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Rotates neighbouring pairs of x [tokens, heads, head] by the angle of each token's position."""
    pair = x.view(x.shape[0], x.shape[1], -1, 2)
    a, b = pair[..., 0], pair[..., 1]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).view_as(x)


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, ffn = config['width'], config['ffn']
        self.heads = config['heads']
        self.attn_norm = RmsNorm(width, config['normEpsilon'])
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = RmsNorm(width, config['normEpsilon'])
        self.ffn_gate = nn.Linear(width, ffn, bias=False)
        self.ffn_up = nn.Linear(width, ffn, bias=False)
        self.ffn_down = nn.Linear(ffn, width, bias=False)

    def forward(self, x, cos, sin, parts):
        tokens, width = x.shape
        head = width // self.heads
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(tokens, self.heads, head), cos, sin)
        k = rotate(self.attn_k(h).view(tokens, self.heads, head), cos, sin)
        v = self.attn_v(h).view(tokens, self.heads, head)
        mixed, at = [], 0
        for rows, length, bias in parts:
            cut = slice(at, at + rows * length)
            at += rows * length
            shape = lambda t: t[cut].view(rows, length, self.heads, head).transpose(1, 2).reshape(rows * self.heads, length, head)
            score = torch.baddbmm(bias, shape(q), shape(k).transpose(1, 2), alpha=1 / math.sqrt(head))
            out = torch.bmm(F.softmax(score, dim=-1), shape(v))
            mixed.append(out.view(rows, self.heads, length, head).transpose(1, 2).reshape(rows * length, width))
        x = x + self.attn_output(torch.cat(mixed))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Tiny(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config['vocab'], config['width'])
        self.blk = nn.ModuleList(Block(config) for _ in range(config['layers']))
        self.output_norm = RmsNorm(config['width'], config['normEpsilon'])
        cos, sin = rope_tables(config)
        self.register_buffer('cos', cos, persistent=False)
        self.register_buffer('sin', sin, persistent=False)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and 'token_embd' not in name:
                scale = 0.5 if name.endswith(('attn_output.weight', 'ffn_down.weight')) else 1.0
                nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))

    def forward(self, ids, position, parts, at):
        """Logits at the flat indices `at` only: the head is a sixth of the work and most tokens are not answers."""
        x = self.token_embd(ids)
        cos, sin = self.cos[position], self.sin[position]
        for block in self.blk:
            x = block(x, cos, sin, parts)
        return F.linear(self.output_norm(x[at]), self.token_embd.weight)


def attention_parts(position, layout, heads):
    """One additive mask per part of the layout [(rows, length)]: causal, and blind to other documents of the same row."""
    parts, at = [], 0
    for rows, length in layout:
        start = (position[at:at + rows * length].view(rows, length) == 0).cumsum(1)
        at += rows * length
        allowed = (start[:, :, None] == start[:, None, :]) & torch.ones(length, length, dtype=torch.bool, device=position.device).tril()
        bias = torch.zeros(rows, length, length, device=position.device).masked_fill_(~allowed, -1e30)
        parts.append((rows, length, bias[:, None].expand(rows, heads, length, length).reshape(rows * heads, length, length)))
    return parts
