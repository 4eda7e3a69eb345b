"""Somebody's CLIP, frozen: captions and images as vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from noisereel.text.contrastive import Embeddings, Images, resized, unit
from noisereel.text.pretrained import PretrainedText, keep_none, keep_own, opened
from noisereel.types import Text

# What CLIP's images are less, and divided by, as numbers from 0 to 1 (Radford et al. 2021, their code).
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class PretrainedPair(nn.Module):
    """A ``TextImage`` by folder or hub name, of a CLIP model in the layout of transformers with its tokenizer.

    Its state is empty, as that of ``PretrainedText``: what is opened again from ``config`` is the same.

    Raises:
        ValueError: there is no such model, or it is not a CLIP.
    """

    def __init__(self, name_or_path: str) -> None:
        super().__init__()
        self.config = {"name_or_path": name_or_path}
        self.text = PretrainedText(name_or_path, null="zeros")
        if self.text.kind != "clip":
            raise ValueError(f"{name_or_path!r} is a {self.text.kind} model, which sees no images: give a CLIP")
        self.model = opened(name_or_path, "CLIPModel").requires_grad_(False).eval()
        del self.model.text_model  # which the text encoder is already
        self.dim: int = self.model.config.projection_dim
        self.size: int = self.model.config.vision_config.image_size
        self.register_state_dict_post_hook(keep_none)
        self.register_load_state_dict_pre_hook(keep_own)

    @torch.no_grad()
    def read(self, prompts: Sequence[str | None]) -> Text:
        text = self.text(prompts)
        return Text(tokens=text.tokens, mask=text.mask, pooled=unit(self.model.text_projection(text.pooled)))

    @torch.no_grad()
    def see(self, images: Images) -> Embeddings:
        mean, deviation = (images.new_tensor(numbers)[:, None, None] for numbers in (MEAN, DEVIATION))
        seen = (resized(images, self.size) / 2 + 0.5 - mean) / deviation
        return unit(self.model.visual_projection(self.model.vision_model(pixel_values=seen).pooler_output))

    def train(self, mode: bool = True) -> PretrainedPair:
        """Stays in evaluation mode."""
        return super().train(False)
