"""A picture as a camera might see it: turned, cropped, waved, lit, with noise, the same bytes on every machine.

Only operations that IEEE 754 rounds exactly are used (no sine, no random generator whose stream a version may change): random numbers are
the digits of a hash, angles are given by the tangent of their half, waves are parabolas.
"""

from __future__ import annotations

import hashlib

import numpy as np

from iit_bench.data.png import png

SIZE = 64  # pixels of a side of the result
# At strength 1; at strength 0 each is 0.
TURN = 0.22  # tangent of half the largest angle: 25 degrees
ZOOM = 0.35  # the flag is up to so much larger, and then cropped, or smaller
MOVE = 8.0  # pixels
WAVE = 4.0  # pixels
LIGHT = 0.45  # share of the brightness, over the whole picture and from side to side
NOISE = 48.0  # of 255
WIDTH = 52.0  # pixels that the flag is wide at strength 0


def render(flag: np.ndarray, strength: float, name: str) -> bytes:
    """A PNG file of a flag on a plain background, 64 x 64, RGB.

    Args:
        flag: uint8 [height, width, 3].
        strength: of the changes, 0 … 1.
        name: what all of them are drawn by.
    """
    draw = _Draw(name)
    across, down = np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, np.arange(SIZE) - (SIZE - 1) / 2)  # pixels from the centre
    u, v = _turned(across - draw.about(MOVE * strength), down - draw.about(MOVE * strength), draw.about(TURN * strength))
    u, v = u / (1 + draw.about(ZOOM * strength)), v / (1 + draw.about(ZOOM * strength))
    v = v + WAVE * strength * draw.one() * _wave(u / (24 + 24 * draw.one()) + draw.one())
    height, width = flag.shape[:2]
    shown, inside = _sampled(flag, v * (width / WIDTH) + (height - 1) / 2, u * (width / WIDTH) + (width - 1) / 2)
    background = np.array([draw.one(), draw.one(), draw.one()]) * 255
    picture = np.where(inside[..., None], shown, background)
    gain = 1 + draw.about(LIGHT * strength) + (across * draw.about(LIGHT * strength) + down * draw.about(LIGHT * strength)) / SIZE
    picture = picture * gain[..., None] + (draw.bytes(SIZE * SIZE * 3).reshape(SIZE, SIZE, 3) / 127.5 - 1) * (NOISE * strength)
    return png(np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8))


class _Draw:
    """Random numbers that are the bytes of a hash (SHAKE-256)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0

    def bytes(self, n: int) -> np.ndarray:
        """[n], 0 … 255."""
        self._calls += 1
        return np.frombuffer(hashlib.shake_256(f"{self._name} {self._calls}".encode()).digest(n), np.uint8)

    def one(self) -> float:
        """A number in [0, 1)."""
        return int.from_bytes(self.bytes(4).tobytes(), "big") / 2**32

    def about(self, most: float) -> float:
        """A number in [-most, most)."""
        return (2 * self.one() - 1) * most


def _turned(u: np.ndarray, v: np.ndarray, tangent: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates turned by the angle whose half has this tangent."""
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    return u * cosine + v * sine, v * cosine - u * sine


def _wave(phase: np.ndarray) -> np.ndarray:
    """A smooth wave of period 1 and height 1, made of parabolas."""
    turn = 2 * (phase - np.floor(phase)) - 1  # -1 … 1
    return 4 * turn * (1 - np.abs(turn))


def _sampled(flag: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flag's colours at fractional places, float64 [.., 3], and which of the places are on the flag, bool [..]."""
    height, width = flag.shape[:2]
    inside = (row > -0.5) & (row < height - 0.5) & (column > -0.5) & (column < width - 0.5)
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = np.minimum(np.floor(row), height - 2).astype(int), np.minimum(np.floor(column), width - 2).astype(int)
    low, right = (row - top)[..., None], (column - left)[..., None]
    upper = flag[top, left] * (1 - right) + flag[top, left + 1] * right
    lower = flag[top + 1, left] * (1 - right) + flag[top + 1, left + 1] * right
    return upper * (1 - low) + lower * low, inside
