"""Records on disk: trees of arrays without pickle, framed and checksummed, so that a kill costs at most the last one.

frame    magic, length and CRC-32 of the payload, payload
payload  length of a JSON text, the text, the bytes of every array after one another
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpc.errors import LogError

MAGIC = b"SPL1"
HEAD = struct.Struct("<4sII")
LENGTH = struct.Struct("<I")
ARRAY = "array"


def encode(value: Any) -> bytes:
    """A tree of dicts with text keys, lists, arrays (JAX or numpy), numbers, texts and None as bytes; tuples become lists."""
    blobs: list[bytes] = []

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        array = np.asarray(value)
        if array.dtype.kind not in "fiubU" or array.nbytes > 1 << 26:
            raise TypeError(f"{type(value).__name__} of dtype {array.dtype} cannot be recorded")
        blobs.append(np.ascontiguousarray(array).tobytes())
        return {ARRAY: [array.dtype.str, list(array.shape)]}

    text = json.dumps(plain(value)).encode()
    return b"".join([LENGTH.pack(len(text)), text, *blobs])


def decode(payload: bytes) -> Any:
    """The inverse of `encode`; arrays come back as numpy, read-only."""
    (length,) = LENGTH.unpack_from(payload)
    at = LENGTH.size + length

    def whole(value: Any) -> Any:
        nonlocal at
        if isinstance(value, list):
            return [whole(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) != {ARRAY}:
            return {key: whole(item) for key, item in value.items()}
        dtype, shape = np.dtype(value[ARRAY][0]), tuple(value[ARRAY][1])
        count = int(np.prod(shape, dtype=int))
        array = np.frombuffer(payload, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
        return array

    return whole(json.loads(payload[LENGTH.size : at]))


def frame(payload: bytes) -> bytes:
    """`payload` as it stands in a file; long ones compressed."""
    payload = b"z" + zlib.compress(payload, 1) if len(payload) > 1 << 15 else b"p" + payload
    return HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def read_frames(path: Path) -> Iterator[bytes]:
    """The payloads of a file. One cut short at its end was being written when the writer was killed, and is left out.

    Raises `LogError` for bytes that were changed.
    """
    content = path.read_bytes()
    at = 0
    while at + HEAD.size <= len(content):
        magic, length, checksum = HEAD.unpack_from(content, at)
        if magic != MAGIC:
            raise LogError(f"{path}: no record begins at byte {at}. The file was changed, or another version wrote it.")
        payload = content[at + HEAD.size : at + HEAD.size + length]
        if len(payload) < length:
            if MAGIC in payload:
                raise LogError(f"{path}: the length of the record at byte {at} was changed. Use an undamaged copy of the log.")
            return
        if zlib.crc32(payload) != checksum:
            raise LogError(f"{path}: the record at byte {at} does not match its checksum. Use an undamaged copy of the log.")
        yield zlib.decompress(payload[1:]) if payload[:1] == b"z" else payload[1:]
        at += HEAD.size + length
