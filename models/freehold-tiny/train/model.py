"""The network of freehold-tiny: a Llama block stack small enough to train on one CPU core.

Everything works on one flat row of tokens per step. Attention alone sees the rows a step is cut into, so that every
matrix keeps its shape from step to step (a new shape would make the CPU kernels be built again).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import kernels

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


def rope_turns(config):
    """Unit complex numbers per position and pair, for the interleaved rotary embedding llama.cpp uses for Llama."""
    half = config['width'] // config['heads'] // 2
    frequency = config['ropeBase'] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(config['context'], dtype=torch.float64)[:, None] * frequency[None, :]
    return torch.complex(angle.cos(), angle.sin()).to(torch.complex64)


def rotate(x, turn):
    """Rotates neighbouring pairs of x [tokens, heads, head] by the angle of each token's position."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2)


class Normalise(torch.autograd.Function):
    """x / rms(x) * weight with a backward pass of its own: autograd's would walk over x twice as often."""

    @staticmethod
    def forward(ctx, x, weight, epsilon):
        inverse = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1] + epsilon)
        unit = x * inverse
        ctx.save_for_backward(unit, weight, inverse)
        return unit * weight

    @staticmethod
    def backward(ctx, gradient):
        unit, weight, inverse = ctx.saved_tensors
        weighted = gradient * weight
        along = (weighted * unit).mean(-1, keepdim=True)
        return weighted.addcmul_(unit, along, value=-1).mul_(inverse), (gradient * unit).sum(0), None


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x, fast=False):
        return (kernels.Norm if fast else Normalise).apply(x, self.weight, self.epsilon)


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

    def attend(self, together, turn, parts):
        """Attention in plain PyTorch, over the rows a step is cut into."""
        tokens, width = together.shape[0], together.shape[1] // 3
        head = width // self.heads
        turned = rotate(together[:, :2 * width].view(tokens, 2 * self.heads, head), turn)
        values = together[:, 2 * width:].view(tokens, self.heads, head)
        mixed, begin = [], 0
        for rows, length, bias in parts:
            cut = slice(begin, begin + rows * length)
            begin += rows * length
            both = turned[cut].view(rows, length, 2, self.heads, head).permute(2, 0, 3, 1, 4).reshape(2, rows * self.heads, length, head)
            value = values[cut].view(rows, length, self.heads, head).transpose(1, 2).reshape(rows * self.heads, length, head)
            score = torch.baddbmm(bias, both[0], both[1].transpose(1, 2), alpha=1 / math.sqrt(head))
            out = torch.bmm(F.softmax(score, dim=-1), value)
            mixed.append(out.view(rows, self.heads, length, head).transpose(1, 2).reshape(rows * length, width))
        return torch.cat(mixed)

    def forward(self, x, turn, parts, at=None):
        """With `at`, only those positions leave the block: behind the last one nobody reads the others.

        `parts` is what attention_parts gives, or for the kernels in C the lengths of the documents.
        """
        fast = torch.is_tensor(parts)
        linear = kernels.Linear.apply if fast else F.linear
        # One wide product instead of three narrow ones: the CPU's kernels are half again as fast on it.
        together = linear(self.attn_norm(x, fast), torch.cat((self.attn_q.weight, self.attn_k.weight, self.attn_v.weight)))
        mixed = kernels.Attention.apply(together, turn, parts, self.heads) if fast else self.attend(together, turn, parts)
        if at is not None:
            x, mixed = x[at], mixed[at]
        x = x + linear(mixed, self.attn_output.weight)
        both = linear(self.ffn_norm(x, fast), torch.cat((self.ffn_gate.weight, self.ffn_up.weight)))
        if fast:
            return x + linear(kernels.Gate.apply(both), self.ffn_down.weight)
        gate, up = both.chunk(2, dim=1)
        return x + self.ffn_down(F.silu(gate) * up)


class Tiny(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config['vocab'], config['width'])
        self.blk = nn.ModuleList(Block(config) for _ in range(config['layers']))
        self.output_norm = RmsNorm(config['width'], config['normEpsilon'])
        self.register_buffer('turns', rope_turns(config), persistent=False)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and 'token_embd' not in name:
                scale = 0.5 if name.endswith(('attn_q.weight', 'attn_k.weight', 'attn_output.weight', 'ffn_down.weight')) else 1.0
                nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))

    def forward(self, ids, position, parts, at):
        """Logits at the flat indices `at` only: the head is a sixth of the work and most tokens are not answers."""
        x = self.token_embd(ids)
        fast = torch.is_tensor(parts)
        turn = torch.view_as_real(self.turns).flatten(1) if fast else self.turns[position][:, None, :]
        for block in self.blk[:-1]:
            x = block(x, turn, parts)
        linear = kernels.Linear.apply if fast else F.linear
        return linear(self.output_norm(self.blk[-1](x, turn, parts, at), fast), self.token_embd.weight)


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


def document_lengths(position):
    """Lengths of the documents that follow one another, for the kernels in C."""
    begins = (position == 0).nonzero().flatten()
    return torch.diff(begins, append=torch.tensor([len(position)])).to(torch.int32)
