"""kernels.c for PyTorch's autograd. `available()` is False where no C compiler is; then model.py uses plain PyTorch."""

import ctypes
import os
import shutil
import subprocess
import tempfile

import torch

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernels.c')
library = None
products = None


def available():
    """Compiles the kernels for this machine's processor, once per process."""
    global library, products
    if library is None:
        compiler = shutil.which('gcc') or shutil.which('cc')
        if compiler is None:
            return False
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'kernels.so')
            subprocess.run([compiler, '-O3', '-march=native', '-mprefer-vector-width=512', '-ffast-math', '-funroll-loops',
                            '-shared', '-fPIC', '-o', path, SOURCE, '-lm'], check=True)
            library = ctypes.CDLL(path)
        library.attention_kept.restype = ctypes.c_int64
        try:
            products = ctypes.CDLL('libdnnl.so.2')
        except OSError:
            products = None
        keep_memory()
    return True


def keep_memory():
    """Freed blocks stay with the process: a step frees and takes the same 100 MB, and fresh pages cost a fifth of its time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        for option, value in ((-4, 0), (-1, 2 ** 31 - 1), (-2, 2 ** 28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def product(a, b, flip_a=False, flip_b=False):
    """a b, each transposed first if so asked; by oneDNN where it is, which beats OpenBLAS by a sixth on these shapes."""
    if products is None:
        return torch.mm(a.T if flip_a else a, b.T if flip_b else b)
    rows, inner = (a.shape[1], a.shape[0]) if flip_a else a.shape
    columns = b.shape[0] if flip_b else b.shape[1]
    out = torch.empty(rows, columns)
    size = ctypes.c_int64
    status = products.dnnl_sgemm(ctypes.c_char(b'T' if flip_a else b'N'), ctypes.c_char(b'T' if flip_b else b'N'), size(rows),
                                 size(columns), size(inner), ctypes.c_float(1), pointer(a), size(a.shape[1]), pointer(b),
                                 size(b.shape[1]), ctypes.c_float(0), pointer(out), size(columns))
    if status != 0:
        raise RuntimeError(f'oneDNN refused a product of {tuple(a.shape)} and {tuple(b.shape)}: status {status}.')
    return out


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


class Linear(torch.autograd.Function):
    """x weight^T"""

    @staticmethod
    def forward(ctx, x, weight):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return product(x, weight, flip_b=True)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        return product(gradient, weight), product(gradient, x, flip_a=True)


class Attention(torch.autograd.Function):
    """Causal attention inside documents that follow one another: qkv [tokens, 3 * width], turns [positions, head] of cos and sin."""

    @staticmethod
    def forward(ctx, qkv, turns, lengths, heads):
        qkv = qkv.contiguous()
        count = len(lengths)
        kept = torch.empty(library.attention_kept(pointer(lengths), count, heads))
        out = torch.empty(qkv.shape[0], qkv.shape[1] // 3)
        library.attention(pointer(qkv), pointer(turns), pointer(lengths), count, heads, pointer(out), pointer(kept))
        ctx.save_for_backward(qkv, turns, lengths, kept)
        ctx.heads = heads
        return out

    @staticmethod
    def backward(ctx, gradient):
        qkv, turns, lengths, kept = ctx.saved_tensors
        gradient = gradient.contiguous()
        back = torch.empty_like(qkv)
        library.attention_back(pointer(qkv), pointer(turns), pointer(lengths), len(lengths), ctx.heads, pointer(kept),
                               pointer(gradient), pointer(back))
        return back, None, None, None


class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, both):
        both = both.contiguous()
        out = torch.empty(both.shape[0], both.shape[1] // 2)
        library.gate(pointer(both), pointer(out), ctypes.c_int64(out.shape[0]), out.shape[1])
        ctx.save_for_backward(both)
        return out

    @staticmethod
    def backward(ctx, gradient):
        both, = ctx.saved_tensors
        gradient = gradient.contiguous()
        back = torch.empty_like(both)
        library.gate_back(pointer(both), pointer(gradient), pointer(back), ctypes.c_int64(both.shape[0]), gradient.shape[1])
        return back


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, epsilon):
        x = x.contiguous()
        out, inverse = torch.empty_like(x), torch.empty(x.shape[0])
        library.norm(pointer(x), pointer(weight), ctypes.c_float(epsilon), pointer(out), pointer(inverse),
                     ctypes.c_int64(x.shape[0]), x.shape[1])
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx, gradient):
        x, weight, inverse = ctx.saved_tensors
        gradient = gradient.contiguous()
        back, weight_back = torch.empty_like(x), torch.zeros_like(weight)
        library.norm_back(pointer(x), pointer(weight), pointer(inverse), pointer(gradient), pointer(back), pointer(weight_back),
                          ctypes.c_int64(x.shape[0]), x.shape[1])
        return back, weight_back, None
