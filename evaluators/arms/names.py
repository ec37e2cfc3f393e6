"""The arms by name, and which of them a run cannot be asked (docs/spec/iit.md#arms)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from iit_bench.errors import UserError

if TYPE_CHECKING:
    from iit_bench.models.contract import Capabilities

FOLDER = "arms"  # of a run folder: arms/NAME is the run folder of an arm
ALL = "all"  # the word for every arm that a run can be asked


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is changed of the targets of a run."""

    title: str  # for a table
    changes: str  # what is changed, in a sentence
    targets: Literal["V", "T", ""]  # modality of the targets that it changes; "" = any
    after_image: bool = False  # only targets with a V turn before them
    shows_image: bool = True  # the changed chats have images


ARMS: Mapping[str, Arm] = {
    "blind": Arm(title="without image", changes="The target's images are removed.", targets="V"),
    "blind-history": Arm(
        title="history without images",
        changes="The images of the turns before the target are removed.",
        targets="",
        after_image=True,
    ),
    "blank": Arm(title="grey image", changes="Each image of the target is a uniform grey one of its size.", targets="V"),
    "contradicting": Arm(
        title="contradicting image",
        changes="The target's image is that of a question with the same words and another answer.",
        targets="V",
    ),
    "swapped": Arm(title="another target's image", changes="Two targets have each other's images.", targets="V"),
    "swapped-history": Arm(
        title="image swapped with history",
        changes="The target and the last visual turn before it have each other's images.",
        targets="V",
        after_image=True,
    ),
    "moved-first": Arm(title="image first", changes="The images are the first part of the target's message.", targets="V"),
    "moved-last": Arm(title="image last", changes="The images are the last part of the target's message.", targets="V"),
    "wordless": Arm(title="without question", changes="The question's words are removed; images and choices stay.", targets="V"),
    "irrelevant": Arm(
        title="irrelevant image",
        changes="An image of another question is the first part of the message of a text target.",
        targets="T",
    ),
    "pixels": Arm(title="question as pixels", changes="The words of a text question are drawn in an image.", targets="T"),
    "reordered": Arm(title="choices reordered", changes="The choices are moved by 1, 2, … places.", targets="", shows_image=False),
}
# Why a dialogue is not asked: key in run.json's `left_out` → words.
REASONS: Mapping[str, str] = {
    "unanswered": "the run has no answer to them",
    "unchanged": "the arm changes nothing in them",
    "no_other_image": "no other image fits",
    "fixed_order": "their choices keep their order",
    "not_drawn": "the font cannot draw a character",
    "too_long": "the words fit no image",
    "unreadable_image": "an image is unreadable",
}


def parse_arms(names: Sequence[str] | None) -> tuple[str, ...]:
    """The arms of these names, each once, in the order of `ARMS`; all for None and for "all".

    Raises:
        UserError: an unknown name, or an empty list.
    """
    if names is None or ALL in names:
        return tuple(ARMS)
    if unknown := [name for name in names if name not in ARMS]:
        raise UserError(f"there is no arm {', '.join(unknown)}; the arms are {', '.join(ARMS)}")
    if not names:
        raise UserError(f"--arms names no arm; the arms are {', '.join(ARMS)}")
    return tuple(name for name in ARMS if name in names)


def refusals(names: Sequence[str], run: Mapping[str, Any], model: str, can: Capabilities | None) -> dict[str, str]:
    """Those of the arms that a run cannot be asked, each with the reason in a sentence without its full stop.

    Args:
        names: of arms.
        run: run.json, or what it will hold: its style, scoring, tiers, and whether its model is blind.
        model: the model's name.
        can: what the model takes and gives; None while it is not loaded, which refuses only what no model can be asked.
    """
    found = {}
    for name in names:
        why = next(filter(None, (check(ARMS[name], run) for check in _OF_RUNS)), "")
        if not why and can is not None:
            why = next(filter(None, (check(ARMS[name], run, model, can) for check in _OF_MODELS)), "")
        elif not why and ARMS[name].shows_image and not run["model"].get("accepts_images", True):
            why = f"model {model!r} takes no images"
        if why:
            found[name] = why
    return found


def check_askable(names: Sequence[str], run: Mapping[str, Any], model: str, can: Capabilities | None) -> None:
    """Refuse arms that the user names and that a run cannot be asked; `can` as for `refusals`.

    Raises:
        UserError: names the first one, and why.
    """
    for name, why in refusals(names, run, model, can).items():
        raise UserError(f"arm {name} cannot be asked: {why}; leave it out of --arms")


def check_any_askable(refused: Mapping[str, str], names: Sequence[str], run: str) -> None:
    """Refuse to ask arms of which none can be asked.

    Args:
        refused: those that cannot, as `refusals` gives them.
        names: of all.
        run: the words for the run in the message.

    Raises:
        UserError: with every reason once.
    """
    if len(refused) < len(names):
        return
    by_reason: dict[str, list[str]] = {}
    for name, why in refused.items():
        by_reason.setdefault(why, []).append(name)
    why = "; ".join(f"{', '.join(same)}: {reason}" for reason, same in by_reason.items())
    raise UserError(f"{run} cannot be asked any arm ({why})")


def of_options(names: Sequence[str], *, blind: bool, style: str | None) -> None:
    """Refuse arms that the user names and that cannot be asked with these options of a run; `style` None: not chosen yet.

    Raises:
        UserError: as `check_askable`.
    """
    any_target = ("VT", "VV")  # the tiers are not known yet
    check_askable(names, {"model": {"blind": blind}, "style": style, "tiers": any_target}, "", None)


def of_tiers(name: str, tiers: Sequence[str]) -> tuple[str, ...]:
    """Those of the tiers whose targets an arm may change."""
    arm = ARMS[name]
    return tuple(tier for tier in tiers if tier.endswith(arm.targets) and (not arm.after_image or "V" in tier[:-1]))


# ---------------------------------------------------------------- why not

OfRun = Callable[[Arm, Mapping[str, Any]], str]
OfModel = Callable[[Arm, Mapping[str, Any], str, Any], str]


def _blind(arm: Arm, run: Mapping[str, Any]) -> str:
    return "the run's images are all removed (--blind)" if run["model"]["blind"] and arm.shows_image else ""


def _shows_choices(arm: Arm, run: Mapping[str, Any]) -> str:
    if arm is not ARMS["reordered"] or run["style"] != "cloze":
        return ""
    return "style cloze shows no choices, so they have no order; it needs a run in style options or letters"


def _has_targets(arm: Arm, run: Mapping[str, Any]) -> str:
    if any(tier.endswith(arm.targets) and (not arm.after_image or "V" in tier[:-1]) for tier in run["tiers"]):
        return ""
    what = f"ends in {arm.targets}" if arm.targets else "has a target"
    return f"no tier of the run {what}{' after a visual turn' if arm.after_image else ''}"


def _takes_images(arm: Arm, run: Mapping[str, Any], model: str, can: Capabilities) -> str:
    if not arm.shows_image or can.takes_images:
        return ""
    return f"model {model!r} takes no images ({can.why_not['takes_images']})"


def _scores_images(arm: Arm, run: Mapping[str, Any], model: str, can: Capabilities) -> str:
    if not arm.shows_image or run["scoring"] == "generate" or can.scores_images:
        return ""
    return f"model {model!r} does not score replies to images ({can.why_not['scores_images']})"


_OF_RUNS: tuple[OfRun, ...] = (_blind, _shows_choices, _has_targets)
_OF_MODELS: tuple[OfModel, ...] = (_takes_images, _scores_images)
