"""Stages of a multimodal model: those of Wings (`method`), and those of its rivals (`rivals`)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from iit_bench.errors import UserError
from iit_bench.images import UnreadableImageError, is_readable
from iit_bench.training import batches, chat, dialogues, fused_llm, last_layer, scores, sources, start, trained_released
from iit_bench.training.base_llm import HELD_OUT, save_llm, text_scores
from iit_bench.training.chats.mixture import Mixture
from iit_bench.training.chats.reading import Encoding
from iit_bench.training.features import Features
from iit_bench.training.method import Method
from iit_bench.training.records import LAB, Dialogues
from iit_bench.training.rivals import method_of
from iit_bench.training.stages import VlmRecipe
from iit_bench.types import Image, Question

Begin = Callable[[VlmRecipe, Method], tuple[Any, Any]]  # recipe and method -> model and tokenizer


class VlmTask(batches.ChatRows):
    """A `loop.Task`: next-token loss on the replies of VQA dialogues. The tower is frozen, so each image goes through it once."""

    def __init__(self, recipe: VlmRecipe, begin: Begin = start.build) -> None:
        self.recipe = recipe
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.method = method_of(recipe)
            self.module, self.tokenizer = begin(recipe, self.method)
        self.groups = self.method.groups(self.module)
        self._draw = self.method.draw(dialogues.of(recipe.data))
        self._mixture: Mixture | None = None
        self._kept = Features(recipe.run.features << 20)

    def mixture(self, folder: Path | None = None, show: bool = False) -> Mixture | None:
        """The recipe's own data, checked (`chats.checking`) when they are first asked for; None where it has none.

        Args:
            folder: of the training, where the check's result is kept.
            show: progress, and what is refused.

        Raises:
            UserError: a file is missing or damaged, too many of its records cannot be trained on, or nothing could be learned from them.
        """
        if self._mixture is None and self.recipe.data.mixture:
            batch, rates = self.recipe.optim.batch, self.recipe.optim.lr
            self._mixture = Mixture.checked(self.recipe.data, self.encoding(), self.recipe.seed, batch, folder, show)
            if not self._mixture.has_images and not (rates.llm or rates.textual or rates.adapter):
                raise UserError(
                    "recipe: no chat of data.mixture has an image, and text does not reach the projector or the visual learner, so nothing "
                    "would be trained; give chats with images, or llm, textual or adapter a rate under optim.lr"
                )
        return self._mixture

    def encoding(self) -> Encoding:
        """How the model reads chats of own data."""
        config, longest = self.module.config, self.recipe.data.longest
        room = config.text_config.max_position_embeddings - config.prefix_length
        return Encoding(
            tokenizer=self.tokenizer,
            image_tokens=config.image_token_length,
            longest=min(self.tokenizer.model_max_length, room, longest or 1 << 60),
            max_pixels=config.max_image_pixels,
            ids=start.token_ids(self.module, self.tokenizer),
        )

    def rows(self, step: int) -> list[chat.Row]:
        """The chats of the step's batch."""
        if mixture := self.mixture():
            return mixture.rows(step)
        rng = dialogues.generator(self.recipe.seed, step)
        drawn = dialogues.batch(self._draw, self.recipe.data, self.recipe.optim.batch, rng)
        return self._encoded(drawn)

    def _encoded(self, drawn: Sequence[Sequence[Question]]) -> list[chat.Row]:
        """Dialogues as rows, with their images unless the recipe leaves them out."""
        length = self.module.config.image_token_length
        shown = map(dialogues.without_images, drawn) if self.recipe.data.without_images else drawn
        return [chat.encode(self.tokenizer, chat.messages(dialogue), length) for dialogue in shown]

    def held_out(self) -> list[chat.Row]:
        """Questions of images that are not trained on; of own data, chats."""
        if mixture := self.mixture():
            return mixture.held_out()
        chosen = sources.questions(sources.images_of(self.recipe.data), "dev", HELD_OUT)
        return self._encoded([[question] for question in chosen])

    def held_out_sources(self) -> list[dict[str, Any]]:
        """How many of them are of each source."""
        if mixture := self.mixture():
            return mixture.held_out_sources()
        return sources.counts(sources.images_of(self.recipe.data), "dev", HELD_OUT)

    def loss(self, rows: Sequence[chat.Row]) -> torch.Tensor:
        """Summed cross-entropy of the labelled tokens, a scalar.

        Raises:
            UserError: an image of own data is damaged behind its header.
        """
        self.in_training(True)
        if self.packs():
            blocks = self.blocks(rows)
            features = self._readable_features(rows, tuple(image for block in blocks for image in block.images))
            return fused_llm.loss(self.module, blocks, None if features is None else self.module.model.mm_projector(features))
        released = self.method.options.released
        shown = trained_released.slotted(rows, self.module.config) if released else rows
        batch = batches.collate(shown, self.tokenizer.pad_token_id).to(self.module.device)
        features = self._readable_features(rows, batch.images)
        # What else of the last layer the loss does not read, the model leaves out itself; a fused layer these projections too.
        parts = () if fused_llm.fits_last(self.module.model) else last_layer.PROJECTIONS
        keep, _ = scores.reply_targets(batch)
        if released:
            with trained_released.equations(self.module.config):
                output = self.module(batch.ids, batch.mask, image_features=features, labels=batch.labels)
        else:  # no token reads the last column
            with self._for_replies(keep, parts):
                output = self.module(batch.ids[:, :-1], batch.mask[:, :-1], image_features=features, labels=batch.labels)
        return output.loss * self.weight(rows)

    def packs(self) -> bool:
        """As `ChatRows.packs`, but not by the released equations."""
        return self.module.config.mode == "strict" and not self.method.options.released and super().packs()

    def reply_logits(self, batch: batches.Batch) -> torch.Tensor:
        """Logits where the next token is labelled."""
        self.in_training(False)
        batch = batch.to(self.module.device)
        keep, _ = scores.reply_targets(batch)
        arguments = {"return_logits": False, "output_hidden_states": True}
        with self._for_replies(torch.nn.functional.pad(keep, (0, 1)), last_layer.PARTS):
            output = self.module(batch.ids, batch.mask, image_features=self._features(batch.images), **arguments)
        return self.module.lm_head(output.hidden_states[-1][:, :-1][keep])

    def _for_replies(self, keep: torch.Tensor, parts: Sequence[str]) -> contextlib.AbstractContextManager[None]:
        """Around a pass of which only the states where `keep` is true are read. Mode `released` has columns of its own."""
        if self.module.config.mode == "released":
            return contextlib.nullcontext()
        return last_layer.only_at(self.module, keep, parts)

    def score(self, split: str, limit: int | None) -> dict[str, scores.Score]:
        """VQA (V, by subject), after another image (VV), after a text question (TV); text as `text_scores`, and after a VQA turn (VT).

        Of a mixture without a source of the lab nothing is known that could be asked: the scores are empty.
        """
        of: sources.Split = "test" if split == "test" else "dev"
        if (data := asked_of(self.recipe.data)) is None:
            return {}
        names, text = sources.images_of(data), sources.text_of(data)
        pictured, chosen = sources.questions(names, of), sources.questions(names, of, limit)
        rng = dialogues.generator(0, len(pictured), 2)
        length = self.module.config.image_token_length
        taught = [question for name in text for question in sources.taught(name)]
        texts = sources.questions(text, of, limit)

        def measure(of: list[list[Question]]) -> scores.Score:
            return scores.accuracy(self.tokenizer, self.reply_logits, of, length)

        by_name: dict[str, scores.Score] = {}
        for part in sorted({sources.part(question, names) for question in pictured}):
            by_name[f"V {part}"] = measure([[question] for question in chosen if sources.part(question, names) == part])
        by_name["V"] = scores.Score(sum(score.correct for score in by_name.values()), len(chosen))
        by_name["VV"] = measure([[pictured[rng.integers(len(pictured))], question] for question in sources.some(chosen, 500)])
        by_name["TV"] = measure([[taught[rng.integers(len(taught))], question] for question in sources.some(chosen, 500)])
        by_name["VT"] = measure([[pictured[rng.integers(len(pictured))], question] for question in texts])
        return scores.asked(by_name) | text_scores(self.tokenizer, self.reply_logits, split, limit, data)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and processor."""
        save_vlm(self.method.finished(self.module), self.tokenizer, folder)
        self.method.save(folder)

    def card(self) -> dict[str, Any]:
        """What training.json records beside what it has of every stage."""
        return {"method": self.method.fields()}

    def load(self, folder: Path) -> None:
        """Put the weights of a saved folder in place of the trained ones; the tower's features are computed anew with it."""
        self.module, self.tokenizer = start.load(folder)
        self._kept.clear()

    def counts(self) -> dict[str, Any]:
        """Of images: how often one went through the tower, and how often features were dropped for want of room."""
        return {"images": {"computed": self._kept.computed, "dropped": self._kept.dropped}}

    def _features(self, images: tuple[Image, ...]) -> torch.Tensor | None:
        """Tower features [n, T, D_v] of images in reading order."""
        return self._kept.of(images, self._computed).to(self.module.device) if images else None

    def _readable_features(self, rows: Sequence[chat.Row], images: tuple[Image, ...]) -> torch.Tensor | None:
        """`_features` of the images of `rows`; raises as `loss`."""
        try:
            return self._features(images)
        except UnreadableImageError as error:
            unreadable = (image for row in rows for image in row.images if not is_readable(image))
            damaged = getattr(next(unreadable, None), "name", "a row")
            raise UserError(
                f"{damaged}: an image is damaged ({error}); mend it and train into another --out; the check before the first step "
                "finds all such images unless data.pixels is false"
            ) from None

    def _computed(self, images: Sequence[Image]) -> torch.Tensor:
        """As `_features`, by the tower."""
        from iit_bench.images import decode
        from iit_bench.models.wings.vision import preprocess_all

        config = self.module.config
        pixels = preprocess_all([decode(image.data, config.max_image_pixels) for image in images], config)
        pixels = pixels.to(self.module.device, memory_format=torch.channels_last)  # convolutions on a CPU take two thirds of the time
        with torch.no_grad():
            features: torch.Tensor = self.module.encode_images(pixels)
        return features


def asked_of(data: Dialogues) -> Dialogues | None:
    """The lab's sources that a model trained on `data` is scored on; None where a mixture has none of them."""
    if not data.mixture:
        return data
    shares = {part.source.removeprefix(LAB): part.weight for part in data.mixture if part.source.startswith(LAB)}
    return dataclasses.replace(data, mixture=(), sources=shares) if shares else None


def save_vlm(module: Any, tokenizer: Any, folder: Path) -> None:
    """Write a visual stage's model, in bfloat16, its tokenizer and its processor."""
    from iit_bench.models.wings.processor import WingsProcessor

    save_llm(module, tokenizer, folder)
    WingsProcessor.from_config(module.config, tokenizer).save_pretrained(folder)
