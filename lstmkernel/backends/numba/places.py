"""Arguments of compiled functions that are places in memory: an array, an address, or None for address 0.

An array's address costs Python several calls. Compiled code reads it from the array where it takes its arguments. It
trusts the caller: an address is an int of Python's own, and anything else is an array.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.extending import NativeValue, lower_cast, models, register_model, unbox

#: Names of arguments that are places; all others are integers.
NAMES = frozenset({"x", "y", "z", "lengths", "reset", "read", "write", "h", "c", "out", "between"})

_ADDRESS = ir.IntType(64)

#: What every Python object begins with. Its last part is the object's type. An array's address follows it: NumPy's
#: binary interface promises so, and Numba itself reads arrays there.
_HEAD_BYTES = object.__basicsize__


class Place(types.Type):
    """An address. The caller holds the array until the function returns."""

    def __init__(self) -> None:
        super().__init__(name="Place")

    def can_convert_to(self, typingctx: Any, other: types.Type) -> Conversion | None:
        return Conversion.safe if other == types.int64 else None


PLACE = Place()


@register_model(Place)
class PlaceModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Place) -> None:
        super().__init__(dmm, fe_type, _ADDRESS)


@lower_cast(Place, types.int64)
def place_as_integer(context, builder, fromty, toty, val):
    return val


@unbox(Place)
def place_of(typ, obj, c):
    builder = c.builder
    place = cgutils.alloca_once_value(builder, _ADDRESS(0))
    is_none = builder.icmp_unsigned("==", obj, c.pyapi.borrow_none())
    with builder.if_then(builder.not_(is_none), likely=True):
        integers = builder.ptrtoint(c.pyapi.get_c_object("PyLong_Type"), _ADDRESS)
        is_integer = builder.icmp_unsigned("==", _word_of(builder, obj, _HEAD_BYTES - 8), integers)
        with builder.if_else(is_integer) as (integer, array):
            with integer:
                builder.store(c.pyapi.long_as_longlong(obj), place)
            with array:
                builder.store(_word_of(builder, obj, _HEAD_BYTES), place)
    return NativeValue(builder.load(place), is_error=c.pyapi.c_api_error())


def _word_of(builder: ir.IRBuilder, obj: ir.Value, offset: int) -> ir.Value:
    place = builder.gep(builder.bitcast(obj, ir.IntType(8).as_pointer()), [_ADDRESS(offset)])
    return builder.load(builder.bitcast(place, _ADDRESS.as_pointer()))
