"""Write the networks of the package for the page, as float16: NAME.onnx, NAME.json.

python docs/playground/models.py FOLDER

The JSON is what the ONNX file says about itself, which ONNX Runtime Web cannot read.
"""

import json
import sys
from pathlib import Path

import onnx

from nanodiff import pretrained
from nanodiff.export import to_onnx
from nanodiff.trained import NAMES

if __name__ == "__main__":
    for name in NAMES:
        path = Path(sys.argv[1]) / name
        to_onnx(pretrained(name), path.with_suffix(".onnx"), half=True)
        told = onnx.load(path.with_suffix(".onnx")).metadata_props
        about = {prop.key: json.loads(prop.value) for prop in told}
        path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
