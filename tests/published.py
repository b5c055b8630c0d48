"""Tiny random models in the layouts that people publish: Stable Diffusion, SDXL, DeepFloyd IF.

Configs are those of the recorded networks, fitted to each other; tokenizers are made on the spot in
the published formats.
"""

import io
import json
import random
from pathlib import Path

import sentencepiece
import tiny

from imagic_jax.weights import save_part
from imagic_jax.weights.families import family_of, parameter_shapes

PARITY = Path(__file__).parent / "fixtures" / "parity"
MERGES = ["d o", "do g</w>", "r e", "re d</w>", "n o", "no w</w>"]
SD_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
IF_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "epsilon",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.5,
}
NOISING = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}
UNET, VAE = ["diffusers", "UNet2DConditionModel"], ["diffusers", "AutoencoderKL"]
CLIP, CLIP_TOKENS = ["transformers", "CLIPTextModel"], ["transformers", "CLIPTokenizer"]


SMALL_UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}
SMALL_VAE = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


def write_sd(folder: Path, prediction: str = "epsilon", small: bool = False) -> Path:
    """A `StableDiffusionPipeline` of 128 pixels; `small`: of 16, with two levels, one attended."""
    _index(
        folder, "StableDiffusionPipeline", unet=UNET, vae=VAE, text_encoder=CLIP,
        tokenizer=CLIP_TOKENS, scheduler=["diffusers", "PNDMScheduler"],
    )  # fmt: skip
    unet, vae = (SMALL_UNET, SMALL_VAE) if small else ({}, {})
    _part(folder / "unet", "unet_sd1", 1, cross_attention_dim=32, **unet)
    _part(folder / "vae", "vae_sd", 2, scaling_factor=0.5, **vae)
    _part(folder / "text_encoder", "clip_text_sd1", 3)
    write_clip_tokenizer(folder / "tokenizer")
    _scheduler(folder, {**SD_SCHEDULER, "prediction_type": prediction})
    return folder


def write_sdxl(folder: Path) -> Path:
    """A `StableDiffusionXLPipeline` of 128 pixels."""
    _index(
        folder, "StableDiffusionXLPipeline", unet=UNET, vae=VAE, text_encoder=CLIP,
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"], tokenizer=CLIP_TOKENS,
        tokenizer_2=CLIP_TOKENS, scheduler=["diffusers", "EulerDiscreteScheduler"],
        force_zeros_for_empty_prompt=True,
    )  # fmt: skip
    _part(folder / "unet", "unet_sdxl", 1, cross_attention_dim=72)
    _part(folder / "vae", "vae_sd", 2, scaling_factor=0.5)
    _part(folder / "text_encoder", "clip_text_sd1", 3)
    _part(folder / "text_encoder_2", "clip_text_proj_sdxl", 4)
    write_clip_tokenizer(folder / "tokenizer")
    write_clip_tokenizer(folder / "tokenizer_2", pad="!")
    gone = ("set_alpha_to_one", "skip_prk_steps")
    _scheduler(folder, {k: v for k, v in SD_SCHEDULER.items() if k not in gone})
    return folder


def write_if(folder: Path) -> list[Path]:
    """DeepFloyd IF's two stages, 16 and 32 pixels, and the x4 upscaler behind them, 128."""
    first, second, third = (folder / n for n in ("if_i", "if_ii", "x4"))
    _index(
        first, "IFPipeline", unet=UNET, text_encoder=["transformers", "T5EncoderModel"],
        tokenizer=["transformers", "T5Tokenizer"], scheduler=["diffusers", "DDPMScheduler"],
    )  # fmt: skip
    _part(first / "unet", "unet_if_i", 1)
    _part(first / "text_encoder", "t5_encoder", 2)
    write_t5_tokenizer(first / "tokenizer")
    _scheduler(first, IF_SCHEDULER)
    _index(
        second, "IFSuperResolutionPipeline", unet=UNET, scheduler=["diffusers", "DDPMScheduler"],
        image_noising_scheduler=["diffusers", "DDPMScheduler"],
    )  # fmt: skip
    _part(second / "unet", "unet_if_ii", 3)
    _scheduler(second, {**IF_SCHEDULER, "sample_max_value": 1.0})
    _scheduler(second, NOISING, "image_noising_scheduler")
    _index(
        third, "StableDiffusionUpscalePipeline", unet=UNET, vae=VAE, text_encoder=CLIP,
        tokenizer=CLIP_TOKENS, scheduler=["diffusers", "DDIMScheduler"],
        low_res_scheduler=["diffusers", "DDPMScheduler"],
    )  # fmt: skip
    _part(third / "unet", "unet_x4", 4)
    _part(third / "vae", "vae_x4", 5, scaling_factor=None)
    _part(third / "text_encoder", "clip_text_sd2", 6)
    write_clip_tokenizer(third / "tokenizer", pad="!")
    _scheduler(third, {**SD_SCHEDULER, "prediction_type": "v_prediction"})
    _scheduler(third, {**SD_SCHEDULER, "beta_end": 0.02}, "low_res_scheduler")
    return [first, second, third]


def write_clip(folder: Path) -> Path:
    """A `CLIPModel` with its tokenizer: pictures of 16 pixels."""
    write_clip_tokenizer(folder)
    config = json.loads((PARITY / "clip_pair.json").read_text())
    ids = len(json.loads((folder / "vocab.json").read_text()))
    ends = {"vocab_size": ids, "bos_token_id": ids - 2, "eos_token_id": ids - 1}
    text = config["text_config"] | ends | {"max_position_embeddings": 77}
    _part(folder, "clip_pair", 7, text_config=text)
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    _dump(folder / "preprocessor_config.json", processor)
    return folder


def write_clip_tokenizer(folder: Path, pad: str = "<|endoftext|>", max_length: float = 77) -> Path:
    """A folder as published with Stable Diffusion; the config never says how SD2 pads.

    The vocabulary has the published order: 256 bytes, 256 bytes that end a word, merges, ends.
    """
    folder.mkdir(parents=True)
    letters = _byte_letters()
    pieces = [*letters, *(c + "</w>" for c in letters), *(m.replace(" ", "") for m in MERGES)]
    vocabulary = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    _dump(folder / "vocab.json", {piece: i for i, piece in enumerate(vocabulary)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    ends = {
        "bos_token": _token("<|startoftext|>"),
        "eos_token": _token("<|endoftext|>"),
        "unk_token": _token("<|endoftext|>"),
    }
    _dump(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": max_length,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "CLIPTokenizer",
            **ends,
        },
    )
    specials = {k: {n: v for n, v in t.items() if n != "__type"} for k, t in ends.items()}
    _dump(folder / "special_tokens_map.json", {**specials, "pad_token": pad})
    return folder


def write_t5_tokenizer(folder: Path, spiece: bytes | None = None) -> Path:
    """A folder as published with DeepFloyd IF."""
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(spiece or train_sentencepiece())
    extra = [f"<extra_id_{i}>" for i in range(100)]
    specials = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {
        "additional_special_tokens": extra,
        "extra_ids": 100,
        "model_max_length": 512,
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
        **specials,
    }
    _dump(folder / "tokenizer_config.json", config)
    _dump(folder / "special_tokens_map.json", {"additional_special_tokens": extra, **specials})
    return folder


def train_sentencepiece() -> bytes:
    """A sentencepiece model trained as T5's: pad 0, end 1, unknown 2, no start."""
    draw, words = random.Random(0), ("a", "photo", "of", "red", "dog", "cat", "in", "two", "sky")
    texts = (" ".join(draw.choices(words, k=8)) for _ in range(300))
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=out,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return out.getvalue()


def _byte_letters() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level vocabulary, in CLIP's order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def _token(text: str) -> dict:
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", "content": text, **flags}


def _part(folder: Path, recorded: str, seed: int, **changes: object) -> None:
    """A part with the recorded config, changed, and random weights; None takes a key out."""
    config = json.loads((PARITY / f"{recorded}.json").read_text()) | changes
    config = {k: v for k, v in config.items() if not (k in changes and v is None)}
    family = family_of(config)
    module = family.build(config, "float32")
    params = tiny.random_params(parameter_shapes(module, family.inputs(module)), seed)
    save_part(folder, config, params)


def _index(folder: Path, name: str, **parts: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _dump(folder / "model_index.json", {"_class_name": name, **parts})


def _scheduler(folder: Path, config: dict, name: str = "scheduler") -> None:
    (folder / name).mkdir()
    _dump(folder / name / "scheduler_config.json", config)


def _dump(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2))
