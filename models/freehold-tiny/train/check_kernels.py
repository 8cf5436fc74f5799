#!/usr/bin/env python3
"""Holds kernels.c against plain PyTorch: python3 check_kernels.py. Loss and every gradient of a step must agree."""

import sys

import torch
import torch.nn.functional as F

import kernels
from model import CONFIG, Tiny, attention_parts, document_lengths

ROW = 512
LENGTHS = [1, 2, 15, 16, 17, 33, 100, 328]
DIFFERENCE_MAX = 1e-4


def gradients(model, ids, position, parts, at):
    model.zero_grad()
    loss = F.cross_entropy(model(ids, position, parts, at), ids[at])
    loss.backward()
    return loss.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


def main():
    if not kernels.available():
        sys.exit('No C compiler here: training uses plain PyTorch, there is nothing to compare.')
    torch.manual_seed(1)
    model = Tiny()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    ids = torch.randint(CONFIG['vocab'], (ROW,))
    position = torch.cat([torch.arange(length) for length in LENGTHS])
    at = torch.randint(ROW, (64,))
    plain_loss, plain = gradients(model, ids, position, attention_parts(position, [(1, ROW)], CONFIG['heads']), at)
    fast_loss, fast = gradients(model, ids, position, document_lengths(position), at)
    worst = max(plain, key=lambda name: ((fast[name] - plain[name]).norm() / plain[name].norm()).item())
    difference = ((fast[worst] - plain[worst]).norm() / plain[worst].norm()).item()
    print(f'loss {plain_loss:.6f} and {fast_loss:.6f}; gradients differ by at most {difference:.1e} ({worst})')
    if abs(fast_loss - plain_loss) > DIFFERENCE_MAX or not difference < DIFFERENCE_MAX:
        sys.exit('The kernels and PyTorch do not agree.')


if __name__ == '__main__':
    main()
