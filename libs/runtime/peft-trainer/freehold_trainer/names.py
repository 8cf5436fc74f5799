"""llama.cpp's names and row order of the adapted matrices, and transformers'."""

MODULES = {
    'attn_q': ('self_attn', 'q_proj'),
    'attn_k': ('self_attn', 'k_proj'),
    'attn_v': ('self_attn', 'v_proj'),
    'attn_output': ('self_attn', 'o_proj'),
    'ffn_gate': ('mlp', 'gate_proj'),
    'ffn_up': ('mlp', 'up_proj'),
    'ffn_down': ('mlp', 'down_proj'),
}
TARGETS = {module: target for target, (_, module) in MODULES.items()}


def state_name(layer, target, side):
    """`side` is `a` or `b`."""
    return f'blk.{layer}.{target}.weight.lora_{side}'


def peft_name(layer, target, side):
    parent, module = MODULES[target]
    return f'base_model.model.model.layers.{layer}.{parent}.{module}.lora_{side.upper()}.weight'


def pairs_of_halves(array, target, side, head_width):
    """Rows of queries and keys as llama.cpp has them: transformers turns i with i + half, llama.cpp neighbours."""
    if side == 'a' or target not in ('attn_q', 'attn_k'):
        return array
    rows, columns = array.shape
    return array.reshape(rows // head_width, 2, head_width // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def halves_of_pairs(array, target, side, head_width):
    """The way back."""
    if side == 'a' or target not in ('attn_q', 'attn_k'):
        return array
    rows, columns = array.shape
    return array.reshape(rows // head_width, head_width // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
