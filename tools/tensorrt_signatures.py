"""Take from a torch-tensorrt wheel the signatures that the TensorRT engine calls, without importing anything of it.

`python tools/tensorrt_signatures.py WHEEL > tests/models/data/torch_tensorrt.json`, the wheel being what
`pip download --no-deps torch-tensorrt==2.13.0` fetches. A test checks every keyword that the engine passes against it.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path

FUNCTION = "convert_exported_program_to_serialized_trt_engine"
PLACES = {
    FUNCTION: ("torch_tensorrt/dynamo/_compiler.py", None),
    "TorchTensorRTModule": ("torch_tensorrt/dynamo/runtime/_TorchTensorRTModule.py", "__init__"),
}


def signature(source: str, name: str, method: str | None) -> dict[str, list[str]]:
    """Names of positional and keyword-only parameters of a function, or of a class's method."""
    body: list[ast.stmt] = ast.parse(source).body
    if method is not None:
        body = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name).body
    wanted = method or name
    found = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == wanted)
    return {
        "positional": [argument.arg for argument in found.args.args if argument.arg != "self"],
        "keyword_only": [argument.arg for argument in found.args.kwonlyargs],
    }


def input_keywords(source: str) -> list[str]:
    """What `Input(**kwargs)` looks up: it names no parameters in its signature."""
    keys = [
        node.slice
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "kwargs"
    ]
    return sorted({key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)})


def main() -> None:
    """Print the extract as JSON."""
    wheel = Path(sys.argv[1])
    with zipfile.ZipFile(wheel) as archive:
        found = {name: signature(archive.read(path).decode(), name, method) for name, (path, method) in PLACES.items()}
        keywords = input_keywords(archive.read("torch_tensorrt/_Input.py").decode())
    extract = {
        "wheel": wheel.name,
        "made_by": "tools/tensorrt_signatures.py",
        **found,
        "Input": {"keyword_only": keywords},
    }
    print(json.dumps(extract, indent=1))


if __name__ == "__main__":
    main()
