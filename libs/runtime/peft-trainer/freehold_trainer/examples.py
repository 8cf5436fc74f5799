"""Training files: JSON lines of chats, cut into tokens with a mark on those that are learnt."""

import hashlib
import json
import os

from .faults import Fault

DATA_BYTES_MAX = 512 * 2**20
EXAMPLES_MAX = 1_000_000
ROLES = {'system': 'system', 'developer': 'system', 'user': 'user', 'assistant': 'assistant'}


def read_lines(path):
    """(sha256, [(line number, messages)]) of a training file."""
    try:
        if os.path.getsize(path) > DATA_BYTES_MAX:
            raise Fault('data_invalid', f'The file has over {DATA_BYTES_MAX} bytes.', line=1)
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        raise Fault('data_unreadable', f'The data cannot be read: {error}', True) from error
    rows = []
    for number, text in enumerate(data.split(b'\n'), 1):
        if not text.strip():
            continue
        if len(rows) == EXAMPLES_MAX:
            raise _invalid(number, f'more than {EXAMPLES_MAX} examples')
        rows.append((number, _messages(text, number)))
    if not rows:
        raise _invalid(1, 'the file holds no example: expected JSON lines {"messages":[…]}')
    return hashlib.sha256(data).hexdigest(), rows


def _messages(text, number):
    try:
        messages = json.loads(text)['messages']
        turns = [(ROLES[each['role']], each['content'], each.get('weight', 1)) for each in messages]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(number, f'expected {{"messages":[{{"role","content"}}]}}, got another shape ({error})') from error
    if not all(isinstance(content, str) and weight in (0, 1) for _, content, weight in turns):
        raise _invalid(number, 'content must be text, and weight 0 or 1')
    if not any(role == 'assistant' and content and weight for role, content, weight in turns):
        raise _invalid(number, 'no message of the assistant to learn from')
    # System messages stand in front, joined, as the engines' prompts have them.
    system = [content for role, content, _ in turns if role == 'system']
    rest = [turn for turn in turns if turn[0] != 'system']
    return [('system', '\n'.join(system), 0), *rest] if system else rest


def encode_example(tokenizer, turns, number, context_tokens):
    """(tokens, learnt) of one chat, cut behind the last token that is learnt: nothing after that can matter."""
    # Rendered over placeholders: a message that spells a mark must not become one.
    places = [f'\ue000{at}\ue001' for at in range(len(turns))]
    messages = [{'role': role, 'content': place} for (role, _, _), place in zip(turns, places)]
    rest = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    special = set(tokenizer.all_special_ids)
    tokens, learnt, learning = [], [], False

    def marks(text):
        ids = tokenizer.encode(text, add_special_tokens=False)
        learnt.extend(learning and at == 0 and one in special for at, one in enumerate(ids))
        tokens.extend(ids)

    for (role, content, weight), place in zip(turns, places):
        before, found, rest = rest.partition(place)
        if not found:
            raise _invalid(number, f"the base's chat template leaves a message of the {role} out")
        marks(before)
        learning = role == 'assistant' and weight == 1
        ids = tokenizer.encode(content, add_special_tokens=False, split_special_tokens=True)
        tokens.extend(ids)
        learnt.extend([learning] * len(ids))
    marks(rest)
    if len(tokens) > context_tokens:
        message = f'Line {number}: the example has {len(tokens)} tokens, the context {context_tokens}: shorten or drop it.'
        raise Fault('example_too_long', message, line=number)
    end = max((at for at, flag in enumerate(learnt) if flag), default=-1) + 1
    if end < 2:
        raise _invalid(number, 'nothing is left to learn from')
    return tokens[:end], learnt[:end]


def _invalid(number, why):
    return Fault('data_invalid', f'Line {number}: {why}.', line=number)
