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
SHAPES = [(P, vectors) for P, vectors in itertools.product((7, 8, 9, 14), (1, 2))
          if P * vectors + vectors + 1 <= REGISTERS]  # fmt: skip


@lru_cache
def block(pixels, channels, dtype):
    """Return (index in SHAPES, P, lanes) of the largest block that wastes least.

    >>> block(28, 64, np.dtype("float32"))[1]
    14
    """
    lanes = BYTES // np.dtype(dtype).itemsize
    return min(
        ((i, P, n * lanes) for i, (P, n) in enumerate(SHAPES)),
        key=lambda b: (whole(pixels, b[1]) * whole(channels, b[2]), -b[1] * b[2]),
    )


def whole(n, size):
    """n, rounded up to a multiple of size."""
    return -(-n // size) * size


def sum_products(block, add, out, o, op, a, at, ap, ar, am, b, bt, br, bm, R, M):
    """out[p, k] = sum_r,m a[p, r, m] b[r, m, k], r < R, m < M, for a `block` of p, k.

    In flat arrays: out[o + p op + k], a[at + p ap + r ar + m am], b[bt + r br + m bm +
    k]. add: 1 if the sum is added to out, 0 if it takes its place.
    """
    _, P, lanes = block
    for p in range(P):
        sums = out[o + p * op :][:lanes]
        sums[...] = sums if add else 0
        for r, m in itertools.product(range(R), range(M)):
            k = bt + r * br + m * bm
            sums += a[at + p * ap + r * ar + m * am] * b[k : k + lanes]


if not numba.config.DISABLE_JIT:

    @intrinsic
    def sum_products(
        typing_context, block, add, out, o, op, a, at, ap, ar, am, b, bt, br, bm, R, M
    ):  # noqa: F811, the same where it is compiled
        kinds = block, add, out, o, op, a, at, ap, ar, am, b, bt, br, bm, R, M

        def generate(context, builder, signature, values):
            shape, arrays, numbers = builder.extract_value(values[0], 0), [], []
            for kind, value in zip(kinds[1:], values[1:], strict=True):
                if isinstance(kind, types.Array):
                    array = context.make_array(kind)(context, builder, value)
                    arrays.append(array.data)
                else:
                    numbers.append(context.cast(builder, value, kind, types.intp))
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
    (out, a, b), (add, o, op, at, ap, ar, am, bt, br, bm, R, M) = arrays, numbers
    number, size = context.get_data_type(dtype), dtype.bitwidth // 8
    vector, int32 = ir.VectorType(number, lanes), ir.IntType(32)
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(int32, 0)
    zero = ir.Constant(vector, [0.0] * lanes)
    add = builder.icmp_signed("!=", add, ir.Constant(add.type, 0))
    everywhere = ir.Constant(ir.VectorType(int32, lanes), [0] * lanes)

    def further(start, step, n):  # start + step * n
        return builder.add(start, builder.mul(step, n))

    def vector_at(array, index):
        return builder.bitcast(builder.gep(array, [index]), vector.as_pointer())

    def hidden(x):  # as a new value: else LLVM makes each address p wait for the last
        kind = ir.FunctionType(x.type, [x.type])
        return builder.asm(kind, "", "=r,0", [x], side_effect=False)

    ps = [ir.Constant(o.type, p) for p in range(14)]
    places = [vector_at(out, further(o, op, p)) for p in ps[:P]]
    sums = [cgutils.alloca_once(builder, vector) for _ in places]  # become registers
    for place, total in zip(places, sums, strict=True):
        before = builder.load(place, align=size)
        builder.store(builder.select(add, before, zero), total)
    steps = [builder.mul(ap, p) for p in ps[:8]]
    with cgutils.for_range(builder, R) as row:
        a_row, b_row = further(at, ar, row.index), further(bt, br, row.index)
        with cgutils.for_range(builder, M) as term:
            a_m, b_m = (further(*of, term.index) for of in ((a_row, am), (b_row, bm)))
            b_m = builder.load(vector_at(b, b_m), align=size)
            a_m = hidden(builder.gep(a, [a_m]))
            for p, total in enumerate(sums):
                a_m = builder.gep(a_m, [steps[7]]) if p == 7 else a_m  # 7 steps fit
                x = builder.load(builder.gep(a_m, [steps[p % 7]]))
                x = builder.insert_element(undefined, x, first)
                x = builder.shuffle_vector(x, undefined, everywhere)
                x = builder.fmul(x, b_m, flags=("contract",))
                x = builder.fadd(builder.load(total), x, flags=("contract",))
                builder.store(x, total)
    for place, total in zip(places, sums, strict=True):
        builder.store(builder.load(total), place, align=size)
