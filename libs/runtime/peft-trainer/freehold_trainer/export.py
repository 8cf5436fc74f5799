"""Adapters as other programs load them: GGUF for llama.cpp, safetensors for PEFT."""

import json
import re
import struct

import numpy

from .names import MODULES, halves_of_pairs, peft_name
from .state import write_safetensors, write_whole

ALIGNMENT = 32
U32, F32_VALUE, TEXT = 4, 6, 8
TENSOR_F32 = 0


def export_adapter(plan, tensors, head_width, format_, folder):
    weights = {name: array for name, array in tensors.items() if not name.startswith('adamw.')}
    if format_ == 'gguf-lora':
        return [write_whole(folder, 'adapter.gguf', lora_gguf(plan, weights))]
    config = (json.dumps(peft_config(plan), indent=2) + '\n').encode()
    return [
        write_whole(folder, 'adapter_config.json', config),
        write_whole(folder, 'adapter_model.safetensors', peft_weights(weights, head_width)),
    ]


def peft_config(plan):
    method = plan['method']
    return {
        'peft_type': 'LORA',
        'task_type': 'CAUSAL_LM',
        'base_model_name_or_path': plan['base']['model'],
        'r': method['r'],
        'lora_alpha': method['alpha'],
        'lora_dropout': 0,
        'target_modules': [MODULES[target][1] for target in method['targets']],
        'bias': 'none',
        'fan_in_fan_out': False,
        'inference_mode': True,
        'init_lora_weights': True,
        'layers_to_transform': None,
        'layers_pattern': None,
        'modules_to_save': None,
        'revision': None,
    }


def peft_weights(weights, head_width):
    renamed = {}
    for name, array in weights.items():
        layer, target, side = re.fullmatch(r'blk\.(\d+)\.(\w+)\.weight\.lora_([ab])', name).groups()
        renamed[peft_name(layer, target, side)] = halves_of_pairs(array, target, side, head_width)
    return write_safetensors({'format': 'pt'}, renamed)


def lora_gguf(plan, weights):
    """GGUF version 3 of F32 tensors; the same layout as models/freehold-tiny/gguf writes."""
    metadata = [
        _entry('general.alignment', U32, struct.pack('<I', ALIGNMENT)),
        _entry('general.architecture', TEXT, _text('llama')),
        _entry('general.type', TEXT, _text('adapter')),
        _entry('general.name', TEXT, _text(plan['base']['model'])),
        _entry('general.file_type', U32, struct.pack('<I', 0)),
        _entry('adapter.type', TEXT, _text('lora')),
        _entry('adapter.lora.alpha', F32_VALUE, struct.pack('<f', plan['method']['alpha'])),
    ]
    directory, bodies, offset = [], [], 0
    for name in sorted(weights):
        body = numpy.ascontiguousarray(weights[name], '<f4').tobytes()
        rows, columns = weights[name].shape
        directory.append(_text(name) + struct.pack('<IQQIQ', 2, columns, rows, TENSOR_F32, offset))
        padded = body + bytes(-len(body) % ALIGNMENT)
        bodies.append(padded)
        offset += len(padded)
    head = struct.pack('<4sIQQ', b'GGUF', 3, len(directory), len(metadata)) + b''.join(metadata + directory)
    return head + bytes(-len(head) % ALIGNMENT) + b''.join(bodies)


def _text(value):
    data = value.encode()
    return struct.pack('<Q', len(data)) + data


def _entry(key, kind, value):
    return _text(key) + struct.pack('<I', kind) + value
