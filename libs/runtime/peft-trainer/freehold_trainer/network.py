"""The network: a causal language model of transformers with LoRA by peft, its gradient and its AdamW step."""

import numpy
import peft
import torch
import torch.nn.functional as F
import transformers

from .faults import Fault
from .names import MODULES, halves_of_pairs, pairs_of_halves, state_name
from .plan import initial_a

#: Tokens that pass through together, padding included.
PASS_TOKENS = 8_192
#: As torch's clip_grad_norm_ has it.
CLIP_EPSILON = 1e-6
DTYPES = {'f32': torch.float32, 'bf16': torch.bfloat16}


def versions():
    return f'torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}'[:64]


def _device():
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def engine_class():
    where = torch.cuda.get_device_name().replace(' ', '-') if torch.cuda.is_available() else 'cpu'
    return f'peft-{peft.__version__}/torch-{torch.__version__}/{where}'[:128]


def dtypes():
    return ['f32', 'bf16'] if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else ['f32']


class Network:
    """The adapter's numbers live in peft's layers; its moments beside them, in the same order."""

    def __init__(self, folder, plan):
        if plan['dtype'] not in dtypes():
            raise Fault('plan_unsupported', f'dtype {plan["dtype"]}: this machine computes in {", ".join(dtypes())}.')
        torch.manual_seed(plan['seed'])
        torch.use_deterministic_algorithms(True, warn_only=True)
        self._plan = plan
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, torch_dtype=DTYPES[plan['dtype']])
        config = model.config
        if config.model_type != 'llama':
            raise Fault('plan_unsupported', f'The base is of type {config.model_type}; llama is trained.')
        if not self.tokenizer.chat_template:
            raise Fault('plan_unsupported', 'The base carries no chat template.')
        method = plan['method']
        lora = peft.LoraConfig(
            r=method['r'],
            lora_alpha=method['alpha'],
            lora_dropout=0.0,
            bias='none',
            task_type='CAUSAL_LM',
            target_modules=[MODULES[target][1] for target in method['targets']],
        )
        self._model = peft.get_peft_model(model, lora).to(_device())
        # No dropout anywhere: a segment must come out the same when it is run again.
        self._model.eval()
        self.context_tokens = config.max_position_embeddings
        self.vocabulary = config.vocab_size
        self.head_width = getattr(config, 'head_dim', None) or config.hidden_size // config.num_attention_heads
        self._weights = self._adapter_weights(config.num_hidden_layers)
        for weight in self._weights.values():
            weight.data = weight.data.float()
        self._m = {key: torch.zeros_like(weight) for key, weight in self._weights.items()}
        self._v = {key: torch.zeros_like(weight) for key, weight in self._weights.items()}
        self.begin()

    def _adapter_weights(self, layers):
        """{(layer, target, side): parameter}."""
        blocks = self._model.base_model.model.model.layers
        weights = {}
        for layer in range(layers):
            for target in self._plan['method']['targets']:
                parent, module = MODULES[target]
                linear = getattr(getattr(blocks[layer], parent), module)
                weights[layer, target, 'a'] = linear.lora_A['default'].weight
                weights[layer, target, 'b'] = linear.lora_B['default'].weight
        return weights

    def begin(self):
        """The state before the first step, the same as the reference trainer's."""
        with torch.no_grad():
            for (layer, target, side), weight in self._weights.items():
                weight.zero_()
                if side == 'a':
                    values = initial_a(state_name(layer, target, side), self._plan['seed'], weight.numel(), weight.shape[1])
                    weight.copy_(torch.from_numpy(numpy.array(values, numpy.float32).reshape(weight.shape)))
            for moment in (*self._m.values(), *self._v.values()):
                moment.zero_()

    def state(self):
        """{llama.cpp's name: array}: weights and moments."""
        tensors = {}
        for prefix, group in (('', self._weights), ('adamw.m.', self._m), ('adamw.v.', self._v)):
            for (layer, target, side), tensor in group.items():
                array = pairs_of_halves(tensor.detach().cpu().numpy(), target, side, self.head_width)
                tensors[prefix + state_name(layer, target, side)] = array
        return tensors

    def load(self, tensors):
        with torch.no_grad():
            for prefix, group in (('', self._weights), ('adamw.m.', self._m), ('adamw.v.', self._v)):
                for (layer, target, side), tensor in group.items():
                    array = tensors[prefix + state_name(layer, target, side)]
                    tensor.copy_(torch.from_numpy(halves_of_pairs(array, target, side, self.head_width).copy()))

    def backward(self, examples, weight, breathe):
        """Scores of the examples; the weights' gradients become those of weight · Σ loss."""
        self._model.zero_grad(set_to_none=True)
        scores = []
        for some in _passes(examples):
            breathe()
            losses, found = self._losses(some)
            (losses.sum() * weight).backward()
            scores.extend(found)
        return scores

    @torch.no_grad()
    def scores(self, examples, breathe):
        found = []
        for some in _passes(examples):
            breathe()
            found.extend(self._losses(some)[1])
        return found

    def _losses(self, examples):
        """(losses of the learnt tokens, score of each example)."""
        longest = max(len(tokens) for tokens, _ in examples)
        ids = torch.zeros(len(examples), longest, dtype=torch.long)
        seen = torch.zeros(len(examples), longest, dtype=torch.long)
        learnt = torch.zeros(len(examples), longest, dtype=torch.bool)
        for row, (tokens, flags) in enumerate(examples):
            ids[row, :len(tokens)] = torch.tensor(tokens)
            seen[row, :len(tokens)] = 1
            learnt[row, :len(tokens)] = torch.tensor(flags)
        ids, seen, learnt = (tensor.to(_device()) for tensor in (ids, seen, learnt))
        try:
            logits = self._model(input_ids=ids, attention_mask=seen, use_cache=False).logits
        except torch.cuda.OutOfMemoryError as error:
            raise Fault('out_of_memory', f'{error}'[:512], True) from error
        chosen = learnt[:, 1:]
        targets = ids[:, 1:][chosen]
        logits = logits[:, :-1][chosen].float()
        losses = F.cross_entropy(logits, targets, reduction='none')
        hits = logits.argmax(-1) == targets
        rows = chosen.nonzero()[:, 0]
        found = []
        for row in range(len(examples)):
            mine = rows == row
            found.append({'loss': float(losses[mine].sum()), 'hits': int(hits[mine].sum()), 'trained': int(mine.sum())})
        return losses, found

    def gradient_norm(self):
        return float(torch.sqrt(sum(weight.grad.double().square().sum() for weight in self._weights.values())))

    @torch.no_grad()
    def update(self, step, rate, norm):
        """One step of AdamW, the `step`-th from 1, as the reference trainer has it."""
        optim = self._plan['optim']
        clip = optim['clipNorm'] / (norm + CLIP_EPSILON) if 0 < optim['clipNorm'] < norm else 1.0
        first, second = 1 - optim['beta1']**step, 1 - optim['beta2']**step
        for key, weight in self._weights.items():
            gradient = weight.grad.float() * clip
            m, v = self._m[key], self._v[key]
            m.mul_(optim['beta1']).add_(gradient, alpha=1 - optim['beta1'])
            v.mul_(optim['beta2']).addcmul_(gradient, gradient, value=1 - optim['beta2'])
            weight.mul_(1 - rate * optim['weightDecay'])
            weight.addcdiv_(m / first, (v / second).sqrt_().add_(optim['epsilon']), value=-rate)


def _passes(examples):
    """Examples in order, as many at a time as fit, padding counted."""
    some, longest = [], 0
    for example in examples:
        wider = max(longest, len(example[0]))
        if some and wider * (len(some) + 1) > PASS_TOKENS:
            yield some
            some, wider = [], len(example[0])
        some.append(example)
        longest = wider
    yield some
