"""Features of a frozen vision tower, kept from step to step so that an image goes through the tower once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from iit_bench.types import Image

AT_ONCE = 256  # images in one pass of the tower


class Features:
    """Tower features by image, at most `most` bytes of them; where there is no more room, those read longest ago are dropped.

    They are in the machine's memory, not in an accelerator's, which the training needs.

    Attributes:
        most: bytes.
        held: bytes that are kept now.
        computed: images that went through the tower so far, those that came again after they were dropped too.
        dropped: images whose features were dropped for want of room.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held, self.computed, self.dropped = most, 0, 0, 0
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()  # sha256 of an image -> [T, D_v]

    def of(self, images: Sequence[Image], compute: Callable[[Sequence[Image]], torch.Tensor]) -> torch.Tensor:
        """Features of images in their order.

        Args:
            images: at least one.
            compute: the features [n, T, D_v] of n images, none of them kept and none twice.

        Returns:
            [len(images), T, D_v], on the CPU.
        """
        found = {image.sha256: self._kept[image.sha256] for image in images if image.sha256 in self._kept}
        for key in found:
            self._kept.move_to_end(key)
        new = list({image.sha256: image for image in images if image.sha256 not in found}.values())
        for first in range(0, len(new), AT_ONCE):
            part = new[first : first + AT_ONCE]
            # A row of a batch would keep all of the batch in memory.
            computed = {image.sha256: row.clone() for image, row in zip(part, compute(part).cpu(), strict=True)}
            self.computed += len(part)
            found |= computed
            self._keep(computed)
        return torch.stack([found[image.sha256] for image in images])

    def clear(self) -> None:
        """Forget all features, those of another tower."""
        self._kept.clear()
        self.held = 0

    def _keep(self, computed: dict[str, torch.Tensor]) -> None:
        self._kept |= computed
        self.held += sum(row.nbytes for row in computed.values())
        while self.held > self.most:
            _, oldest = self._kept.popitem(last=False)
            self.held -= oldest.nbytes
            self.dropped += 1
