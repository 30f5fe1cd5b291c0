"""What numba lacks: unaligned loads, copying, prefetching, comparing many bytes, counting bits.

Portable LLVM code; it becomes vector instructions where the processor has them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE, _WORD, _BIT = ir.IntType(8), ir.IntType(64), ir.IntType(1)
_INT = ir.IntType(32)

Lowering = Callable[..., Any]


@intrinsic
def load8(_context: Any, array: Any, offset: Any) -> tuple[Any, Lowering]:
    """Return the 8 bytes of a byte array from `offset` on, the first one lowest."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], args[0], args[1])
        return _load(builder, place, _WORD)

    return types.uint64(array, types.uint64), lower


@intrinsic
def copy_bytes(
    _context: Any, target: Any, place: Any, source: Any, start: Any, count: Any
) -> tuple[Any, Lowering]:
    """Copy `count` bytes of one byte array, from `start` on, to a place in another."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = _address(context, builder, signature.args[0], args[0], args[1])
        origin = _address(context, builder, signature.args[2], args[2], args[3])
        cgutils.raw_memcpy(builder, to, origin, args[4], 1)
        return context.get_dummy_value()

    number = types.uint64
    return types.void(target, number, source, number, number), lower


@intrinsic
def prefetch(_context: Any, array: Any, index: Any) -> tuple[Any, Lowering]:
    """Start to fetch the cache line of array[index]; any index will do."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = _WORD(signature.args[0].dtype.bitwidth // 8)
        offset = builder.mul(args[1], size)
        place = _address(context, builder, signature.args[0], args[0], offset)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, _INT(0), _INT(3), _INT(1)])  # to read, into all caches
        return context.get_dummy_value()

    return types.void(array, types.uint64), lower


def byte_mask(ranges: Sequence[tuple[int, int]]) -> Any:
    """Make f(array, offset): one bit per byte of the 64 from `offset` on, set if in a range.

    Ranges include both ends; the lowest bit is the first byte's.
    """
    vector = ir.VectorType(_BYTE, 64)

    @intrinsic
    def mask(_context: Any, array: Any, offset: Any) -> tuple[Any, Lowering]:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = _address(context, builder, signature.args[0], args[0], args[1])
            found, data = ir.Constant(ir.VectorType(_BIT, 64), None), _load(builder, place, vector)
            for low, high in ranges:
                above = builder.sub(data, ir.Constant(vector, [low] * 64))
                inside = builder.icmp_unsigned("<=", above, ir.Constant(vector, [high - low] * 64))
                found = builder.or_(found, inside)
            return builder.bitcast(found, _WORD)

        return types.uint64(array, types.uint64), lower

    return mask


def _compare16(relation: str) -> Any:
    numbers = ir.VectorType(_INT, 16)

    @intrinsic
    def compare(_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Lowering]:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            offset = builder.mul(args[1], _WORD(4))
            place = _address(context, builder, signature.args[0], args[0], offset)
            none = ir.Constant(numbers, ir.Undefined)
            one = builder.insert_element(none, args[2], _INT(0))
            value = builder.shuffle_vector(one, none, ir.Constant(numbers, [0] * 16))
            found = builder.icmp_unsigned(relation, _load(builder, place, numbers), value)
            return builder.zext(builder.bitcast(found, ir.IntType(16)), _WORD)

        return types.uint64(array, types.uint64, types.uint32), lower

    return compare


less16 = _compare16("<")
"""less16(array, index, value): one bit per each of 16 uint32 from `index` on, set if < value."""

equal16 = _compare16("==")
"""equal16(array, index, value): one bit per each of 16 uint32 from `index` on, set if equal."""


def _bit_operation(name: str, *extra: Any) -> Any:
    @intrinsic
    def operate(_context: Any, value: Any) -> tuple[Any, Lowering]:
        def lower(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_WORD, [_WORD, *(constant.type for constant in extra)])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(function, [args[0], *extra])

        return types.uint64(types.uint64), lower

    return operate


lowest_bit = _bit_operation("llvm.cttz.i64", _BIT(0))
"""The position of the lowest set bit; 64 if there is none."""

count_bits = _bit_operation("llvm.ctpop.i64")
"""The number of set bits."""


@intrinsic
def multiply_high(_context: Any, a: Any, b: Any) -> tuple[Any, Lowering]:
    """Return the upper 64 bits of a product: a random `a` scaled to 0..b - 1."""

    def lower(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.trunc(builder.lshr(_product(builder, args), _WIDE(64)), _WORD)

    return types.uint64(types.uint64, types.uint64), lower


@intrinsic
def multiply_fold(_context: Any, a: Any, b: Any) -> tuple[Any, Lowering]:
    """Return both halves of a 128-bit product, xored: a fast mixer."""

    def lower(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        product = _product(builder, args)
        high = builder.trunc(builder.lshr(product, _WIDE(64)), _WORD)
        return builder.xor(high, builder.trunc(product, _WORD))

    return types.uint64(types.uint64, types.uint64), lower


_WIDE = ir.IntType(128)


def _product(builder: Any, args: Any) -> Any:
    return builder.mul(builder.zext(args[0], _WIDE), builder.zext(args[1], _WIDE))


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Return the address `offset` bytes into a numpy array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _BYTE.as_pointer()), [offset])


def _load(builder: Any, place: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(place, kind.as_pointer()), align=1)
    value.align = 1
    return value
