"""Training states as files and hashes. Tensors carry llama.cpp's names and order of rows, in every runtime alike."""

import errno
import hashlib
import json
import os
import struct

import numpy

from .faults import Fault
from .plan import plan_hash

FORMAT = 'freehold training state v1'
HEADER_BYTES_MAX = 1 << 24
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def state_hash(step, tensors):
    """sha256 over the tensors in the order of their names, little endian; `stateHash` of libs/protocol."""
    digest = hashlib.sha256(f'{FORMAT}\n'.encode() + struct.pack('<Q', step))
    for name in sorted(tensors):
        array = tensors[name]
        text = name.encode()
        digest.update(struct.pack('<I', len(text)) + text + struct.pack('<I', array.ndim))
        digest.update(struct.pack(f'<{array.ndim}Q', *array.shape))
        digest.update(numpy.ascontiguousarray(array, '<f4').tobytes())
    return digest.hexdigest()


def write_safetensors(metadata, tensors):
    header, bodies, offset = {'__metadata__': metadata}, [], 0
    for name in sorted(tensors):
        body = numpy.ascontiguousarray(tensors[name], '<f4').tobytes()
        header[name] = {'dtype': 'F32', 'shape': list(tensors[name].shape), 'data_offsets': [offset, offset + len(body)]}
        offset += len(body)
        bodies.append(body)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + b''.join(bodies)


def read_safetensors(data):
    """(metadata, tensors) of F32 tensors. The file is untrusted: every size is checked before it is believed."""
    try:
        (length,) = struct.unpack('<Q', data[:8])
        if length > HEADER_BYTES_MAX or 8 + length > len(data):
            raise ValueError('its header is longer than the file')
        header = json.loads(data[8:8 + length])
        metadata = header.pop('__metadata__', {})
        tensors = {}
        for name, entry in header.items():
            begin, end = entry['data_offsets']
            count = 1
            for size in entry['shape']:
                count *= size
            if entry['dtype'] != 'F32' or not 0 <= begin <= end <= len(data) - 8 - length or end - begin != 4 * count:
                raise ValueError(f'tensor {name} cannot be these bytes')
            tensors[name] = numpy.frombuffer(data[8 + length + begin:8 + length + end], '<f4').reshape(entry['shape'])
        return metadata, tensors
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Fault('checkpoint_invalid', f'The checkpoint cannot be used: {error}.') from error


def encode_state(plan, step, tensors):
    metadata = {
        'format': FORMAT,
        'step': str(step),
        'plan': plan_hash(plan),
        'base': plan['base']['sha256'],
        'data': plan['data']['sha256'],
    }
    return write_safetensors(metadata, tensors)


def decode_state(plan, path, shapes):
    """(step, tensors) of a checkpoint of this very plan."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        raise Fault('checkpoint_invalid', f'The checkpoint cannot be read: {error}', True) from error
    metadata, tensors = read_safetensors(data)
    if metadata.get('format') != FORMAT:
        raise Fault('checkpoint_invalid', f'The checkpoint has the format {metadata.get("format")!r}, expected {FORMAT!r}.')
    wanted = {'base': plan['base']['sha256'], 'data': plan['data']['sha256'], 'plan': plan_hash(plan)}
    for key, value in wanted.items():
        if metadata.get(key) != value:
            raise Fault('checkpoint_mismatch', f'The checkpoint is of {key} {metadata.get(key)}, this run of {value}.')
    if {name: tuple(array.shape) for name, array in tensors.items()} != shapes:
        raise Fault('checkpoint_invalid', 'The checkpoint has other tensors than the plan.')
    if not metadata.get('step', '').isdigit() or int(metadata['step']) > plan['steps']:
        raise Fault('checkpoint_invalid', f'The checkpoint has the step {metadata.get("step")!r}.')
    return int(metadata['step']), tensors


def write_whole(folder, name, data):
    """Writes beside its place, to the disk, and renames: a file is there whole or not at all."""
    path = os.path.join(folder, name)
    part = f'{path}.part'
    try:
        with open(part, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if os.path.lexists(part):
            os.remove(part)
        if error.errno not in NO_ROOM:
            raise
        message = f'No room for {name} ({len(data)} bytes) in {folder}: free some and go on from the last checkpoint.'
        raise Fault('disk_full', message, True) from error
    return {'name': name, 'path': path, 'sha256': hashlib.sha256(data).hexdigest(), 'bytes': len(data)}
