"""LoRA training steps of a Llama in plain PyTorch: what the reference trainer's losses are held against.

Usage: torch-steps.py JOB.json. The job names a safetensors file of the base (llama.cpp's tensor names), one of the
adapter's first state, the plan's numbers and the examples of each step; one JSON line per step is printed. Written
independently of the reference trainer: autograd makes the gradients, torch.optim.AdamW the steps.
"""

import json
import math
import struct
import sys

import numpy
import torch
import torch.nn.functional as F


def read_safetensors(path):
    with open(path, 'rb') as file:
        data = file.read()
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry['data_offsets'])
        kind = {'F16': '<f2', 'F32': '<f4'}[entry['dtype']]
        tensors[name] = torch.from_numpy(numpy.frombuffer(data[begin:end], kind).astype(numpy.float32).reshape(entry['shape']))
    return tensors


class Llama:
    def __init__(self, config, base, adapter, scale):
        self.config, self.base, self.adapter, self.scale = config, base, adapter, scale
        half = config['width'] // config['heads'] // 2
        frequency = config['ropeBase'] ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(config['context'], dtype=torch.float64)[:, None] * frequency[None, :]
        self.turn = torch.complex(angle.cos(), angle.sin()).to(torch.complex64)

    def linear(self, name, x):
        y = F.linear(x, self.base[name])
        if f'{name}.lora_a' not in self.adapter:
            return y
        return y + self.scale * F.linear(F.linear(x, self.adapter[f'{name}.lora_a']), self.adapter[f'{name}.lora_b'])

    def norm(self, name, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config['normEpsilon']) * self.base[name]

    def rotate(self, x):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turn[:x.shape[0], None, :]).flatten(-2)

    def logits(self, tokens):
        heads = self.config['heads']
        x = self.base['token_embd.weight'][tokens]
        count = len(tokens)
        hidden = torch.full((count, count), -math.inf).triu(1)
        for layer in range(self.config['layers']):
            part = f'blk.{layer}'
            n = self.norm(f'{part}.attn_norm.weight', x)
            q, k, v = (self.linear(f'{part}.attn_{each}.weight', n).view(count, heads, -1) for each in 'qkv')
            q, k = self.rotate(q), self.rotate(k)
            score = torch.einsum('ihd,jhd->hij', q, k) / math.sqrt(q.shape[-1]) + hidden
            mixed = torch.einsum('hij,jhd->ihd', score.softmax(-1), v).reshape(count, -1)
            x = x + self.linear(f'{part}.attn_output.weight', mixed)
            n = self.norm(f'{part}.ffn_norm.weight', x)
            inner = F.silu(self.linear(f'{part}.ffn_gate.weight', n)) * self.linear(f'{part}.ffn_up.weight', n)
            x = x + self.linear(f'{part}.ffn_down.weight', inner)
        return F.linear(self.norm('output_norm.weight', x), self.base['token_embd.weight'])


def main():
    torch.set_num_threads(1)
    with open(sys.argv[1], encoding='utf8') as file:
        job = json.load(file)
    adapter = {
        name: tensor.clone().requires_grad_()
        for name, tensor in read_safetensors(job['adapter']).items()
        if not name.startswith('adamw.')
    }
    optim = job['optim']
    model = Llama(job['config'], read_safetensors(job['base']), adapter, job['scale'])
    stepper = torch.optim.AdamW(
        adapter.values(), betas=(optim['beta1'], optim['beta2']), eps=optim['epsilon'], weight_decay=optim['weightDecay'])
    for step in job['steps']:
        losses, trained = [], 0
        for example in step['examples']:
            tokens = torch.tensor(example['tokens'])
            learnt = torch.tensor(example['trained'], dtype=torch.bool)[1:]
            logits = model.logits(tokens[:-1])[learnt]
            losses.append(F.cross_entropy(logits, tokens[1:][learnt], reduction='sum'))
            trained += int(learnt.sum())
        loss = sum(losses) / trained
        stepper.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(adapter.values(), optim['clipNorm'] or math.inf)
        for group in stepper.param_groups:
            group['lr'] = step['learningRate']
        stepper.step()
        print(json.dumps({'loss': loss.item(), 'gradNorm': float(norm)}), flush=True)


if __name__ == '__main__':
    main()
