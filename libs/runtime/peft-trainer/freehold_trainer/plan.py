"""The plan's hash, its segments, its batches: rules that libs/protocol and libs/domain state in TypeScript."""

import hashlib
import hmac
import json
import struct
from decimal import Decimal

BATCH_LABEL = b'freehold/batch/v1'
LORA_LABEL = b'freehold lora v1\n'


def js_number(value):
    """A finite number as JavaScript writes it: shortest digits, exponents only below 1e-6 and from 1e21 on."""
    if isinstance(value, int):
        return str(value)
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = ''.join(map(str, digits))
    point = len(text) + exponent
    minus = '-' if sign else ''
    if -6 < point <= 0:
        return f'{minus}0.{"0" * -point}{text}'
    if 0 < point <= 21:
        return f'{minus}{text[:point]}.{text[point:]}'
    mantissa = text[0] + ('.' + text[1:] if len(text) > 1 else '')
    return f'{minus}{mantissa}e{"+" if point > 0 else "-"}{abs(point - 1)}'


def canonical_json(value):
    """JSON with keys sorted and no spaces: the bytes that are hashed."""
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float)):
        return js_number(value)
    if isinstance(value, list):
        return '[' + ','.join(canonical_json(item) for item in value) + ']'
    return '{' + ','.join(f'{json.dumps(key)}:{canonical_json(value[key])}' for key in sorted(value)) + '}'


def plan_hash(plan):
    return hashlib.sha256(canonical_json(plan).encode()).hexdigest()


def segments_of(plan):
    return -(-plan['steps'] // plan['segmentSteps'])


def learning_rate(plan, done):
    """The rate of the step after `done` steps."""
    optim = plan['optim']
    if done < optim['warmupSteps']:
        return optim['learningRate'] * (done + 1) / optim['warmupSteps']
    if optim['schedule'] == 'constant':
        return optim['learningRate']
    return optim['learningRate'] * (plan['steps'] - done) / (plan['steps'] - optim['warmupSteps'])


class BatchSchedule:
    """The examples of every step, a pure function of (data hash, seed, step); bound by test/vectors/batch-schedule.json."""

    def __init__(self, data_hash, seed, examples, batch_examples):
        self._key = bytes.fromhex(data_hash)
        self._seed, self._examples, self._batch = seed, examples, batch_examples
        self._orders = {}

    def batch(self, step):
        first = step * self._batch
        places = range(first, first + self._batch)
        return [self._order(at // self._examples)[at % self._examples] for at in places]

    def _order(self, epoch):
        if epoch not in self._orders:
            words = self._words(epoch)
            order = list(range(self._examples))
            for last in range(self._examples - 1, 0, -1):
                other = _below(last + 1, words)
                order[last], order[other] = order[other], order[last]
            if len(self._orders) > 1:
                self._orders.clear()
            self._orders[epoch] = order
        return self._orders[epoch]

    def _words(self, epoch):
        counter = 0
        while True:
            message = BATCH_LABEL + struct.pack('>QQQ', self._seed, epoch, counter)
            yield from struct.unpack('>4Q', hmac.new(self._key, message, hashlib.sha256).digest())
            counter += 1


def _below(limit, words):
    """A whole number in [0, limit), every one equally likely."""
    rejected_from = 2**64 - 2**64 % limit
    return next(word for word in words if word < rejected_from) % limit


def initial_a(name, seed, count, columns):
    """A new adapter's A in doubles, to be rounded to F32 once; B begins at 0."""
    bound = columns**0.5
    values = []
    counter = 0
    while len(values) < count:
        message = LORA_LABEL + name.encode() + b'\n' + struct.pack('>QQ', seed, counter)
        words = struct.unpack('>8I', hashlib.sha256(message).digest())
        values.extend((word / 2**31 - 1) / bound for word in words)
        counter += 1
    return values[:count]
