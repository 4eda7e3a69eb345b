"""What CogVideoX and Wan are given of the first frame of a video: extra channels, in latents, and what is seen in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from noisereel.nets.clip import ImageHint
from noisereel.text.pretrained import quiet
from noisereel.types import Codec, Groups, Hint, Rng, Video

Images = Float[Tensor, "b 3 h w"]


@dataclass(frozen=True, kw_only=True)
class FirstLatent:
    """The latents of the first frame, and zeros for all others (CogVideoX).

    ``scale`` multiplies them: CogVideoX 1.5 was trained with image latents that its codec's scale divides, by mistake.
    ``spare`` frames at the end make up for those that a patch of several frames needs.
    """

    codec: Codec
    scale: float = 1.0
    spare: int = 0

    @property
    def channels(self) -> int:
        return self.codec.channels

    def from_clip(self, video: Video, rng: Rng, groups: Groups | None = None) -> Hint:
        """The hint for a clip, the only one of its sample."""
        assert groups is None, "the first frame of an appended image would be all of it"
        latent = self.scale * self.codec.encode(video[:, :, :1])
        frames = self.spare + (video.shape[2] - 1) // self.codec.stride[0]
        return Hint(channels=F.pad(latent, (0, 0, 0, 0, 0, frames)))

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of which the first frame is known."""
        return self.from_clip(video, rng)


class ImageEncoder:
    """A frozen CLIP that says what is in an image, in the tokens of its last layer but one (Wan 2.1).

    Raises ValueError where a pipeline's folder has none.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        import transformers

        options: dict[str, Any] = dict(use_safetensors=True, dtype=dtype)
        try:
            # Since version 5 the plain name wants torchvision, and says so.
            processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
            self.processor = processor.from_pretrained(folder, subfolder="image_processor")
            with quiet(transformers):
                model = transformers.CLIPVisionModel.from_pretrained(folder, subfolder="image_encoder", **options)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"the image encoder in {folder} cannot be opened: {reason}") from error
        self.model = model.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, images: Images) -> Float[Tensor, "b i d"]:
        """The tokens of images in [-1, 1]."""
        bytes_ = (rearrange(images.float().cpu(), "b c h w -> b h w c") * 127.5 + 127.5).round().to(torch.uint8).numpy()
        pixels = self.processor(images=list(bytes_), return_tensors="pt").pixel_values
        model = self.model.to(images.device)
        return model(pixel_values=pixels.to(images.device, model.dtype), output_hidden_states=True).hidden_states[-2]


@dataclass(frozen=True, kw_only=True)
class MaskedLatents:
    """A channel for each frame that a latent frame stands for, 1 where that is known; and latents of a video, grey but for
    its first frame (Wan, section 4.1 of its report).
    """

    codec: Codec
    encoder: ImageEncoder | None = None  # Wan 2.1 is also told what is in the image

    @property
    def channels(self) -> int:
        return self.codec.stride[0] + self.codec.channels

    def from_clip(self, video: Video, rng: Rng, groups: Groups | None = None) -> Hint:
        """The hint for a clip, the only one of its sample."""
        assert groups is None, "the first frame of an appended image would be all of it"
        grey = torch.zeros_like(video)
        grey[:, :, 0] = video[:, :, 0]
        latent = self.codec.encode(grey)
        mask = latent.new_zeros(len(latent), self.codec.stride[0], *latent.shape[2:])
        mask[:, :, 0] = 1
        channels = torch.cat([mask, latent], dim=1)
        if self.encoder is None:
            return Hint(channels=channels)
        return ImageHint(channels=channels, tokens=self.encoder(video[:, :, 0]))

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of which the first frame is known."""
        return self.from_clip(video, rng)
