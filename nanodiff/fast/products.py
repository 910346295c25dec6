"""The innermost loop of every convolution: a block of sums that stay in registers.

    out[p, k] = sum_r,m a[p, r, m] b[r, m, k]           p < P, k < lanes

A term (r, m) reads the vectors b[r, m, :] once, and for each p one number of a, which
meets all lanes. For 14 p and two vectors 16 reads make 28 multiply-adds, and nothing is
written before the last term. No compiler finds this in loops over arrays, so
`sum_products` spells it out for LLVM; with Numba's compiler off it is plain Python.
"""

import itertools
from functools import lru_cache

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def registers():
    """Return (bytes of a vector register, number of them) of the processor.

    LLVM is asked how it adds 16 floats on the one that Numba compiles for.
    """
    vector = "<16 x float>"
    body = f"%y = fadd {vector} %x, %x ret {vector} %y"
    code = f"define {vector} @double({vector} %x) {{ {body} }}"
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES or ""
    if not cpu:
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=cpu, features=features)
    code = machine.emit_assembly(llvm.parse_assembly(code))
    if "zmm" in code:
        return 64, 32
    return (32 if "ymm" in code else 16), (32 if "aarch64" in target.triple else 16)


BYTES, REGISTERS = registers()
# (P, vectors): the sums, the vectors of b and a number of a have to fit the registers.
SHAPES = [(P, vectors) for P, vectors in itertools.product((4, 7, 8, 9, 14), (1, 2))
          if P * vectors + vectors + 1 <= REGISTERS]  # fmt: skip


@lru_cache
def block(pixels, channels, dtype, one_high=False):
    """Return (index in SHAPES, P, lanes) of the blocks that take least time.

    With n vectors a term has P n multiply-adds and P + n loads, two of either at once.
    Of equals, those that waste least, then the largest. one_high: one block holds all
    pixels, and blocks hold all channels exactly.

    >>> block(28, 64, np.dtype("float32"))[1]
    14
    """
    found = []
    for i, (P, n) in enumerate(SHAPES):
        lanes = n * BYTES // np.dtype(dtype).itemsize
        blocks = -(-pixels // P) * -(-channels // lanes)
        if not one_high or (P >= pixels and channels % lanes == 0):
            time = blocks * max(P * n, P + n)
            found.append((time, blocks * P * n, -P * n, i, P, lanes))
    return min(found)[3:]


def whole(n, size):
    """n, rounded up to a multiple of size."""
    return -(-n // size) * size


def sum_products(block, bias, in_bias, more, out, in_out, a, in_a, b, in_b, terms):
    """out[p, k] = bias[k] + more[p, k] + sum_r,m a[p, r, m] b[r, m, k], of a `block`.

    In flat arrays: bias[s + k], out[o + p op + k] and more at the same place, a[at +
    p ap + r ar + m am], b[bt + r br + m bm + k]. terms: R, M. An empty bias or more
    counts as zeros.
    """
    (_, P, lanes), (s,), (o, op), (R, M) = block, in_bias, in_out, terms
    (at, ap, ar, am), (bt, br, bm) = in_a, in_b
    for p in range(P):
        here, sums = slice(o + p * op, o + p * op + lanes), np.zeros(lanes, out.dtype)
        sums += bias[s : s + lanes] if bias.size else 0
        sums += more[here] if more.size else 0
        for r, m in itertools.product(range(R), range(M)):
            k = bt + r * br + m * bm
            sums += a[at + p * ap + r * ar + m * am] * b[k : k + lanes]
        out[here] = sums


if not numba.config.DISABLE_JIT:

    @intrinsic
    def sum_products(
        typing_context, block, bias, in_bias, more, out, in_out, a, in_a, b, in_b, terms
    ):  # noqa: F811, the same where it is compiled
        kinds = block, bias, in_bias, more, out, in_out, a, in_a, b, in_b, terms

        def generate(context, builder, signature, values):
            shape, arrays, numbers = builder.extract_value(values[0], 0), [], []
            for kind, value in zip(kinds[1:], values[1:], strict=True):
                if isinstance(kind, types.Array):
                    arrays.append(context.make_array(kind)(context, builder, value))
                else:
                    numbers += cgutils.unpack_tuple(builder, value)
            end = builder.append_basic_block()
            switch = builder.switch(shape, end)
            for i, (P, vectors) in enumerate(SHAPES):
                with builder.goto_block(builder.append_basic_block()):
                    switch.add_case(i, builder.block)
                    lanes = vectors * BYTES * 8 // out.dtype.bitwidth
                    _spell_out(context, builder, out.dtype, P, lanes, arrays, numbers)
                    builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(*kinds), generate


def _spell_out(context, builder, dtype, P, lanes, arrays, numbers):
    """Generate the code of `sum_products` for one shape of block."""
    bias, more, out, a, b = arrays
    s, o, op, at, ap, ar, am, bt, br, bm, R, M = numbers
    number, size = context.get_data_type(dtype), dtype.bitwidth // 8
    vector, int32 = ir.VectorType(number, lanes), ir.IntType(32)
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(int32, 0)
    everywhere = ir.Constant(ir.VectorType(int32, lanes), [0] * lanes)

    def further(start, step, n):  # start + step * n
        return builder.add(start, builder.mul(step, n))

    def vector_at(array, index):
        return builder.bitcast(builder.gep(array.data, [index]), vector.as_pointer())

    def hidden(x):  # as if unknown: else LLVM makes each address p from the one before
        kind = ir.FunctionType(x.type, [x.type])
        return builder.asm(kind, "", "=r,0", [x], side_effect=False)

    def add_to(total, x):
        x = builder.fadd(builder.load(total), x, flags=("contract",))
        builder.store(x, total)

    ps = [ir.Constant(o.type, p) for p in range(14)]
    places = [further(o, op, p) for p in ps[:P]]
    sums = [cgutils.alloca_once(builder, vector) for _ in places]  # become registers
    for total in sums:
        builder.store(ir.Constant(vector, [0.0] * lanes), total)
    for array, indices in ((bias, [s] * P), (more, places)):
        with builder.if_then(cgutils.is_not_null(builder, array.nitems)):
            for index, total in zip(indices, sums, strict=True):
                add_to(total, builder.load(vector_at(array, index), align=size))
    steps = [builder.mul(ap, p) for p in ps[:8]]
    with cgutils.for_range(builder, R) as row:
        a_row, b_row = further(at, ar, row.index), further(bt, br, row.index)
        with cgutils.for_range(builder, M) as term:
            a_m, b_m = (further(*of, term.index) for of in ((a_row, am), (b_row, bm)))
            b_m = builder.load(vector_at(b, b_m), align=size)
            a_m = hidden(builder.gep(a.data, [a_m]))
            for p, total in enumerate(sums):
                a_m = builder.gep(a_m, [steps[7]]) if p == 7 else a_m  # 7 steps fit
                x = builder.load(builder.gep(a_m, [steps[p % 7]]))
                x = builder.insert_element(undefined, x, first)
                x = builder.shuffle_vector(x, undefined, everywhere)
                add_to(total, builder.fmul(x, b_m, flags=("contract",)))
    for place, total in zip(places, sums, strict=True):
        builder.store(builder.load(total), vector_at(out, place), align=size)
