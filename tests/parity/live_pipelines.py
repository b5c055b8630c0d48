"""Small random pipelines of every family, written by PyTorch diffusers itself.

Tokenizers are in the formats of the published repositories, made on the spot.
"""

import published
from live import diffusers, randomised, transformers

_D, _CD, _U, _CU = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
_SMALL = {"sample_size": 8, "layers_per_block": 1, "norm_num_groups": 4}
_SD = _SMALL | {
    "block_out_channels": [16, 24],
    "attention_head_dim": 4,
    "cross_attention_dim": 20,
    "down_block_types": [_CD, _D],
    "up_block_types": [_U, _CU],
}
_SDXL = _SMALL | {
    "block_out_channels": [16, 24],
    "attention_head_dim": [2, 3],
    "cross_attention_dim": 44,
    "use_linear_projection": True,
    "transformer_layers_per_block": [1, 2],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 6,
    "projection_class_embeddings_input_dim": 18 + 6 * 6,
    "down_block_types": [_D, _CD],
    "up_block_types": [_CU, _U],
}
_IF = _SMALL | {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": [16, 24],
    "attention_head_dim": 8,
    "act_fn": "gelu",
    "cross_attention_norm": "group_norm",
    "cross_attention_dim": 32,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "encoder_hid_dim": 28,
    "encoder_hid_dim_type": "text_proj",
    "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
}
_IF_II = _IF | {
    "sample_size": 32,
    "in_channels": 6,
    "class_embed_type": "timestep",
    "time_embedding_act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.4142271248762552,
}
_X4 = _SMALL | {
    "sample_size": 32,
    "in_channels": 7,
    "block_out_channels": [16, 24],
    "attention_head_dim": 2,
    "cross_attention_dim": 20,
    "use_linear_projection": True,
    "only_cross_attention": [True, False],
    "num_class_embeds": 400,
    "down_block_types": [_D, _CD],
    "up_block_types": [_CU, _U],
}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LEARNED = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
}


def _unet(config):
    return randomised(diffusers.UNet2DConditionModel(**config))


def _vae(levels, **more):
    return randomised(
        diffusers.AutoencoderKL(
            block_out_channels=[8, 12, 16][:levels],
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            norm_num_groups=4,
            sample_size=32,
            **more,
        )
    )


def _clip(width, act="quick_gelu", projection=None, eos=2):
    config = transformers.CLIPTextConfig(
        vocab_size=520,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        hidden_act=act,
        eos_token_id=eos,
        **({} if projection is None else {"projection_dim": projection}),
    )
    kind = "CLIPTextModel" if projection is None else "CLIPTextModelWithProjection"
    return randomised(getattr(transformers, kind)(config))


def _clip_tokens(folder, name="tokenizer", pad="<|endoftext|>"):
    published.write_clip_tokenizer(folder / name, pad)
    return transformers.CLIPTokenizer.from_pretrained(folder / name)


def _without_tokenizers(pipe, folder, made):
    """Saves a pipeline, but with its tokenizers' files as published, not as rewritten now."""
    pipe.save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):
        if (made / name).is_dir():
            for path in (folder / name).iterdir():
                path.unlink()
            for path in (made / name).iterdir():
                (folder / name / path.name).write_bytes(path.read_bytes())
    return folder


_NO_CHECK = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def write_sd1(folder):
    """`StableDiffusionPipeline` of 16 pixels; predicts epsilon, pads with the end token."""
    made = folder.with_name("made")
    pipe = diffusers.StableDiffusionPipeline(
        vae=_vae(2, scaling_factor=0.6),
        text_encoder=_clip(20),
        tokenizer=_clip_tokens(made),
        unet=_unet(_SD),
        scheduler=diffusers.PNDMScheduler(
            **SCALED, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1
        ),
        **_NO_CHECK,
    )
    return _without_tokenizers(pipe, folder, made)


def write_sd2(folder):
    """The same with SD2's ways: predicts v, linear projections, pads with "!"."""
    made = folder.with_name("made")
    unet = _SD | {"use_linear_projection": True, "attention_head_dim": [2, 3]}
    pipe = diffusers.StableDiffusionPipeline(
        vae=_vae(2, scaling_factor=0.6),
        text_encoder=_clip(20, "gelu"),
        tokenizer=_clip_tokens(made, pad="!"),
        unet=_unet(unet | {"upcast_attention": True}),
        scheduler=diffusers.DDIMScheduler(
            **SCALED,
            set_alpha_to_one=False,
            steps_offset=1,
            clip_sample=False,
            prediction_type="v_prediction",
        ),
        **_NO_CHECK,
    )
    return _without_tokenizers(pipe, folder, made)


def write_sdxl(folder):
    """`StableDiffusionXLPipeline` of 16 pixels."""
    made = folder.with_name("made")
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=_vae(2, scaling_factor=0.6),
        text_encoder=_clip(20),
        text_encoder_2=_clip(24, "gelu", projection=18, eos=519),
        tokenizer=_clip_tokens(made),
        tokenizer_2=_clip_tokens(made, "tokenizer_2", pad="!"),
        unet=_unet(_SDXL),
        scheduler=diffusers.EulerDiscreteScheduler(
            **SCALED, steps_offset=1, timestep_spacing="leading"
        ),
    )
    return _without_tokenizers(pipe, folder, made)


def write_if(folder):
    """IF's two stages, 16 and 32 pixels: [IFPipeline, IFSuperResolutionPipeline] folders."""
    folder.mkdir(parents=True, exist_ok=True)
    made, first, second = (folder / name for name in ("made", "if_i", "if_ii"))
    published.write_t5_tokenizer(made / "tokenizer")
    config = transformers.T5Config(
        vocab_size=200, d_model=28, d_kv=6, d_ff=40, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    pipe = diffusers.IFPipeline(
        tokenizer=transformers.T5Tokenizer.from_pretrained(made / "tokenizer"),
        text_encoder=randomised(transformers.T5EncoderModel(config)),
        unet=_unet(_IF),
        scheduler=diffusers.DDPMScheduler(**LEARNED, sample_max_value=1.5),
        watermarker=None,
        **_NO_CHECK,
    )
    _without_tokenizers(pipe, first, made)
    pipe = diffusers.IFSuperResolutionPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=_unet(_IF_II),
        scheduler=diffusers.DDPMScheduler(**LEARNED, sample_max_value=1.0),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        watermarker=None,
        **_NO_CHECK,
    )
    pipe.save_pretrained(second)
    return [first, second]


def write_x4(folder):
    """`StableDiffusionUpscalePipeline`, four times as large."""
    made = folder.with_name("made")
    pipe = diffusers.StableDiffusionUpscalePipeline(
        vae=_vae(3, scaling_factor=0.08333),
        text_encoder=_clip(20, "gelu"),
        tokenizer=_clip_tokens(made, pad="!"),
        unet=_unet(_X4),
        low_res_scheduler=diffusers.DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.0001, beta_end=0.02
        ),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.0001, beta_end=0.02, clip_sample=False,
            set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
        ),
        watermarker=None,
        safety_checker=None,
        feature_extractor=None,
    )  # fmt: skip
    return _without_tokenizers(pipe, folder, made)
