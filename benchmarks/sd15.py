"""What the benchmarks against PyTorch share: a full-size SD1.5 folder of random weights, children.

The two sides never live in one process: each measurement is a Python process of its own that
prints one JSON object, started in turn (`in_child`).
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

UNET = {
    "sample_size": 64,
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "eos_token_id": 2,
}
TINY = {  # laid over the above by --tiny: the same programs in seconds
    "unet": {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 96},
    "vae": {"block_out_channels": [32, 32, 64, 64]},
    "text_encoder": {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2},
}
PARTS = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}


def written(folder: Path, tiny: bool) -> Path:
    """The folder, written by PyTorch first (in a child process) where it is not there yet."""
    if not (folder / "complete").exists():
        in_child(HERE / "sd15.py", str(folder), str(int(tiny)))
    return folder


def write(folder: Path, tiny: bool) -> None:
    """Random weights in the layout of Stable Diffusion 1.5, float32, by PyTorch's own libraries."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    builders = {
        "unet": lambda c: diffusers.UNet2DConditionModel(**c),
        "vae": lambda c: diffusers.AutoencoderKL(**c),
        "text_encoder": lambda c: transformers.CLIPTextModel(transformers.CLIPTextConfig(**c)),
    }
    for part, config in PARTS.items():
        made = builders[part](config | (TINY[part] if tiny else {}))
        made.save_pretrained(folder / part)
    (folder / "complete").touch()


def in_child(script: Path, *arguments: str, quiet: bool = True) -> dict[str, Any]:
    """Runs `script arguments` in a process of its own: the JSON object it prints last."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    child = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if child.returncode:
        raise SystemExit(f"{script.name} {' '.join(arguments)} failed:\n{child.stderr}")
    lines = child.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def memory(kind: str) -> int:
    """Bytes resident in this process: now ("VmRSS") or at most since `forget_peak` ("VmHWM")."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{kind}:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) * 1024


def forget_peak() -> None:
    """Lets the peak that the system keeps for this process begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def warm_up_files(folder: Path) -> int:
    """Reads all weights once, so that they lie in the page cache; their number of bytes."""
    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while part := file.read(1 << 24):
                total += len(part)
    return total


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    total = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    packages = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "jax", "flax")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(total.group(1)) / 2**20, 1) if total else None,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2] == "1")
