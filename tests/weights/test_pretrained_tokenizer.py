"""Published tokenizer formats: ids written down by hand, or from sentencepiece itself.

The CLIP vocabulary has the published order (256 bytes, 256 bytes that end a word, merges, start,
end), so that "!" is 0, "a</w>" 320 and the first merge 512.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import published
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from published import write_clip_tokenizer

from imagic_jax.weights.pretrained_tokenizer import load_tokenizer
from imagic_jax.weights.tokenizer import Tokenizer, TokenizerError, save_word_level

DOG, RED, NOW, BOS, EOS = 513, 515, 517, 518, 519
A = 320  # "a</w>"


@pytest.fixture(scope="module")
def spiece() -> bytes:
    """A sentencepiece model trained as T5's: pad 0, end 1, unknown 2, no start."""
    return published.train_sentencepiece()


@pytest.fixture(scope="module")
def t5_folder(spiece, tmp_path_factory) -> Path:
    """A folder as published with DeepFloyd IF."""
    return published.write_t5_tokenizer(tmp_path_factory.mktemp("t5") / "tokenizer", spiece)


@pytest.fixture(scope="module")
def t5(t5_folder) -> Tokenizer:
    return load_tokenizer(t5_folder)


def _real(tokenizer, text) -> list[int]:
    """The ids of a text without padding; the mask must end where they do."""
    ids, mask = tokenizer([text])
    n = int(mask.sum())
    assert mask[0, :n].all()
    return ids[0, :n].tolist()


def test_clip_ids_by_hand(tmp_path):
    tokenizer = load_tokenizer(write_clip_tokenizer(tmp_path / "t"))
    ids, mask = tokenizer(["A RED  dog", "", "xdog"])
    assert (ids.dtype, mask.dtype, ids.shape, mask.shape) == (np.int32, np.int32, (3, 77), (3, 77))
    assert ids[0].tolist() == [BOS, A, RED, DOG] + [EOS] * 73
    assert ids[1].tolist() == [BOS] + [EOS] * 76
    assert ids[2].tolist() == [BOS, 87, DOG] + [EOS] * 74  # x: the 88th byte shown
    assert mask.sum(1).tolist() == [5, 2, 4]
    assert _real(tokenizer, "é") == [BOS, 127, 358, EOS]  # bytes c3, a9 at a word's end
    assert _real(tokenizer, "dog!") == [BOS, DOG, 256, EOS]


def test_stable_diffusion_2_pads_with_an_exclamation_mark(tmp_path):
    tokenizer = load_tokenizer(write_clip_tokenizer(tmp_path / "t", pad="!"))
    ids, mask = tokenizer(["a red dog"])
    assert ids[0].tolist() == [BOS, A, RED, DOG, EOS] + [0] * 72
    assert mask.sum() == 5
    # In a text it is the padding token too, not the word 256, but still a real token.
    assert _real(tokenizer, "red dog!") == [BOS, RED, DOG, 0, EOS]


def test_newer_configs_that_list_their_special_tokens_win(tmp_path):
    folder = write_clip_tokenizer(tmp_path / "t")
    path = folder / "tokenizer_config.json"
    listed = {"0": "!", "518": "<|startoftext|>", "519": "<|endoftext|>"}
    decoder = {
        i: {**published._token(t), "normalized": False, "special": True, "__type": None}
        for i, t in listed.items()
    }
    for row in decoder.values():
        del row["__type"]
    config = json.loads(path.read_text()) | {"added_tokens_decoder": decoder, "pad_token": "!"}
    path.write_text(json.dumps(config))
    ids, _ = load_tokenizer(folder)(["dog"])  # as SDXL's second tokenizer
    assert ids[0].tolist() == [BOS, DOG, EOS] + [0] * 74


@pytest.mark.parametrize(
    ("said", "length"), [(77, 77), (16, 16), (int(1e30), 77), (1000000000000000019884624838656, 77)]
)
def test_clips_length_is_what_the_config_says_unless_absurd(tmp_path, said, length):
    tokenizer = load_tokenizer(write_clip_tokenizer(tmp_path / "t", max_length=said))
    assert tokenizer.max_length == length
    assert tokenizer(["dog " * 99])[0][0].tolist() == [BOS] + [DOG] * (length - 2) + [EOS]


def test_what_does_not_fit_is_told(tmp_path):
    tokenizer = load_tokenizer(write_clip_tokenizer(tmp_path / "t", max_length=6))
    assert tokenizer.cut_off("a red dog now") == ""
    assert tokenizer.cut_off("A Red DOG now Xé red") == "Xé red"
    assert tokenizer.unknown_words("Xé ☃") == []


def test_clip_from_two_files_alone(tmp_path):
    whole = load_tokenizer(write_clip_tokenizer(tmp_path / "a"))
    folder = write_clip_tokenizer(tmp_path / "b")
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    for ours, theirs in zip(load_tokenizer(folder)(["a dog"]), whole(["a dog"]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_t5_ids_are_those_of_sentencepiece(t5_folder, spiece):
    tokenizer = load_tokenizer(t5_folder)
    assert tokenizer.max_length == 77
    processor = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    for text in ("a photo of a red dog", "  two\n lines ", "½ ﬁ éa \u3000dog", "日本 dog!", "a-b"):
        assert _real(tokenizer, text) == [*processor.encode(text), 1]
    ids, mask = tokenizer(["", "dog " * 99])
    assert ids[0].tolist() == [1] + [0] * 76
    assert mask[0].tolist() == [1] + [0] * 76
    assert ids[1].tolist() == processor.encode("dog") * 76 + [1]
    assert tokenizer.unknown_words("日本") == []
    assert tokenizer.cut_off("dog " * 76 + "Cat sky") == "Cat sky"


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("adogcté½ﬁ日 \t\u00a0-,.'\"A"), max_size=24))
def test_t5_agrees_with_sentencepiece_on_any_text(t5, spiece, text):
    processor = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    assert _real(t5, text) == [*processor.encode(text), 1]


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_folder_with_tokenizer_json_alone(tmp_path, t5_folder, kind, with_config):
    import transformers

    source = write_clip_tokenizer(tmp_path / "clip", pad="!") if kind == "clip" else t5_folder
    loader = transformers.CLIPTokenizer if kind == "clip" else transformers.T5Tokenizer
    target = tmp_path / "again"
    loader.from_pretrained(source).save_pretrained(target)
    assert (target / "tokenizer.json").is_file()
    assert not (target / "vocab.json").exists()
    if not with_config:
        (target / "tokenizer_config.json").unlink()
    texts = ["a red dog", ""]
    (ids, mask), (again, mask_again) = load_tokenizer(source)(texts), load_tokenizer(target)(texts)
    np.testing.assert_array_equal(mask, mask_again)
    if with_config or kind == "t5":
        np.testing.assert_array_equal(ids, again)
    else:  # nothing is left that says how it pads
        np.testing.assert_array_equal(np.where(mask == 1, ids, EOS), again)


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_padding_and_cutting_are_those_of_transformers(tmp_path, t5_folder, kind):
    import transformers

    folder = write_clip_tokenizer(tmp_path / "clip", pad="!") if kind == "clip" else t5_folder
    loader = transformers.CLIPTokenizer if kind == "clip" else transformers.T5Tokenizer
    texts = ["a Photo of a red dog!", "", "dog " * 100, "<|endoftext|> dog </s> <extra_id_3>"]
    theirs = loader.from_pretrained(folder)(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="np"
    )
    ids, mask = load_tokenizer(folder)(texts)
    np.testing.assert_array_equal(ids, theirs["input_ids"])
    np.testing.assert_array_equal(mask, theirs["attention_mask"])


def test_closed_vocabularies_are_read_as_before(tmp_path):
    save_word_level(tmp_path, ["a", "red", "dog"], 8)
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is Tokenizer
    assert tokenizer(["a red dog"])[0].tolist() == [[3, 4, 5, 1, 0, 0, 0, 0]]
    assert tokenizer.unknown_words("a blue dog") == ["blue"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "merges.txt").unlink(), "lacks merges.txt"),
        (lambda f: (f / "vocab.json").unlink(), "lacks vocab.json"),
        (lambda f: (f / "vocab.json").write_text('{"a": 0,'), "vocab.json: cannot be read as JSON"),
        (lambda f: (f / "vocab.json").write_text("[]"), "vocab.json: expected a JSON object"),
        (lambda f: (f / "vocab.json").write_text('{"a": 0, "b": 1}'), "merges.txt cannot be read"),
        (lambda f: (f / "merges.txt").write_text("#v\nd q\n"), "merges.txt cannot be read as"),
        (
            lambda f: (f / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}'),
            r"lacks the special token '\[PAD\]'",
        ),
        (lambda f: (f / "special_tokens_map.json").write_text("{"), "special_tokens_map.json"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "tokenizer_config.json"),
        (
            lambda f: (f / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Fast"}'),
            "'GPT2Fast'; supported: CLIPTokenizer, T5Tokenizer",
        ),
        (shutil.rmtree, "no such tokenizer folder"),
        (lambda f: (shutil.rmtree(f), f.mkdir()), "no tokenizer files here .*found: nothing"),
        (lambda f: (f / "tokenizer.json").write_text('{"model": 1}'), "tokenizer.json"),
        (
            lambda f: (f / "tokenizer_config.json").write_text('{"model_max_length": "many"}'),
            "model_max_length is 'many'",
        ),
    ],
)
def test_broken_clip_folders(tmp_path, damage, message):
    folder = write_clip_tokenizer(tmp_path / "t")
    damage(folder)
    with pytest.raises(TokenizerError, match=message) as raised:
        load_tokenizer(folder)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 791656\n", None],
    ids=["empty", "pointer", "cut off"],
)
def test_broken_t5_folders(tmp_path, t5_folder, spiece, content):
    folder = tmp_path / "t"
    shutil.copytree(t5_folder, folder)
    (folder / "spiece.model").write_bytes(
        spiece[: len(spiece) // 2] if content is None else content
    )
    with pytest.raises(TokenizerError, match=r"spiece\.model: not a whole sentencepiece model"):
        load_tokenizer(folder)
    (folder / "spiece.model").unlink()
    with pytest.raises(TokenizerError, match=r"lacks spiece\.model"):
        load_tokenizer(folder)


def test_nothing_is_said_and_torch_is_not_needed(tmp_path):
    write_clip_tokenizer(tmp_path / "t")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from imagic_jax.weights.pretrained_tokenizer import load_tokenizer\n"
        "assert 'transformers' not in sys.modules\n"
        f"print(load_tokenizer({str(tmp_path / 't')!r})(['a dog'])[0][0, :4].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (f"{[BOS, A, DOG, EOS]}", "")
