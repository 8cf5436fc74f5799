#!/usr/bin/env python3
"""Writes a checkpoint's weights as F16 safetensors: python3 export.py --run DIR --out FILE [--average]."""

import argparse
import json
import os
import struct

import torch

from model import CONFIG, Tiny


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--run', required=True)
    arguments.add_argument('--out', required=True)
    arguments.add_argument('--average', action='store_true', help='the running average instead of the last weights')
    options = arguments.parse_args()
    saved = torch.load(os.path.join(options.run, 'checkpoint.pt'), map_location='cpu')
    weights = saved['average'] if options.average else saved['model']
    header = {'__metadata__': {'format': 'pt', 'model': 'freehold-tiny', 'config': json.dumps(CONFIG), 'rope': 'interleaved',
                               'seed': str(saved['seed']), 'step': str(saved['step']), 'steps': str(saved['steps'])}}
    bodies, at = [], 0
    for name, _ in Tiny().named_parameters():
        body = weights[name].detach().to(torch.float16).contiguous().numpy().astype('<f2').tobytes()
        header[name] = {'dtype': 'F16', 'shape': list(weights[name].shape), 'data_offsets': [at, at + len(body)]}
        bodies.append(body)
        at += len(body)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(options.out + '.new', 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + b''.join(bodies))
    os.replace(options.out + '.new', options.out)
    print(f'{options.out}: step {saved["step"]} of {saved["steps"]}, {at / 2:.0f} weights')


if __name__ == '__main__':
    main()
