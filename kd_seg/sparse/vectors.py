"""Vector instructions for the convolution kernels: LLVM code for the machine's vector length, as Numba intrinsics.

Numba's automatic vectorisation keeps neither accumulators in registers nor uses the longest vectors. So the innermost
loops are written as LLVM code here, once, for any vector length: ``WIDTH`` floats per vector (16 with AVX-512, 8 with
AVX2 and FMA, else 4) and as many rows at a time as the machine has registers for.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from kd_seg.core.kernels import cgutils, intrinsic, types
from kd_seg.sparse.widths import BLOCKS, LANES, REST, ROWS, VECTORS, WIDTH

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _vector(width: int = WIDTH) -> Any:
    return ir.VectorType(_F32, width)


def _load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    loaded = builder.load(_pointer(builder, address, kind))
    loaded.align = align
    return loaded


def _store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, _pointer(builder, address, value.type)).align = align


def _spread(builder: Any, value: Any) -> Any:
    """A vector of WIDTH copies of a float."""
    undefined = ir.Constant(_vector(), ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH))


def _declared(builder: Any, name: str, kind: Any) -> Any:
    """LLVM's own function of that name."""
    return cgutils.get_or_insert_function(builder.module, kind, name)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(_declared(builder, f"llvm.fmuladd.v{WIDTH}f32", kind), [a, b, c])


def _at(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, ir.Constant(_I64, offset)) if offset else address


def _loop(
    builder: Any, start: Any, stop: Any, step: int, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> tuple[Any, list[Any]]:
    """``for i in range(start, stop - step + 1, step)``, ``values`` handed on; returns the last i and the values."""
    entry = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("loop", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    carried = [builder.phi(value.type) for value in values]
    index.add_incoming(start, entry)
    for phi, value in zip(carried, values, strict=True):
        phi.add_incoming(value, entry)
    beyond = builder.add(index, ir.Constant(_I64, step))
    builder.cbranch(builder.icmp_signed("<=", beyond, stop), inside, after)
    builder.position_at_end(inside)
    made = body(index, list(carried))
    index.add_incoming(beyond, builder.block)
    for phi, value in zip(carried, made, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return index, list(carried)


def _unrolled(
    builder: Any, stop: Any, step: int, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """``body`` for 0 .. stop - 1, ``step`` at a time while that many are left."""

    def several(index: Any, carried: list[Any]) -> list[Any]:
        for i in range(step):
            carried = body(_at(builder, index, i), carried)
        return carried

    index, values = _loop(builder, ir.Constant(_I64, 0), stop, step, values, several)
    return _loop(builder, index, stop, 1, values, body)[1]


def _intrinsic(arguments: int, emit: Callable[..., Any], result: Any = types.void) -> Any:
    """A Numba intrinsic of ``arguments`` integers (addresses, strides in bytes, counts)."""
    names = ", ".join(f"a{i}" for i in range(arguments))

    def typer(typing: Any, *given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            wide = [context.cast(builder, v, t, types.int64) for v, t in zip(values, signature.args, strict=True)]
            made = emit(builder, *wide)
            return context.get_dummy_value() if result is types.void else made

        return result(*given), generate

    space: dict[str, Any] = {"typer": typer}
    exec(f"def inner(typing, {names}):\n    return typer(typing, {names})", space)  # Numba counts named arguments
    return intrinsic(space["inner"])


def _multiply(blocks: int, rows: int) -> Any:
    """Micro-kernel ``(x, stride_x, rin, rout, weights, acc, stride_acc, cin)``: acc[rout] += x[rin] @ weights.

    For ``rows`` pairs and ``blocks`` times 16 output channels; weights [cin, 16 blocks] lie one row after the other.
    """
    vectors = blocks * VECTORS

    def emit(
        b: Any, x: Any, stride: Any, rin: Any, rout: Any, weights: Any, acc: Any, stride_acc: Any, cin: Any
    ) -> None:
        sources, targets, sums = [], [], []
        for row in range(rows):
            source = b.sext(_load(b, _at(b, rin, 4 * row), _I32, 4), _I64)
            sources.append(b.add(x, b.mul(source, stride)))
            target = b.zext(_load(b, _at(b, rout, 2 * row), ir.IntType(16), 2), _I64)
            targets.append(b.add(acc, b.mul(target, stride_acc)))
            sums += [_load(b, _at(b, targets[row], 4 * WIDTH * v), _vector(), 4 * WIDTH) for v in range(vectors)]

        def channel(index: Any, carried: list[Any]) -> list[Any]:
            place = b.mul(index, ir.Constant(_I64, 4 * WIDTH * vectors))
            line = b.add(weights, place)
            loaded = [_load(b, _at(b, line, 4 * WIDTH * v), _vector(), 4 * WIDTH) for v in range(vectors)]
            offset = b.mul(index, ir.Constant(_I64, 4))
            made = []
            for row in range(rows):
                value = _spread(b, _load(b, b.add(sources[row], offset), _F32, 4))
                made += [_multiply_add(b, value, loaded[v], carried[row * vectors + v]) for v in range(vectors)]
            return made

        sums = _unrolled(b, cin, 8, sums, channel)
        for row in range(rows):
            for v in range(vectors):
                _store(b, sums[row * vectors + v], _at(b, targets[row], 4 * WIDTH * v), 4 * WIDTH)

    return _intrinsic(8, emit)


def _outer(blocks: int, rows: int) -> Any:
    """Micro-kernel ``(x, stride_x, rin, rout, dy, stride_dy, out, stride_out, pairs)``: out += x[rin].T @ dy[rout].

    For ``rows`` input channels (``x`` points to the first) and ``blocks`` times 16 output channels.
    """
    vectors = blocks * VECTORS

    def emit(
        b: Any, x: Any, stride: Any, rin: Any, rout: Any, dy: Any, stride_dy: Any, out: Any, stride_out: Any, pairs: Any
    ) -> None:
        lines = [b.add(out, b.mul(stride_out, ir.Constant(_I64, row))) for row in range(rows)]
        sums = [_load(b, _at(b, line, 4 * WIDTH * v), _vector(), 4 * WIDTH) for line in lines for v in range(vectors)]

        def pair(index: Any, carried: list[Any]) -> list[Any]:
            source = b.sext(_load(b, b.add(rin, b.mul(index, ir.Constant(_I64, 4))), _I32, 4), _I64)
            near = b.add(x, b.mul(source, stride))
            half = ir.IntType(16)
            target = b.zext(_load(b, b.add(rout, b.mul(index, ir.Constant(_I64, 2))), half, 2), _I64)
            line = b.add(dy, b.mul(target, stride_dy))
            loaded = [_load(b, _at(b, line, 4 * WIDTH * v), _vector(), 4 * WIDTH) for v in range(vectors)]
            made = []
            for row in range(rows):
                value = _spread(b, _load(b, _at(b, near, 4 * row), _F32, 4))
                made += [_multiply_add(b, value, loaded[v], carried[row * vectors + v]) for v in range(vectors)]
            return made

        sums = _unrolled(b, pairs, 2, sums, pair)
        for row, line in enumerate(lines):
            for v in range(vectors):
                _store(b, sums[row * vectors + v], _at(b, line, 4 * WIDTH * v), 4 * WIDTH)

    return _intrinsic(9, emit)


multiply_one = _multiply(1, ROWS)
multiply_rest = multiply_one if REST == ROWS else _multiply(1, REST)
multiply_two = _multiply(2, ROWS) if 2 in BLOCKS else multiply_one
multiply_three = _multiply(3, ROWS) if 3 in BLOCKS else multiply_one

OUTER_ROWS = {16: 8, 8: 4, 4: 2}[WIDTH]
"""Input channels of a micro-kernel of the gradient of weights."""

outer_one, outer_one_row = _outer(1, OUTER_ROWS), _outer(1, 1)
outer_one_tall = _outer(1, 2 * OUTER_ROWS) if WIDTH == 16 else outer_one
"""Twice the rows of ``outer_one`` where there are 32 registers, so that sums do not wait for each other."""
TALL = 2 * OUTER_ROWS if WIDTH == 16 else OUTER_ROWS
outer_two = _outer(2, OUTER_ROWS) if 2 in BLOCKS else outer_one
outer_two_row = _outer(2, 1) if 2 in BLOCKS else outer_one_row


def _emit_prefetch(b: Any, address: Any) -> None:
    """Bring the line at ``address`` into the first-level cache."""
    byte = _I8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = _declared(b, "llvm.prefetch.p0", kind)
    read, keep, data = (ir.Constant(_I32, value) for value in (0, 3, 1))
    b.call(function, [b.inttoptr(address, byte), read, keep, data])


prefetch = _intrinsic(1, _emit_prefetch)


def _emit_read_i32(b: Any, address: Any) -> Any:
    """The int32 at ``address``."""
    return b.sext(_load(b, address, _I32, 4), _I64)


read_i32 = _intrinsic(1, _emit_read_i32, types.int64)


def _emit_popcount(b: Any, value: Any) -> Any:
    """Bits that are set in 64."""
    return b.call(_declared(b, "llvm.ctpop.i64", ir.FunctionType(_I64, [_I64])), [value])


popcount = _intrinsic(1, _emit_popcount, types.int64)


def _emit_lowest(b: Any, value: Any) -> Any:
    """Place of the lowest bit that is set in 64."""
    kind = ir.FunctionType(_I64, [_I64, ir.IntType(1)])
    return b.call(_declared(b, "llvm.cttz.i64", kind), [value, ir.Constant(ir.IntType(1), 1)])


lowest_bit = _intrinsic(1, _emit_lowest, types.int64)


def _emit_take(b: Any, address: Any) -> Any:
    """Add one to the int64 at ``address`` as one step for all threads; returns the value before."""
    return b.atomic_rmw("add", _pointer(b, address, _I64), ir.Constant(_I64, 1), "monotonic")


take = _intrinsic(1, _emit_take, types.int64)


def _emit_exchange(b: Any, address: Any, expected: Any, wanted: Any) -> Any:
    """Change the int64 at ``address`` from expected to wanted as one step for all threads; 1 where it was expected."""
    found = b.cmpxchg(_pointer(b, address, _I64), expected, wanted, "acq_rel", "acquire")
    return b.zext(b.extract_value(found, 1), _I64)


exchange = _intrinsic(3, _emit_exchange, types.int64)


def _emit_zero_or_bias(b: Any, acc: Any, bias: Any, rows: Any, blocks: Any) -> None:
    """Every row of acc [rows, 16 blocks] = bias [16 blocks]."""
    stride = b.mul(blocks, ir.Constant(_I64, 4 * LANES))

    def block(index: Any, _: list[Any]) -> list[Any]:
        for v in range(VECTORS):
            offset = _at(b, b.mul(index, ir.Constant(_I64, 4 * LANES)), 4 * WIDTH * v)
            value = _load(b, b.add(bias, offset), _vector(), 4 * WIDTH)

            def row(number: Any, _: list[Any], offset: Any = offset, value: Any = value) -> list[Any]:
                _store(b, value, b.add(b.add(acc, offset), b.mul(number, stride)), 4 * WIDTH)
                return []

            _loop(b, ir.Constant(_I64, 0), rows, 1, [], row)
        return []

    _loop(b, ir.Constant(_I64, 0), blocks, 1, [], block)


fill_rows = _intrinsic(4, _emit_zero_or_bias)


def _first_lanes(b: Any, count: Any) -> Any:
    """Flags of the first ``count`` lanes of a vector."""
    lanes = ir.VectorType(_I32, WIDTH)
    undefined = ir.Constant(lanes, ir.Undefined)
    one = b.insert_element(undefined, b.trunc(count, _I32), ir.Constant(_I32, 0))
    limit = b.shuffle_vector(one, undefined, ir.Constant(lanes, [0] * WIDTH))
    return b.icmp_signed("<", ir.Constant(lanes, list(range(WIDTH))), limit)


def _masked_load(b: Any, address: Any, mask: Any) -> Any:
    vector, pointer = _vector(), _vector().as_pointer()
    kind = ir.FunctionType(vector, [pointer, _I32, mask.type, vector])
    function = _declared(b, f"llvm.masked.load.v{WIDTH}f32.p0", kind)
    zero = ir.Constant(vector, [0.0] * WIDTH)
    return b.call(function, [b.inttoptr(address, pointer), ir.Constant(_I32, 4), mask, zero])


def _masked_store(b: Any, value: Any, address: Any, mask: Any) -> None:
    pointer = value.type.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [value.type, pointer, _I32, mask.type])
    function = _declared(b, f"llvm.masked.store.v{WIDTH}f32.p0", kind)
    b.call(function, [value, b.inttoptr(address, pointer), ir.Constant(_I32, 4), mask])


def _emit_finish(
    b: Any, acc: Any, stride_acc: Any, rows: Any, channels: Any, out: Any, stride_out: Any, before: Any,
    stride_before: Any, after: Any, stride_after: Any, scale: Any, shift: Any, slope: Any,
) -> None:  # fmt: skip
    """out = act(acc + before) * scale + shift + after, with act(v) = v where v > 0, else v * slope.

    ``slope`` is the address of a float. What is not wanted points to zeros (or ones) with a stride of 0.
    """
    steepness = _spread(b, _load(b, slope, _F32, 4))
    zero = ir.Constant(_vector(), [0.0] * WIDTH)
    size = ir.Constant(_I64, 4)
    whole = b.and_(channels, ir.Constant(_I64, -WIDTH))
    rest = b.sub(channels, whole)
    some = b.zext(b.icmp_signed(">", rest, ir.Constant(_I64, 0)), _I64)
    mask = _first_lanes(b, rest)

    def row(number: Any, _: list[Any]) -> list[Any]:
        lines = [b.add(base, b.mul(number, stride)) for base, stride in
                 ((acc, stride_acc), (out, stride_out), (before, stride_before), (after, stride_after))]  # fmt: skip

        def piece(offset: Any, partly: bool) -> None:
            place = b.mul(offset, size)
            of, to, first, second = (b.add(line, place) for line in lines)
            read = (lambda a: _masked_load(b, a, mask)) if partly else (lambda a: _load(b, a, _vector(), 4))
            value = b.fadd(_load(b, of, _vector(), 4 * WIDTH), read(first))
            value = b.select(b.fcmp_ordered(">", value, zero), value, b.fmul(value, steepness))
            factor = _load(b, b.add(scale, place), _vector(), 4 * WIDTH)
            term = _load(b, b.add(shift, place), _vector(), 4 * WIDTH)
            value = b.fadd(_multiply_add(b, value, factor, term), read(second))
            if partly:
                _masked_store(b, value, to, mask)
            else:
                _store(b, value, to, 4)

        def full(index: Any, _: list[Any]) -> list[Any]:
            piece(index, False)
            return []

        def partial(index: Any, _: list[Any]) -> list[Any]:
            piece(whole, True)
            return []

        _loop(b, ir.Constant(_I64, 0), whole, WIDTH, [], full)
        _loop(b, ir.Constant(_I64, 0), some, 1, [], partial)
        return []

    _loop(b, ir.Constant(_I64, 0), rows, 1, [], row)


finish_rows = _intrinsic(13, _emit_finish)

_FLUSH = 0x8040
"""MXCSR: results (bit 15) and operands (bit 6) too small to be normal count as 0."""


def _mxcsr(b: Any, name: str, slot: Any) -> None:
    byte = _I8.as_pointer()
    function = _declared(b, f"llvm.x86.sse.{name}", ir.FunctionType(ir.VoidType(), [byte]))
    b.call(function, [b.bitcast(slot, byte)])


def _emit_flush_denormals(b: Any) -> Any:
    """Let this thread treat denormal numbers as 0, as they cost a hundred times a normal one; the state before."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ir.Constant(_I64, 0)
    slot = cgutils.alloca_once(b, _I32)
    _mxcsr(b, "stmxcsr", slot)
    before = b.load(slot)
    b.store(b.or_(before, ir.Constant(_I32, _FLUSH)), slot)
    _mxcsr(b, "ldmxcsr", slot)
    return b.zext(before, _I64)


flush_denormals = _intrinsic(0, _emit_flush_denormals, types.int64)


def _emit_restore_denormals(b: Any, state: Any) -> None:
    """Undo ``flush_denormals``."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return
    slot = cgutils.alloca_once(b, _I32)
    b.store(b.trunc(state, _I32), slot)
    _mxcsr(b, "ldmxcsr", slot)


restore_denormals = _intrinsic(1, _emit_restore_denormals)
