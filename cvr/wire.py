"""Columns -> many serialised `tf.train.Example` messages at once: protobuf's wire format in NumPy and Arrow, no loop over messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CONTINUED = np.array([sum(0x80 << (8 * byte) for byte in range(min(max(count - 1, 0), 8))) for count in range(11)], np.uint64)
"""By the length of a varint: the high bits of its first eight bytes, set in all but the last."""
_BLOCK = 16_384
"""Values at a time, so that what is worked on stays in the processor's cache."""
_SPREAD = ((0xFFFFFFF, 28, 4), (0x3FFF00003FFF, 14, 2), (0x7F007F007F007F, 7, 1))
"""Steps that move 56 bits apart into eight groups of seven: (bits that stay, width of a half, by how much the other half moves)."""


def _spread(values: np.ndarray) -> np.ndarray:
    """The low 56 bits of each value, seven to a byte, as uint64 whose bytes are in the order of memory."""
    spread = values & np.uint64(2**56 - 1)
    for stay, width, move in _SPREAD:
        moved = (spread & np.uint64(stay << width)) << np.uint64(move)
        spread &= np.uint64(stay)
        spread |= moved
    return spread


def varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base-128 varints of int64 values: (bytes uint8 [total], bytes per value int64 [N])."""
    unsigned = values.astype(np.int64, copy=False).view(np.uint64)
    blocks = [_varints(unsigned[begin : begin + _BLOCK]) for begin in range(0, max(len(unsigned), 1), _BLOCK)]
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate([payload for payload, _ in blocks]), np.concatenate([counts for _, counts in blocks])


def _varints(unsigned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    largest = int(unsigned.max(initial=0))
    counts = np.ones(len(unsigned), np.int64)
    if largest < 128:
        return unsigned.astype(np.uint8), counts
    width = -(-largest.bit_length() // 7)
    long = np.flatnonzero(unsigned >= 128)
    if len(long) * 4 < len(unsigned):
        return _mostly_short(unsigned, long, width)
    for group in range(1, width):
        counts += unsigned >= np.uint64(1 << (7 * group))
    groups = np.empty((len(unsigned), 8 if width <= 8 else 10), np.uint8)
    groups[:, :8] = (_spread(unsigned) | _CONTINUED[counts]).astype("<u8").view(np.uint8).reshape(-1, 8)
    if width > 8:
        high = unsigned >> np.uint64(56)
        groups[:, 8] = np.where(high < 128, high, high | np.uint64(0x80))
        groups[:, 9] = high >> np.uint64(7)
    if int(counts.min(initial=width)) == width:
        return np.ascontiguousarray(groups[:, :width]).ravel(), counts
    return groups[np.arange(groups.shape[1]) < counts[:, None]], counts


def _mostly_short(unsigned: np.ndarray, long: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Varints of values of which few, those at `long`, take more than a byte: a byte for each, then the others byte by byte."""
    counts = np.ones(len(unsigned), np.int64)
    for group in range(1, width):
        counts[long] += unsigned[long] >= np.uint64(1 << (7 * group))
    starts = np.cumsum(counts) - counts
    payload = np.empty(int(counts.sum()), np.uint8)
    payload[starts] = unsigned.astype(np.uint8) & 0x7F
    for group in range(1, width):
        here = long[counts[long] > group]
        payload[starts[here] + group - 1] |= 0x80
        payload[starts[here] + group] = (unsigned[here] >> np.uint64(7 * group)).astype(np.uint8) & 0x7F
    return payload, counts


def binary(payload: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """Arrow binaries that cut a byte buffer into consecutive pieces of the given sizes."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(payload))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(sizes), buffers)


def segment_sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sums of consecutive segments of the given lengths, int64 [segments]."""
    ends = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(values)])
    return sums[ends] - sums[ends - lengths]


def words(values: np.ndarray, word: int) -> np.ndarray:
    """Ids as raw little-endian words of 8 or 4 bytes, uint8 [word * N]. Raises ValueError where one does not fit into 4."""
    flat = np.ravel(values)
    if word == 4 and len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= 2**32):
        raise ValueError(f"an n-gram id is from 0 to 2^32 - 1, not {int(flat.min())} .. {int(flat.max())}")
    return np.ascontiguousarray(flat, f"<u{word}" if word == 4 else "<i8").view(np.uint8)


def taken_bags(payloads: pa.Array, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The payloads of bag codes[0], codes[1], ..., as (bytes uint8 [total], bytes per bag int64 [R])."""
    taken = payloads.take(pa.array(codes))
    offsets = np.frombuffer(taken.buffers()[1], np.int64)[taken.offset : taken.offset + len(taken) + 1]
    whole = np.frombuffer(taken.buffers()[2] or b"", np.uint8)
    return whole[offsets[0] : offsets[-1]], np.diff(offsets)


class ExampleWriter:
    """Collects the features of R Examples and joins their wire format in one pass of memory copies."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pieces: list[pa.Array | pa.Scalar | bytes] = []
        self._size = np.zeros(rows, np.int64)

    def _varint_piece(self, values: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        payload, counts = varints(values)
        return binary(payload, counts), counts

    def _add(self, key: str, list_tag: bytes, body: pa.Array, body_size: np.ndarray) -> None:
        # Features.feature entry = 0x0A len { 0x0A len key, 0x12 len { list_tag len { 0x0A len body } } }
        inner, inner_size = self._varint_piece(body_size)
        list_size = 1 + inner_size + body_size
        outer, outer_size = self._varint_piece(list_size)
        feature_size = 1 + outer_size + list_size
        feature, feature_len = self._varint_piece(feature_size)
        name = key.encode()
        head = b"\x0a" + varints(np.array([len(name)]))[0].tobytes() + name + b"\x12"
        entry_size = len(head) + feature_len + feature_size
        entry, entry_len = self._varint_piece(entry_size)
        self._pieces += [b"\x0a", entry, head, feature, list_tag, outer, b"\x0a", inner, body]
        self._size += 1 + entry_len + entry_size

    def int64(self, key: str, values: np.ndarray, lengths: np.ndarray) -> None:
        """An int64 list; `lengths` [R] cut the values into those of each Example."""
        payload, counts = varints(np.ravel(values))
        sizes = segment_sums(counts, lengths)
        self._add(key, b"\x1a", binary(payload, sizes), sizes)

    def words(self, key: str, payload: np.ndarray, sizes: np.ndarray) -> None:
        """A bytes list of one value, the raw words of an Example; `sizes` [R] cut the payload into those of each Example."""
        self._add(key, b"\x0a", binary(payload, sizes), sizes)

    def float32(self, key: str, values: np.ndarray, lengths: np.ndarray) -> None:
        """A float list."""
        payload = np.ascontiguousarray(np.ravel(values), "<f4").view(np.uint8)
        self._add(key, b"\x12", binary(payload, 4 * lengths), 4 * lengths)

    def bytes_(self, key: str, values: Sequence[bytes]) -> None:
        """A bytes list of one value."""
        array = pa.array(values, pa.large_binary())
        self._add(key, b"\x0a", array, pc.binary_length(array).to_numpy().astype(np.int64))

    def finish(self) -> pa.Array:
        """The serialised Examples, large_binary [R]."""
        size, _ = self._varint_piece(self._size)
        pieces = [pa.scalar(p, pa.large_binary()) if isinstance(p, bytes) else p for p in [b"\x0a", size, *self._pieces]]
        return pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
