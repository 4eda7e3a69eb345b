import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from noisereel import checkpoint
from noisereel.text.pretrained import PretrainedText
from noisereel.types import Text

transformers = pytest.importorskip("transformers")

PROMPTS = ["a red circle moves left", "blue square", ""]
WORDS = ["a", "red", "blue", "circle", "square", "moves", "left", "right", "up", "down"]
MARKS = {  # kind: begin, end, padding
    "t5": (None, "</s>", "<pad>"),
    "umt5": (None, "</s>", "<pad>"),
    "clip": ("<|startoftext|>", "<|endoftext|>", "<|endoftext|>"),
    "bert": ("[CLS]", "[SEP]", "[PAD]"),
}


def save_tokenizer(kind: str, folder: Path) -> dict[str, int]:
    """A tokenizer of whole words with the kind's marks; the numbers of its words."""
    begin, end, pad = MARKS[kind]
    words = list(dict.fromkeys(["<none>", pad, end, *([begin] if begin else []), *WORDS]))
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = f"{begin} $A {end}" if begin else f"$A {end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(mark, numbers[mark]) for mark in (begin, end) if mark]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token="<none>"
    ).save_pretrained(folder)
    return numbers


def build(kind: str, numbers: dict[str, int]) -> Any:
    torch.manual_seed(0)
    _, end, pad = MARKS[kind]
    ids = {"vocab_size": 32, "pad_token_id": numbers[pad], "eos_token_id": numbers[end]}
    if kind in ("t5", "umt5"):
        name = kind.upper()
        config = getattr(transformers, f"{name}Config")(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, **ids)
        return getattr(transformers, f"{name}EncoderModel")(config)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "clip":
        return transformers.CLIPTextModel(transformers.CLIPTextConfig(**size, **ids, max_position_embeddings=20))
    return transformers.BertModel(transformers.BertConfig(**size, **ids, max_position_embeddings=24))


def save(kind: str, folder: Path) -> None:
    build(kind, save_tokenizer(kind, folder)).save_pretrained(folder)


def check_refused(folder: Path | str, reason: str) -> None:
    """One line that names the folder and the reason."""
    with pytest.raises(ValueError, match=reason) as caught:
        PretrainedText(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each kind, saved with its tokenizer."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in MARKS}
    for kind, folder in folders.items():
        save(kind, folder)
    return folders


def direct(text: PretrainedText, prompts: list[str], masked: bool, length: int) -> tuple[Any, torch.Tensor]:
    """What transformers itself says, and its mask."""
    batch = text.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask = {"attention_mask": batch.attention_mask} if masked else {}
    with torch.no_grad():
        return text.model(input_ids=batch.input_ids, **mask), batch.attention_mask.bool()


def test_t5_is_read_as_cogvideox_reads_it(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["t5"]))
    text = encoder([*PROMPTS, None])
    output, mask = direct(encoder, [*PROMPTS, ""], masked=False, length=226)
    assert torch.equal(text.tokens, output.last_hidden_state)
    assert text.tokens.shape == (4, 226, 16)
    assert text.mask.all()
    own = torch.stack([row[real].mean(dim=0) for row, real in zip(output.last_hidden_state, mask, strict=True)])
    torch.testing.assert_close(text.pooled, own, atol=1e-6, rtol=0)
    assert torch.equal(text.tokens[3], text.tokens[2])


def test_umt5_is_read_as_wan_reads_it(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["umt5"]))
    text = encoder([*PROMPTS, None])
    output, mask = direct(encoder, [*PROMPTS, ""], masked=True, length=512)
    assert torch.equal(text.tokens, output.last_hidden_state * mask[..., None])
    assert text.tokens.shape == (4, 512, 16)
    assert (text.tokens[0, 6:] == 0).all()
    assert (text.tokens[0, 5] != 0).any()
    assert text.mask.all()


def test_clip_is_read_as_stable_diffusion_reads_it(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["clip"]))
    assert encoder.max_length == 20
    text = encoder([*PROMPTS, None])
    output, _ = direct(encoder, [*PROMPTS, ""], masked=False, length=20)
    assert torch.equal(text.tokens, output.last_hidden_state)
    assert torch.equal(text.pooled, output.pooler_output)
    assert text.mask.all()


def test_bert_is_read_as_vdm_reads_it(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["bert"]))
    text = encoder([*PROMPTS, None])
    output, mask = direct(encoder, PROMPTS, masked=True, length=7)
    assert torch.equal(text.mask[:3], mask)
    torch.testing.assert_close(text.tokens[:3], output.last_hidden_state * mask[..., None], atol=1e-6, rtol=0)
    assert not text.mask[3].any()
    assert (text.tokens[3] == 0).all()
    assert (text.pooled[3] == 0).all()
    torch.testing.assert_close(text.pooled[1], text.tokens[1, :4].mean(dim=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", list(MARKS))
def test_a_prompt_means_the_same_in_any_company(folders: dict[str, Path], kind: str) -> None:
    encoder = PretrainedText(str(folders[kind]), padding="absent", null="zeros")
    together = encoder([*PROMPTS, None])
    for row, prompt in enumerate(PROMPTS):
        alone = encoder([prompt])
        length = encoder.length(prompt)
        torch.testing.assert_close(alone.tokens[0], together.tokens[row, :length], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], atol=1e-6, rtol=0)
        assert (together.tokens[row, length:] == 0).all()
    assert not together.mask[-1].any()


@pytest.mark.parametrize("kind", list(MARKS))
def test_it_is_frozen_and_never_in_training_mode(folders: dict[str, Path], kind: str) -> None:
    encoder = PretrainedText(str(folders[kind]))
    whole = torch.nn.ModuleList([encoder]).train()
    assert not any(parameter.requires_grad for parameter in whole.parameters())
    assert not any(module.training for module in encoder.modules())
    text = encoder(PROMPTS)
    assert not text.tokens.requires_grad
    assert isinstance(text, Text)
    assert text.tokens.shape[-1] == encoder.dim
    assert text.pooled.shape[-1] == encoder.pooled_dim


def test_it_is_opened_without_a_word(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    PretrainedText(str(folders["t5"]))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_its_weights_are_in_no_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = PretrainedText(str(folders["t5"]))
    whole = torch.nn.ModuleDict({"text": encoder, "net": torch.nn.Linear(2, 2)})
    assert sorted(whole.state_dict()) == ["net.bias", "net.weight"]
    assert sum(parameter.numel() for parameter in whole.parameters()) > 1000
    before = encoder(PROMPTS).tokens
    whole.load_state_dict(whole.state_dict())
    assert torch.equal(encoder(PROMPTS).tokens, before)
    with pytest.raises(RuntimeError, match=r"Missing key.*net\.bias"):
        whole.load_state_dict({})
    checkpoint.save(tmp_path / "model", {"text_encoder": encoder}, {})
    checkpoint.load(tmp_path / "model", {"text_encoder": encoder})
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) < 100


def test_umt5_reads_tidied_prompts(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["umt5"]))
    untidy = "  red &amp;lt;&nbsp; circle\n\n"
    assert torch.equal(encoder([untidy]).tokens, encoder(["red < circle"]).tokens)
    assert encoder.length(untidy) == 4
    assert PretrainedText(str(folders["t5"])).length(untidy) > 4


def test_the_text_encoder_of_a_diffusers_pipeline_is_found(folders: dict[str, Path], tmp_path: Path) -> None:
    numbers = save_tokenizer("t5", tmp_path / "tokenizer")
    build("t5", numbers).save_pretrained(tmp_path / "text_encoder")
    inside, plain = PretrainedText(str(tmp_path)), PretrainedText(str(folders["t5"]))
    assert torch.equal(inside(PROMPTS).tokens, plain(PROMPTS).tokens)


def test_a_long_prompt_is_cut_and_says_so(folders: dict[str, Path]) -> None:
    encoder = PretrainedText(str(folders["clip"]), max_length=6)
    assert encoder.length("red " * 30) == 32
    with pytest.warns(UserWarning, match="32 tokens is cut to its first 6"):
        cut = encoder(["red " * 30])
    assert torch.equal(cut.tokens, encoder(["red " * 4]).tokens)
    with pytest.raises(ValueError, match="reads 1 to 20 tokens, given max_length=21"):
        PretrainedText(str(folders["clip"]), max_length=21)


def test_a_missing_model_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (str(tmp_path / "nowhere"), str(tmp_path), "nobody/no-such-model"):
        check_refused(name, "no text encoder at")


def test_weights_that_need_unpickling_are_refused(tmp_path: Path) -> None:
    save("t5", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    check_refused(tmp_path, r"cannot be opened.*safetensors")


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    save("t5", tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load(weights.read_bytes())
    weights.write_bytes(weights.read_bytes()[:4000])
    check_refused(tmp_path, "cannot be opened.*not fully covered")
    save_file({name: weight for name, weight in whole.items() if ".wi." not in name}, weights, metadata={"format": "pt"})
    check_refused(tmp_path, "lacks 2 of its weights, encoder.block.0.layer.1.DenseReluDense.wi.weight among them")


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    save("t5", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    check_refused(tmp_path, "has no tokenizer")


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    transformers.GPT2Config(n_layer=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gpt2' model; text encoders are t5, umt5, clip, bert"):
        PretrainedText(str(tmp_path))


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'noisereel\[text\]'"):
        PretrainedText("anything")


@pytest.mark.parametrize("kind", MARKS)
def test_the_ruler_tells_lengths_without_the_model(folders: dict[str, Path], kind: str) -> None:
    encoder = PretrainedText(str(folders[kind]))
    encoder(["a red circle " * 300])  # which leaves cutting and padding behind in the tokenizer
    ruler = pickle.loads(pickle.dumps(encoder.ruler))
    for prompt in ("", "a red circle", "A  red\tcircle &amp;amp; a café", "circle " * 300):
        assert ruler.length(prompt) == encoder.length(prompt)
    assert ruler.max_length == encoder.max_length
