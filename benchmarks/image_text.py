"""What benchmarks of image-text models run on: an LLM with a tower of SigLIP-base's shape, and questions of four choices of several tokens.

    python benchmarks/image_text.py MODEL_FOLDER BENCH_FOLDER --llm LLM_FOLDER [--targets 12]
    python benchmarks/engine.py --model hf:MODEL_FOLDER --bench BENCH_FOLDER --peer ../other --style cloze

Writes a LLaVA whose text part is the LLM (a folder of transformers, such as SmolLM2-135M-Instruct) and whose tower and projector are drawn
at random, 196 columns per image, with its processor; and a benchmark of all 14 tiers whose pictures and words are made here. Scores of such
a model mean nothing; its work is that of a real one.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

# A reply begins right after a special token: builds differ in whether white space before it is scored with it.
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}<|im_start|>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' %}<image>\n{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant<|im_start|>{% endif %}"
)
SIGLIP_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "cross")
CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima", "Kenya": "Nairobi", "Norway": "Oslo", "Cuba": "Havana"}
ASKED = ("Which city is the capital of {}?", "Where is the government of {}?", "Name the capital of {}.", "From which city is {} governed?")


def make_model(folder: Path, llm: Path) -> None:
    """Write the model and its processor."""
    import transformers as hf

    tokenizer = hf.AutoTokenizer.from_pretrained(llm)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    mark = tokenizer.convert_tokens_to_ids("<image>")
    text = hf.AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    text.resize_token_embeddings(len(tokenizer))
    vision = hf.SiglipVisionConfig(**SIGLIP_BASE, image_size=224, patch_size=16, vision_use_head=False)
    config = hf.LlavaConfig(vision_config=vision, text_config=text.config, image_token_index=mark, image_seq_length=196)
    config.vision_feature_select_strategy = "full"
    torch.manual_seed(0)
    model = hf.LlavaForConditionalGeneration(config).to(torch.float32)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.load_state_dict(text.lm_head.state_dict())
    size = {"height": 224, "width": 224}
    processor = hf.LlavaProcessor(
        image_processor=hf.SiglipImageProcessor(size=size),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_benchmark(folder: Path, targets: int) -> None:
    """Write the benchmark, with `targets` per modality."""
    from builders.build import BuildOptions, build

    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        tables = {"texts": _texts(draw), "pictures": _pictures(draw)}
        paths = {name: Path(scratch) / f"{name}.jsonl" for name in tables}
        for name, rows in tables.items():
            paths[name].write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        sources: dict[str, Any] = {"text": (str(paths["texts"]),), "visual": (str(paths["pictures"]),)}
        build(BuildOptions(out=folder, size=targets, answers=("text",), overwrite=True, **sources))


def _texts(draw: random.Random) -> list[dict[str, Any]]:
    rows = []
    for (country, capital), asked in itertools.product(CAPITALS.items(), ASKED):
        others = draw.sample([city for city in CAPITALS.values() if city != capital], 3)
        choices = [f"the city of {city}" for city in (capital, *others)]
        rows.append({"question": asked.format(country), "choices": choices, "answer": choices[0], "cluster": country})
    return rows


def _pictures(draw: random.Random) -> list[dict[str, Any]]:
    """A picture of its own per question."""
    kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    rows = []
    for number, kind in enumerate(kinds * 3):
        choices = [f"a {one}" for one in (kind, *draw.sample([one for one in kinds if one != kind], 3))]
        row = {"question": f"Which shape is it, in picture {number}?", "choices": choices, "answer": choices[0], "cluster": str(number)}
        rows.append({**row, "images": _drawn(*kind.split(), draw)})
    return rows


def _drawn(colour: str, shape: str, draw: random.Random) -> str:
    picture = Image.new("RGB", (224, 224), "white")
    pen, (x, y), size = ImageDraw.Draw(picture), (draw.randrange(10, 90), draw.randrange(10, 90)), draw.randrange(60, 120)
    if shape == "circle":
        pen.ellipse((x, y, x + size, y + size), fill=colour)
    elif shape == "square":
        pen.rectangle((x, y, x + size, y + size), fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=colour)
    else:
        pen.line((x, y, x + size, y + size), fill=colour, width=12)
        pen.line((x, y + size, x + size, y), fill=colour, width=12)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--llm", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=12, help="per modality")
    arguments = parser.parse_args()
    make_model(arguments.model, arguments.llm)
    make_benchmark(arguments.bench, arguments.targets)


if __name__ == "__main__":
    main()
