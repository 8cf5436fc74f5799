#!/usr/bin/env python3
"""Greedy answers by PyTorch, to hold llama.cpp against: python3 answer.py --weights FILE --prompts FILE --out FILE.

PROMPTS has one JSON line {"prompt": [ids]} per item, OUT gets one {"ids": [ids]} each. The loop has no cache: every
token is chosen from a whole forward pass, as in training.
"""

import argparse
import json
import struct

import numpy as np
import torch

from model import CONFIG, Tiny, attention_parts

END = 2
ANSWER_TOKENS_MAX = 160


def load(path):
    with open(path, 'rb') as file:
        data = file.read()
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + length])
    model = Tiny()
    state = {}
    for name, _ in model.named_parameters():
        start, end = header[name]['data_offsets']
        values = np.frombuffer(data[8 + length + start:8 + length + end], dtype='<f2').astype(np.float32)
        state[name] = torch.from_numpy(values).view(header[name]['shape'])
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('weights', 'prompts', 'out'):
        arguments.add_argument(f'--{name}', required=True)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    model = load(options.weights)
    with open(options.prompts, encoding='utf8') as prompts, open(options.out, 'w', encoding='utf8') as out:
        for line in prompts:
            ids = json.loads(line)['prompt']
            answer = []
            while len(answer) < ANSWER_TOKENS_MAX and len(ids) + len(answer) < CONFIG['context']:
                flat = torch.tensor(ids + answer)
                position = torch.arange(len(flat))
                parts = attention_parts(position, [(1, len(flat))], CONFIG['heads'])
                token = int(model(flat, position, parts, torch.tensor([len(flat) - 1]))[0].argmax())
                if token == END:
                    break
                answer.append(token)
            out.write(json.dumps({'ids': answer}) + '\n')


if __name__ == '__main__':
    main()
