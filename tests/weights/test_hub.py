"""Hub names: which files are wanted, what the cache gives, and what is said when it cannot."""

import json
import types
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors
from hypothesis import given
from hypothesis import strategies as st

from imagic_jax.weights import WeightsError, hub
from imagic_jax.weights.hub_files import pickled_folders, wanted_files

SHA = "0123456789abcdef0123456789abcdef01234567"


def _listing(text: str) -> list[str]:
    """Paths from lines `folder: name name ...`; `.` is the root."""
    lines = (line.split(":") for line in text.strip().splitlines())
    return [
        name if folder.strip() == "." else f"{folder.strip()}/{name}"
        for folder, names in lines
        for name in names.split()
    ]


SD15 = _listing("""
.: .gitattributes README.md model_index.json v1-inference.yaml
.: v1-5-pruned-emaonly.ckpt v1-5-pruned-emaonly.safetensors v1-5-pruned.ckpt v1-5-pruned.safetensors
feature_extractor: preprocessor_config.json
safety_checker: config.json model.fp16.safetensors model.safetensors pytorch_model.bin
safety_checker: pytorch_model.fp16.bin flax_model.msgpack
scheduler: scheduler_config.json
text_encoder: config.json model.fp16.safetensors model.safetensors pytorch_model.bin
text_encoder: pytorch_model.fp16.bin
tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
unet: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.fp16.bin
unet: diffusion_pytorch_model.fp16.safetensors diffusion_pytorch_model.non_ema.bin
unet: diffusion_pytorch_model.non_ema.safetensors diffusion_pytorch_model.safetensors
vae: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.fp16.bin
vae: diffusion_pytorch_model.fp16.safetensors diffusion_pytorch_model.safetensors
""")

SDXL = _listing("""
.: .gitattributes LICENSE.md README.md comparison.png model_index.json pipeline.png
.: sd_xl_base_1.0.safetensors sd_xl_base_1.0_0.9vae.safetensors
.: sd_xl_offset_example-lora_1.0.safetensors
scheduler: scheduler_config.json
text_encoder: config.json flax_model.msgpack model.fp16.safetensors model.onnx model.safetensors
text_encoder: openvino_model.bin openvino_model.xml
text_encoder_2: config.json flax_model.msgpack model.fp16.safetensors model.onnx model.onnx_data
text_encoder_2: model.safetensors openvino_model.bin openvino_model.xml
tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
unet: config.json diffusion_flax_model.msgpack diffusion_pytorch_model.fp16.safetensors
unet: diffusion_pytorch_model.safetensors model.onnx model.onnx_data openvino_model.bin
unet: openvino_model.xml
vae: config.json diffusion_flax_model.msgpack diffusion_pytorch_model.fp16.safetensors
vae: diffusion_pytorch_model.safetensors
vae_1_0: config.json diffusion_pytorch_model.fp16.safetensors diffusion_pytorch_model.safetensors
vae_decoder: config.json model.onnx openvino_model.bin openvino_model.xml
vae_encoder: config.json model.onnx openvino_model.bin openvino_model.xml
""")

IF_I = _listing("""
.: .gitattributes LICENSE.md README.md model_index.json
feature_extractor: preprocessor_config.json
safety_checker: config.json model.fp16.safetensors model.safetensors pytorch_model.bin
scheduler: scheduler_config.json
text_encoder: config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors
text_encoder: model.fp16-00001-of-00002.safetensors model.fp16-00002-of-00002.safetensors
text_encoder: model.safetensors.index.fp16.json model.safetensors.index.json
text_encoder: pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin
text_encoder: pytorch_model.bin.index.fp16.json pytorch_model.bin.index.json
tokenizer: special_tokens_map.json spiece.model tokenizer_config.json
unet: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.fp16.bin
unet: diffusion_pytorch_model.fp16.safetensors diffusion_pytorch_model.safetensors
watermarker: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.safetensors
""")

X4 = _listing("""
.: .gitattributes README.md low_res_cat.png model_index.json upsampled_cat.png
.: x4-upscaler-ema.ckpt x4-upscaler-ema.safetensors
low_res_scheduler: scheduler_config.json
scheduler: scheduler_config.json
text_encoder: config.json model.fp16.safetensors model.safetensors pytorch_model.bin
tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
unet: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.fp16.safetensors
unet: diffusion_pytorch_model.safetensors
vae: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.fp16.safetensors
vae: diffusion_pytorch_model.safetensors
""")


def test_stable_diffusion():
    assert wanted_files(SD15) == sorted(
        _listing("""
        .: model_index.json
        scheduler: scheduler_config.json
        text_encoder: config.json model.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
        unet: config.json diffusion_pytorch_model.safetensors
        vae: config.json diffusion_pytorch_model.safetensors
        """)
    )


def test_sdxl_without_its_other_frameworks_and_spare_vaes():
    assert wanted_files(SDXL) == sorted(
        _listing("""
        .: model_index.json
        scheduler: scheduler_config.json
        text_encoder: config.json model.safetensors
        text_encoder_2: config.json model.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
        tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
        unet: config.json diffusion_pytorch_model.safetensors
        vae: config.json diffusion_pytorch_model.safetensors
        """)
    )


def test_deepfloyd_if_has_shards_with_their_index():
    assert wanted_files(IF_I) == sorted(
        _listing("""
        .: model_index.json
        scheduler: scheduler_config.json
        text_encoder: config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        text_encoder: model.safetensors.index.json
        tokenizer: special_tokens_map.json spiece.model tokenizer_config.json
        unet: config.json diffusion_pytorch_model.safetensors
        """)
    )


def test_parts_leave_the_text_encoder_out():
    assert wanted_files(IF_I, {"unet", "scheduler"}) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert wanted_files(IF_I, ()) == ["model_index.json"]


def test_the_upscaler_has_two_schedulers():
    wanted = wanted_files(X4)
    assert "low_res_scheduler/scheduler_config.json" in wanted
    assert not [name for name in wanted if "/" not in name and name != "model_index.json"]
    assert len(wanted) == 13


@pytest.mark.parametrize(
    "names",
    [
        "model.fp16.safetensors",
        "model.fp16-00001-of-00002.safetensors model.fp16-00002-of-00002.safetensors "
        "model.safetensors.index.fp16.json",
        "model-00001-of-00001.fp16.safetensors model.fp16.safetensors.index.json",
    ],
)
def test_half_precision_where_nothing_else_is_there(names):
    names = names.split()
    found = wanted_files(["m/config.json", "m/pytorch_model.bin", *(f"m/{n}" for n in names)])
    assert found == sorted(["m/config.json", *(f"m/{n}" for n in names)])


def test_one_file_goes_before_shards_and_shards_need_their_index():
    both = _listing("""
    m: config.json model.safetensors model.safetensors.index.json model-00001-of-00001.safetensors
    """)
    assert wanted_files(both) == ["m/config.json", "m/model.safetensors"]
    torn = ["m/config.json", "m/model-00001-of-00001.safetensors", "m/model.fp16.safetensors"]
    assert wanted_files(torn) == ["m/config.json", "m/model.fp16.safetensors"]


def test_a_repository_may_be_one_model_or_a_cascade():
    one = ["config.json", "diffusion_pytorch_model.safetensors", "sd-vae-ft-mse.safetensors"]
    assert wanted_files(one) == one[:2]
    cascade = _listing("""
    .: cascade.json
    base: model_index.json
    base/unet: config.json diffusion_pytorch_model.safetensors
    base/tokenizer: tokenizer.json tokenizer_config.json
    """)
    assert wanted_files(cascade) == sorted(cascade)


@given(st.sets(st.sampled_from([*SD15, *SDXL, *IF_I, *X4])))
def test_whatever_is_there_one_precision_and_no_code_comes(listing):
    wanted = wanted_files(sorted(listing))
    assert set(wanted) <= listing
    assert all(w.endswith((".json", ".safetensors", "merges.txt", "spiece.model")) for w in wanted)
    for folder in {Path(w).parent for w in wanted}:
        weights = [w for w in wanted if Path(w).parent == folder and w.endswith(".safetensors")]
        assert len({"fp16" in w for w in weights}) <= 1


def test_pickles_are_told_by_folder():
    assert pickled_folders(SD15) == pickled_folders(IF_I) == pickled_folders(SDXL) == []
    bare = [name for name in SD15 if name != "unet/diffusion_pytorch_model.safetensors"]
    pickled = [name for name in bare if not name.startswith("unet/") or name.endswith("bin")]
    assert pickled_folders(pickled) == ["unet"]
    assert pickled_folders(pickled, {"vae", "scheduler"}) == []
    assert pickled_folders(["README.md", "sd-v1-4.ckpt"]) == ["."]


# Folders and the cache


def _response():
    return types.SimpleNamespace(headers={}, request=None, status_code=403)


class FakeHub:
    """The hub with one repository, or with one error; notes what it was asked."""

    def __init__(self, listing=(), error=None, download_error=None):
        self.listing, self.error, self.download_error = listing, error, download_error
        self.asked, self.patterns = [], []

    def model_info(self, repository, revision=None, timeout=None):
        self.asked.append((repository, revision))
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(
            siblings=[types.SimpleNamespace(rfilename=name) for name in self.listing]
        )

    def download(self, repository, revision=None, allow_patterns=None, local_files_only=False):
        if local_files_only:
            return huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=allow_patterns, local_files_only=True
            )
        if self.download_error is not None:
            raise self.download_error
        self.patterns = allow_patterns
        return "/fetched"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; function (repository, files, reference) puts a snapshot into it."""
    root = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))

    def put(repository, files, reference="main"):
        storage = root / f"models--{repository.replace('/', '--')}"
        snapshot = storage / "snapshots" / SHA
        for name in files:
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).touch()
        (storage / "refs").mkdir(exist_ok=True)
        (storage / "refs" / reference).write_text(SHA)
        return snapshot

    return put


@pytest.fixture
def serve(monkeypatch):
    """Function (as `FakeHub`) -> the hub that answers from now on."""

    def start(*args, **kwargs):
        fake = FakeHub(*args, **kwargs)
        monkeypatch.setattr(hub, "HfApi", lambda: fake)
        monkeypatch.setattr(hub, "snapshot_download", fake.download)
        return fake

    return start


def test_a_folder_is_returned_as_it_is(tmp_path, monkeypatch, serve):
    fake = serve()
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("owner/name") == Path("owner/name")
    assert hub.resolve(tmp_path) == tmp_path
    assert hub.resolve("~/owner") == tmp_path / "owner"
    assert fake.asked == []


@pytest.mark.parametrize(
    "name",
    [
        "./no/such",
        "/no/such",
        "~/none",
        "~no_one_1/none",
        "a/b/c",
        "word",
        "a b/c",
        "",
        "a/b@",
        "é/x",
    ],
)
def test_what_is_neither_a_path_nor_an_id(serve, name):
    fake = serve()
    with pytest.raises(WeightsError, match=r"neither a folder here nor a hub id \(owner/name"):
        hub.resolve(name)
    assert fake.asked == []


def test_names_that_the_hub_library_refuses(cache):
    with pytest.raises(WeightsError, match="'a--b/c--d' is not a well-formed hub id"):
        hub.resolve("a--b/c--d")


def test_a_single_file_is_refused(tmp_path):
    (tmp_path / "x.ckpt").touch()
    with pytest.raises(WeightsError, match=r"x\.ckpt is a file; give a folder"):
        hub.resolve(tmp_path / "x.ckpt")


def test_only_wanted_files_are_fetched(cache, serve):
    fake = serve(SD15)
    assert hub.resolve("owner/name@v1.0", {"vae"}) == Path("/fetched")
    assert fake.asked == [("owner/name", "v1.0")]
    assert fake.patterns == wanted_files(SD15, {"vae"})


def test_offline_the_cache_answers_even_if_it_is_partial(cache):
    snapshot = cache("owner/name", ["model_index.json", "unet/config.json"])
    assert hub.resolve("owner/name", {"unet"}) == snapshot
    assert hub.resolve(f"owner/name@{SHA}") == snapshot
    tagged = cache("owner/other", ["model_index.json"], reference="v1")
    assert hub.resolve("owner/other@v1") == tagged


@pytest.mark.skipif(
    not hasattr(errors, "IncompleteSnapshotError"), reason="this huggingface_hub keeps no listings"
)
def test_a_known_listing_does_not_make_a_partial_snapshot_useless(cache):
    snapshot = cache("owner/name", ["model_index.json"])
    trees = snapshot.parents[1] / "trees"
    trees.mkdir()
    known = {"unet/x.bin": {"size": 1, "blob_id": "0" * 40}}
    (trees / f"{SHA}.json").write_text(json.dumps({"format_version": 1, "files": known}))
    with pytest.raises(errors.LocalEntryNotFoundError):
        huggingface_hub.snapshot_download("owner/name", local_files_only=True)
    assert hub.resolve("owner/name") == snapshot


def test_offline_and_not_in_the_cache(cache):
    with pytest.raises(WeightsError) as raised:
        hub.resolve("owner/name@v1")
    assert str(raised.value) == (
        "'owner/name@v1' is neither a folder here nor in the hub's cache, and the hub is out of "
        "reach (offline: HF_HUB_OFFLINE is set): fetch it once with "
        "`hf download owner/name --revision v1` where there is a network and copy the cache, or "
        "give a folder"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no route to host"),
        TimeoutError("no route to host"),
        errors.HfHubHTTPError.__bases__[0]("no route to host"),
        errors.HfHubHTTPError("no route to host", response=_response()),
    ],
)
def test_without_a_network_the_cache_is_asked(cache, serve, error):
    serve(error=error)
    with pytest.raises(WeightsError, match=r"out of reach \(.*no route to host\): fetch it once"):
        hub.resolve("owner/name")
    snapshot = cache("owner/name", ["model_index.json"])
    assert hub.resolve("owner/name") == snapshot


@pytest.mark.parametrize("when", ["error", "download_error"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.GatedRepoError,
            "owner/name is gated: accept its licence on https://huggingface.co/owner/name, then "
            "log in here with `hf auth login` or set HF_TOKEN",
        ),
        (
            errors.RepositoryNotFoundError,
            "'owner/name@v1' is neither a folder here nor a repository that you can see on "
            "https://huggingface.co; if it is private, log in with `hf auth login` or set HF_TOKEN",
        ),
        (
            errors.RevisionNotFoundError,
            "owner/name has no revision 'v1': see https://huggingface.co/owner/name/tree/main for "
            "its branches and tags",
        ),
    ],
)
def test_what_the_hub_refuses(cache, serve, when, error, message):
    serve(SD15, **{when: error("no", response=_response())})
    with pytest.raises(WeightsError) as raised:
        hub.resolve("owner/name@v1")
    assert str(raised.value) == message


def test_repositories_closed_since_still_come_from_the_cache(cache, serve):
    serve(error=errors.RepositoryNotFoundError("gone", response=_response()))
    snapshot = cache("runwayml/stable-diffusion-v1-5", ["model_index.json"])
    assert hub.resolve("runwayml/stable-diffusion-v1-5") == snapshot


def test_a_broken_off_download_says_so(cache, serve):
    serve(SD15, download_error=OSError(28, "No space left on device"))
    with pytest.raises(WeightsError, match=r"as a whole \(OSError: .*No space left on device\)"):
        hub.resolve("owner/name")


def test_repositories_with_nothing_to_read(cache, serve):
    serve(["README.md", "unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin"])
    with pytest.raises(WeightsError, match=r"only pickled weights in unet, vae, .*Convert them"):
        hub.resolve("owner/name")
    serve(["sd-v1-4.ckpt"])
    with pytest.raises(WeightsError, match="only pickled weights, which"):
        hub.resolve("owner/name")
    serve(["README.md", "model.gguf"])
    with pytest.raises(WeightsError, match="owner/name holds no model in the diffusers layout"):
        hub.resolve("owner/name")
