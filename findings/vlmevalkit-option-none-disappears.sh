#!/usr/bin/env bash
# ms-vlmeval 0.0.20 (VLMEvalKit) with pandas 3.1.1: an option whose text is "None" is missing from the prompt.
#
# Expected: four options in the table, four options in the prompt; or the table is refused.
# Happens:  pandas reads the cells None, NA, nan and null as empty, and build_prompt leaves empty options out. The model is asked with three
#           options; where "None" is the right one, its letter is not on offer. Nothing is raised or logged.
# Seen:     the prompt below ends at C. Written "None." or "none of them", the option is there.
#
# The package's __init__ imports every model and data set; only the module of multiple-choice tables is imported here.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages pandas==3.1.1 numpy==2.4.6 pillow==13.0.0 huggingface_hub==2.4.0 pyarrow==26.0.1 sty==1.0.6 tabulate==0.10.0 \
    validators==0.36.0 termcolor==3.3.0 tqdm==4.70.1 portalocker==4.4.2 rich==15.0.0 requests==2.32.5 python-dotenv==1.2.1 openpyxl==3.1.5
"$python" -m pip install --quiet --disable-pip-version-check --no-deps ${PIP_ARGUMENTS:-} --target "$work/kit" ms-vlmeval==0.0.20

PYTHONPATH=$work/kit LMUData=$work/tables "$python" - <<'PY' 2>/dev/null | expect "Question: Which ring is drawn?
Options:
A. Left
B. Right
C. Both
Please select the correct answer from the options above."
import base64
import io
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from PIL import Image

root = Path(find_spec("vlmeval").origin).parent
for name in ("vlmeval", "vlmeval.dataset"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(root.joinpath(*name.split(".")[1:]))]

picture = io.BytesIO()
Image.new("RGB", (32, 32), "white").save(picture, "PNG")
row = ["0", "Which ring is drawn?", "Left", "Right", "Both", "None", "D", base64.b64encode(picture.getvalue()).decode()]
Path("tables").mkdir()
Path("tables/Rings.tsv").write_text("\t".join(["index", "question", "A", "B", "C", "D", "answer", "image"]) + "\n" + "\t".join(row) + "\n")

table = import_module("vlmeval.dataset.image_mcq").CustomMCQDataset("Rings")
print([part["value"] for part in table.build_prompt(table.data.iloc[0]) if part["type"] == "text"][0].strip())
PY
