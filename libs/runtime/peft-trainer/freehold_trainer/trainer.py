"""The trainer itself: what each request of the contract does."""

import hashlib
import math
import os

from .contract import VERSION
from .examples import encode_example, read_lines
from .export import export_adapter
from .faults import Fault
from .names import MODULES
from .plan import BatchSchedule, canonical_json, learning_rate, plan_hash, segments_of
from .state import decode_state, encode_state, state_hash, write_whole

RANK_MAX = 256
#: A guess without any knowledge loses ln(vocabulary); the reference trainer stops at the same multiple.
EXPLODED_TIMES = 2.5
HASH_BLOCK_BYTES = 1 << 24


def folder_sha256(folder):
    """sha256 of the canonical JSON of {file name: sha256} of a base's folder."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            path = os.path.join(place, name)
            digest = hashlib.sha256()
            with open(path, 'rb') as file:
                while block := file.read(HASH_BLOCK_BYTES):
                    digest.update(block)
            found[os.path.relpath(path, folder).replace(os.sep, '/')] = digest.hexdigest()
    if not found:
        raise Fault('base_unreadable', f'{folder} is no folder with a model in it.', True)
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()


class PeftTrainer:
    def __init__(self):
        self._network = None

    def hello(self, request, say, _breathe):
        if request['version'] != VERSION:
            raise Fault('version_unsupported', f'Version {request["version"]} was asked for; this trainer speaks {VERSION}.')
        network = _network_module()
        say(
            'hello',
            version=VERSION,
            runtime='peft',
            runtimeVersion=network.versions(),
            engineClass=network.engine_class(),
            caps={
                'methods': ['lora'],
                'targets': list(MODULES),
                'rankMax': RANK_MAX,
                'dtypes': network.dtypes(),
                'exports': ['gguf-lora', 'peft-safetensors'],
                # Kernels, and with them the order of additions, differ between devices and builds.
                'exact': False,
            },
        )

    def plan(self, request, say, _breathe):
        plan = request['plan']
        self._network = None
        if plan['v'] != 1 or plan['method']['kind'] != 'lora' or plan['optim']['kind'] != 'adamw':
            raise Fault('plan_unsupported', 'Plans of version 1 are read: LoRA with AdamW.')
        found = folder_sha256(request['base'])
        if found != plan['base']['sha256']:
            raise Fault('base_mismatch', f'{request["base"]} has sha256 {found}, the plan names {plan["base"]["sha256"]}.')
        data_sha256, rows = read_lines(request['data'])
        if data_sha256 != plan['data']['sha256']:
            raise Fault('data_mismatch', f'{request["data"]} has sha256 {data_sha256}, the plan names {plan["data"]["sha256"]}.')
        network = _network_module().Network(request['base'], plan)
        self._examples = [encode_example(network.tokenizer, turns, number, network.context_tokens) for number, turns in rows]
        self._schedule = BatchSchedule(data_sha256, plan['seed'], len(rows), plan['batch']['examples'])
        self._plan, self._folder, self._network = plan, request['folder'], network
        say(
            'plan',
            planHash=plan_hash(plan),
            segments=segments_of(plan),
            initialState=state_hash(0, network.state()),
            examples=len(rows),
            tokens=sum(len(tokens) for tokens, _ in self._examples),
            trainedTokens=sum(sum(learnt) for _, learnt in self._examples),
            contextTokens=network.context_tokens,
        )

    def run(self, request, say, breathe):
        network, plan = self._ready()
        first, end = request['from'], request['to']
        if not 0 <= first < end <= segments_of(plan):
            raise Fault('bad_request', f'Segments {first} to {end}: the plan has {segments_of(plan)}.')
        if (request['checkpoint'] is None) != (first == 0):
            raise Fault('bad_request', 'Segment 0 begins without a checkpoint, every other one with that of the segment before.')
        step = self._restore(request['checkpoint'])
        if step != first * plan['segmentSteps']:
            raise Fault('checkpoint_mismatch', f'The checkpoint is of step {step}; segment {first} begins elsewhere.')
        last = None
        for segment in range(first, end):
            state_in, from_step = state_hash(step, network.state()), step
            totals = {'loss': 0.0, 'trained': 0, 'tokens': 0}
            while step < min((segment + 1) * plan['segmentSteps'], plan['steps']):
                self._step(step, totals, last, say, breathe)
                step += 1
            try:
                last = write_whole(self._folder, f'segment-{segment:05d}.safetensors', encode_state(plan, step, network.state()))
            except Fault as fault:
                raise Fault(fault.code, fault.message, fault.retryable, step=step, checkpoint=last) from fault
            say(
                'segment',
                segment=segment,
                fromStep=from_step,
                toStep=step,
                stateIn=state_in,
                stateOut=state_hash(step, network.state()),
                loss=totals['loss'] / totals['trained'],
                tokens=totals['tokens'],
                checkpoint=last,
            )
        say('done')

    def _step(self, done, totals, last, say, breathe):
        network, plan = self._ready()
        batch = [self._examples[at] for at in self._schedule.batch(done)]
        trained = sum(sum(learnt) for _, learnt in batch)
        scores = network.backward(batch, 1 / trained, breathe)
        loss = sum(score['loss'] for score in scores) / trained
        norm = network.gradient_norm()
        if not math.isfinite(norm) or not loss <= EXPLODED_TIMES * math.log(network.vocabulary):
            message = f'The loss exploded at step {done + 1} (loss {loss}, gradient norm {norm}): lower the learning rate.'
            raise Fault('loss_exploded', message, step=done + 1, checkpoint=last)
        rate = learning_rate(plan, done)
        network.update(done + 1, rate, norm)
        tokens = sum(len(tokens) for tokens, _ in batch)
        totals['loss'] += loss * trained
        totals['trained'] += trained
        totals['tokens'] += tokens
        accuracy = sum(score['hits'] for score in scores) / trained
        say('step', step=done + 1, loss=loss, accuracy=accuracy, gradNorm=norm, learningRate=rate, tokens=tokens)

    def evaluate(self, request, say, breathe):
        network, _ = self._ready()
        _, rows = read_lines(request['data'])
        examples = [encode_example(network.tokenizer, turns, number, network.context_tokens) for number, turns in rows]
        self._restore(request['checkpoint'])
        scores = network.scores(examples, breathe)
        trained = sum(score['trained'] for score in scores)
        say(
            'evaluation',
            loss=sum(score['loss'] for score in scores) / trained,
            accuracy=sum(score['hits'] for score in scores) / trained,
            exactMatch=sum(score['hits'] == score['trained'] for score in scores) / len(scores),
            examples=len(examples),
            trainedTokens=trained,
        )

    def export(self, request, say, _breathe):
        network, plan = self._ready()
        self._restore(request['checkpoint'])
        files = export_adapter(plan, network.state(), network.head_width, request['format'], self._folder)
        say('artifact', format=request['format'], files=files)

    def _restore(self, checkpoint):
        """Puts the network into a checkpoint's state, or the initial one. Returns the steps done."""
        network, plan = self._ready()
        if checkpoint is None:
            network.begin()
            return 0
        shapes = {name: tuple(array.shape) for name, array in network.state().items()}
        step, tensors = decode_state(plan, checkpoint, shapes)
        network.load(tensors)
        return step

    def _ready(self):
        if self._network is None:
            raise Fault('bad_request', 'No plan was made yet: send `plan` first.')
        return self._network, self._plan


def _network_module():
    try:
        from . import network
    except ImportError as error:
        message = f'{error}: install requirements.txt beside this package, or use its image.'
        raise Fault('plan_unsupported', message) from error
    return network
