"""The numbers of an embedding: compact, and accepted by numpy, pyarrow and other libraries."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

__all__ = ["Vector", "VectorList"]

if TYPE_CHECKING:
    _Floats = array[float]
else:  # a subclass of a subscripted class would have a second, slower base
    _Floats = array


class Vector(_Floats):
    """An embedding's numbers as 32-bit floats: an `array.array` of type code ``"f"``.

    It takes 4 bytes a number, is a sequence and a buffer (``numpy.asarray(vector)`` makes no copy), can be pickled, and
    becomes a float array of pyarrow. ``json.dumps(vector, default=list)`` and ``msgspec.json.encode(vector,
    enc_hook=list)`` write its numbers.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # what checkers know of `array` returns an array

        def __new__(cls, typecode: Literal["f"], initializer: bytes | Iterable[float], /) -> Self: ...

    @property
    def format(self) -> str:
        """The type code, ``"f"``, under the name that a `memoryview` has for it."""
        return self.typecode

    @property
    def nbytes(self) -> int:
        """The size of the numbers in bytes."""
        return len(self) * self.itemsize

    def __copy__(self) -> Self:
        return type(self)("f", self.tobytes())

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __repr__(self) -> str:
        numbers = ", ".join(f"{number:.4g}" for number in self[:3])
        return f"<Vector of {len(self)} floats: {numbers}{', …' if len(self) > 3 else ''}>"

    def __arrow_array__(self, type: Any = None) -> Any:
        pyarrow = import_module("pyarrow")

        numbers = pyarrow.Array.from_buffers(pyarrow.float32(), len(self), [None, pyarrow.py_buffer(self)])
        return numbers if type is None else numbers.cast(type)


class VectorList(list[Vector]):
    """The vectors of an answer, in the order of the texts: a list that pyarrow reads as lists of 32-bit floats.

    A plain list of vectors needs an explicit type: ``pyarrow.array(vectors, pyarrow.list_(pyarrow.float32()))``. For
    libraries that take only lists of numbers, such as pandas and polars for a column, use `tolist()`.
    """

    __slots__ = ()

    def tolist(self) -> list[list[float]]:
        """Return the vectors as lists of numbers."""
        return [vector.tolist() for vector in self]

    def __arrow_array__(self, type: Any = None) -> Any:
        pyarrow = import_module("pyarrow")

        return pyarrow.array(list(self), type or pyarrow.list_(pyarrow.float32()))
