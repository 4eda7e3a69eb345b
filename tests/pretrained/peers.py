"""Small pipelines of diffusers with random weights, saved to a folder."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["a", "red", "blue", "circle", "square", "moves", "left", "right", "up", "down", "blurry"]
PROMPT, NEGATIVE = "a red circle moves left", "blurry"
SCALED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def tokenizer(begin: str | None, end: str, pad: str) -> Any:
    """One token for each word."""
    import transformers

    words = list(dict.fromkeys([pad, end, "<none>", *([begin] if begin else []), *WORDS]))
    numbers = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<none>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, numbers[mark]) for mark in (begin, end) if mark]
    made.post_processor = processors.TemplateProcessing(single=f"{begin or ''} $A {end}".strip(), special_tokens=marks)
    length = 77 if begin else 512
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, eos_token=end, unk_token="<none>", model_max_length=length
    )


def clip() -> dict[str, Any]:
    """Stable Diffusion's text encoder and tokenizer."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, eos_token_id=1,
        pad_token_id=1, bos_token_id=3,
    )  # fmt: skip
    return dict(
        tokenizer=tokenizer("<|startoftext|>", "<|endoftext|>", "<|endoftext|>"),
        text_encoder=transformers.CLIPTextModel(config).eval(),
    )


def t5(kind: str) -> dict[str, Any]:
    """The text encoder and tokenizer of CogVideoX ("T5") or Wan ("UMT5")."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    encoder = getattr(transformers, f"{kind}EncoderModel")(config).eval()
    return dict(tokenizer=tokenizer(None, "</s>", "<pad>"), text_encoder=encoder)


def loud(module: Any) -> Any:
    """The same module with weights large enough for every part to matter, those born 0 too."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2 and "norm" in name and "weight" in name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim < 2:
                parameter.normal_(std=0.1)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return module.eval()


def stable_diffusion(**scheduler: Any) -> Any:
    """Stable Diffusion 1."""
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    options = SCALED | dict(skip_prk_steps=True, steps_offset=1) | scheduler
    return diffusers.StableDiffusionPipeline(
        unet=loud(unet), vae=frame_vae(), scheduler=diffusers.PNDMScheduler(**options), **clip(),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip


def text_to_video_sd() -> Any:
    """ModelScope's."""
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet3DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**SCALED, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return diffusers.TextToVideoSDPipeline(unet=loud(unet), vae=frame_vae(), scheduler=scheduler, **clip())


def frame_vae() -> Any:
    """Stable Diffusion's autoencoder, of stride 2."""
    import diffusers

    return loud(
        diffusers.AutoencoderKL(
            block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, sample_size=16,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip


def save(pipeline: Any, folder: Path) -> Any:
    """The pipeline, saved and silent."""
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def cogvideox(image: bool = False, scheduler: str = "CogVideoXDDIMScheduler", **config: Any) -> Any:
    """CogVideoX: 9 frames of 32x48; 2B's positions unless ``config`` says otherwise."""
    import diffusers

    torch.manual_seed(0)
    sizes = dict(
        num_attention_heads=2, attention_head_dim=16, in_channels=8 if image else 4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=2, sample_width=6, sample_height=4, sample_frames=9, max_text_seq_length=12,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 16), latent_channels=4, layers_per_block=1, norm_num_groups=4,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        invert_scale_latents="ofs_embed_dim" in config, scaling_factor=0.7,
    )  # fmt: skip
    options = SCALED | dict(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True, snr_shift_scale=3.0
    )
    kind = diffusers.CogVideoXImageToVideoPipeline if image else diffusers.CogVideoXPipeline
    return kind(
        transformer=loud(diffusers.CogVideoXTransformer3DModel(**sizes | config)).float(), vae=loud(vae),
        scheduler=getattr(diffusers, scheduler)(**options), **t5("T5"),
    )  # fmt: skip


COGVIDEOX_5B = dict(use_rotary_positional_embeddings=True)
COGVIDEOX_5B_IMAGE = COGVIDEOX_5B | dict(use_learned_positional_embeddings=True)
COGVIDEOX_15 = COGVIDEOX_5B | dict(patch_size_t=2, patch_bias=False)
COGVIDEOX_15_IMAGE = COGVIDEOX_15 | dict(ofs_embed_dim=8)


def wan(image: bool = False, seen: bool = False, scheduler: Any = None, experts: bool = False, **options: Any) -> Any:
    """Wan; ``seen``: it is also told what a CLIP sees in the image. ``options`` are the pipeline's."""
    import diffusers

    torch.manual_seed(0)
    extra = image and not options.get("expand_timesteps")

    def transformer() -> Any:
        return loud(
            diffusers.WanTransformer3DModel(
                num_attention_heads=2, attention_head_dim=12, in_channels=12 if extra else 4, out_channels=4, text_dim=16,
                freq_dim=8, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
                image_dim=16 if seen else None, added_kv_proj_dim=24 if seen else None,
            )
        )  # fmt: skip

    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.1, -0.2, 0.3, 0], latents_std=[1.5, 2, 1, 0.5]
    )
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler = scheduler or diffusers.UniPCMultistepScheduler(**flow)
    parts = dict(transformer=transformer(), transformer_2=transformer() if experts else None, vae=loud(vae))
    if image:
        parts |= clip_vision() if seen else dict(image_encoder=None, image_processor=None)
    kind = diffusers.WanImageToVideoPipeline if image else diffusers.WanPipeline
    return kind(scheduler=scheduler, **parts, **t5("UMT5"), **options)


def clip_vision() -> dict[str, Any]:
    """Wan 2.1's image encoder."""
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14
    )
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return dict(image_encoder=loud(transformers.CLIPVisionModel(config)), image_processor=processor)
