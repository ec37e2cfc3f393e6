"""Pixels as a PNG file whose bytes are the same on every machine.

Compressed bytes differ between versions of zlib and between kinds of CPU, so the pixels are stored uncompressed, as PNG allows.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

BLOCK = 65535  # bytes of a stored block of deflate


def png(pixels: np.ndarray) -> bytes:
    """The file of a picture.

    Args:
        pixels: uint8, [height, width] for grey or [height, width, 3] for RGB.
    """
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(lines)) + _chunk(b"IEND", b"")


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950, RFC 1951)."""
    blocks = [data[first : first + BLOCK] for first in range(0, len(data), BLOCK)]
    parts = [struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block for i, block in enumerate(blocks)]
    return b"\x78\x01" + b"".join(parts) + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
