#!/usr/bin/env bash
# mlcroissant 1.1.1: a data set's rai:dataManipulationProtocol is not read.
#
# Expected: the field of the RAI vocabulary 1.0 is in metadata.data_manipulation_protocol, or an unknown name is an error or a warning.
# Happens:  the reader looks for rai:dataDataManipulationProtocol, a name that the vocabulary does not have. The field of the right name is
#           None, without an error or a warning, while its neighbour dataPreprocessingProtocol is read.
# Seen:     the three lines below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages mlcroissant==1.1.1

"$python" - <<'PY' 2>/dev/null | expect "errors and warnings: []
preprocessing: ['Texts were trimmed.']
manipulation: None"
import mlcroissant as mlc
from mlcroissant._src.core.rdf import make_context

metadata = mlc.Dataset(
    jsonld={
        "@context": make_context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "rings",
        "description": "Drawings of rings.",
        "url": "https://example.org/rings",
        "license": "MIT",
        "version": "1.0.0",
        "datePublished": "2026-01-01",
        "creator": {"@type": "sc:Organization", "name": "A lab"},
        "citeAs": "A lab, 2026",
        "rai:dataPreprocessingProtocol": "Texts were trimmed.",
        "rai:dataManipulationProtocol": "Choices were shuffled.",
    }
).metadata
print("errors and warnings:", [*metadata.issues.errors, *metadata.issues.warnings])
print("preprocessing:", metadata.data_preprocessing_protocol)
print("manipulation:", metadata.data_manipulation_protocol)
PY
