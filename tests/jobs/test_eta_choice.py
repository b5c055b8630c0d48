"""--eta=auto: the rule by hand, and the reader as its scorer on a picture whose edit is known."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from imagic_jax.evaluation import extras
from imagic_jax.evaluation.items import draw
from imagic_jax.flatland import captions
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.jobs import eta_choice, eta_scorers
from imagic_jax.metrics.catalog import Opened
from imagic_jax.metrics.networks import Networks
from imagic_jax.models import CLIPConfig, CLIPModel
from imagic_jax.report import page
from imagic_jax.weights.clip_vocabulary import save_clip_vocabulary
from imagic_jax.weights.folder import save_part

ETAS = np.array([0.0, 0.5, 1.0, 1.5])


def choose(fidelity, alignment=(0.1, 0.2, 0.8, 0.9), tolerance=4.0, etas=ETAS):
    return eta_choice.choose(etas, np.array(alignment), np.array(fidelity), tolerance)


def test_the_largest_within_the_bound():
    found = choose([30.0, 29.0, 26.5, 20.0])
    assert found.at == 2
    assert found.bound == 26.0
    assert "eta = 1 is the largest" in found.reason
    assert "alignment rises from 0.1 to 0.8" in found.reason
    assert "no larger" not in found.reason


def test_a_dip_on_the_way_does_not_matter():
    assert choose([30.0, 20.0, 28.0, 20.0]).at == 2


def test_the_order_of_the_etas_does_not_matter():
    assert choose([20.0, 26.5, 30.0, 29.0], etas=np.array([1.5, 1.0, 0.0, 0.5])).at == 1


def test_the_end_of_the_sweep_and_an_edit_that_does_not_show_are_said():
    found = choose([30.0, 30.0, 30.0, 30.0], alignment=(0.5, 0.5, 0.5, 0.5))
    assert found.at == 3
    assert "no larger one was drawn" in found.reason
    assert "hardly shows" in found.reason


def test_nothing_kept_leaves_the_picture():
    found = choose([30.0, 10.0, 9.0, 8.0])
    assert found.at == 0
    assert "hardly shows" in found.reason


def test_pictures_that_cannot_be_scored_are_never_chosen():
    assert choose([30.0, 29.0, np.nan, np.nan]).at == 1
    with pytest.raises(ValueError, match="eta = 0 cannot be scored"):
        choose([np.nan, 29.0, 29.0, 29.0])


def best(fidelity, alignment, etas=ETAS):
    return eta_choice.choose_best(etas, np.array(alignment), np.array(fidelity))


def test_the_best_of_all_shows_the_edit_and_keeps_most():
    # Alignment rises from .1 to .9: .66 is asked, which the last two have.
    found = best([30.0, 29.0, 22.0, 25.0], [0.1, 0.65, 0.67, 0.9])
    assert found.at == 3
    assert found.bound == pytest.approx(0.66)
    assert "of 4 pictures 2 show the edit" in found.reason
    assert best([30.0, 29.0, 26.0, 25.0], [0.1, 0.65, 0.67, 0.9]).at == 2


def test_the_best_may_be_of_any_seed_and_starts_from_the_mean_of_eta_zero():
    etas = np.array([0.0, 0.0, 1.0, 1.0])
    found = best([30.0, 30.0, 20.0, 21.0], [0.0, 0.2, 1.0, 0.74], etas)
    assert found.bound == pytest.approx(0.1 + 0.7 * 0.9)
    assert found.at == 3


def test_the_best_is_never_a_picture_that_cannot_be_scored():
    assert best([30.0, 29.0, np.nan, 25.0], [0.1, 0.2, 0.9, 0.8]).at == 3
    assert best([30.0, 29.0, 40.0, 25.0], [0.1, 0.2, np.nan, 0.8]).at == 3
    with pytest.raises(ValueError, match="eta = 0 can be scored"):
        best([np.nan, 29.0, 40.0, 25.0], [0.1, 0.2, 0.3, 0.8])


def test_without_an_edit_the_best_is_the_most_faithful():
    assert best([20.0, 30.0, 25.0, 10.0], [0.5, 0.5, 0.5, 0.5]).at == 1


class Shares:
    """Scores flat pictures by their brightness."""

    alignment, fidelity, tolerance = "brightness", "darkness", 0.5

    def __call__(self, pictures):
        mean = pictures.mean(axis=(1, 2, 3))
        return mean, -mean


def test_every_seed_has_its_own_choice_and_curve():
    bright = np.array([[0.0, 0.0], [0.4, 0.2], [0.9, 0.4], [np.nan, 0.6]], np.float32)
    pictures = np.broadcast_to(bright[..., None, None, None], (4, 2, 8, 8, 3))
    found = eta_choice.choose_per_seed(Shares(), pictures, ETAS.tolist(), [3, 7])
    assert [r["eta"] for r in found["seeds"]] == [0.5, 1.0]
    assert found["seeds"][0]["alignment"][3] is None
    assert found["seeds"][1]["fidelity"] == pytest.approx([0.0, -0.2, -0.4, -0.6])
    # Brightness rises from 0 to .9: of what has .63 of it, there is one.
    assert (found["best"]["eta"], found["best"]["seed"]) == (1.0, 3)
    broken = np.full((4, 1, 8, 8, 3), np.nan, np.float32)
    nothing = eta_choice.choose_per_seed(Shares(), broken, ETAS.tolist(), [0])
    assert nothing["seeds"][0]["eta"] is None
    assert nothing["best"] is None
    assert "Best by score: eta 1, seed 3: of 8 pictures" in page._chosen(found)
    assert "Best by score" not in page._chosen(nothing)


def test_the_sweep_ends_at_the_presets_largest_eta():
    assert eta_choice.sweep_to(1.0) == pytest.approx([i / 10 for i in range(11)])
    assert eta_choice.sweep_to(3.0)[-1] == 3.0


def known(edit):
    """An item, and the reader's knowledge of its source as if it had read it perfectly."""
    item = next(i for i in (draw("validation", "iid", edit, k) for k in range(9)) if i)
    seen = FreeReading(item.source, item.nuisance()._replace(mark_on=np.float32(0.0)), 0.0)
    return item, seen


@pytest.mark.parametrize("edit", ["pose", "place"])
def test_the_reader_prefers_the_ideal_edit_and_dislikes_what_is_neither(edit):
    item, seen = known(edit)
    source, (ideal, *_) = item.pictures()
    scorer = eta_scorers.ReaderScorer(source, seen, item.text)
    fade, grey = (source + ideal) / 2, np.full_like(source, 0.5)
    alignment, fidelity = scorer(np.stack([source, fade, ideal, grey]) * 2.0 - 1.0)
    assert alignment[0] < 0.1 < alignment[1] < 0.9 < alignment[2]
    assert fidelity[0] == fidelity[2] == 60.0  # the mark was found, so both are explained
    assert fidelity[1] < 40.0
    assert fidelity[3] < fidelity[1]
    etas = np.array([0.0, 0.5, 1.0, 1.5])
    assert eta_choice.choose(etas, alignment, fidelity, scorer.tolerance).at == 2


def test_a_picture_without_a_mark_gets_none():
    item, seen = known("colour")
    from imagic_jax.flatland import reader

    bare = reader.render_list([item.source], seen.nuisance)[0]
    assert float(eta_scorers.marked(bare, seen).mark_on) == 0.0
    source, _ = item.pictures()
    told = eta_scorers.marked(source, seen)
    assert float(told.mark_on) == 1.0
    np.testing.assert_array_equal(told.mark, item.nuisance().mark)


def test_a_photograph_wants_published_weights_and_says_which():
    scorer, why = eta_scorers.scorer_for({}, np.zeros((32, 32, 3), np.float32), "a dog")
    assert scorer is None
    assert "no eta is chosen" in why
    assert "clip-vit-large-patch14" in why
    assert "lpips_alex" in why
    closed = {"text": {"closed_vocabulary": True}}
    scorer, why = eta_scorers.scorer_for(closed, np.zeros((64, 64, 3), np.float32), "a lighthouse")
    assert scorer is None
    assert "names nothing" in why


class Published(Opened):
    """Two metrics of known values, in the place of the networks."""

    def score(self, pairs):
        assert pairs.text == ("a dog",) * len(pairs.output)
        far = np.abs(pairs.output - pairs.reference).mean(axis=(1, 2, 3))
        values = {"clip_cos": far / 2, "lpips_alex": far}
        return SimpleNamespace(values=values)


def test_published_metrics_choose_by_one_minus_lpips():
    source = np.full((8, 8, 3), -1.0, np.float32)
    scorer = eta_scorers.PublishedScorer(Published((), {}, Networks(None)), source, "a dog")
    pictures = np.stack([source + 2 * a for a in (0.0, 0.25, 0.5, 1.0)])
    alignment, fidelity = scorer(pictures)
    np.testing.assert_allclose(fidelity, [1.0, 0.75, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(alignment, [0.0, 0.125, 0.25, 0.5], atol=1e-6)
    assert eta_choice.choose(ETAS, alignment, fidelity, scorer.tolerance).at == 1


class FakePair(eta_scorers.Pair):
    """Embeds a picture by its mean colour; a text by one that it names."""

    def __init__(self):
        self.name = "fake"

    def texts(self, texts):
        return np.array([[1.0, 0.0, 0.0]] * len(texts))

    def pictures(self, pictures):
        return self.features(pictures)[0]

    def features(self, pictures):
        mean = pictures.mean(axis=(1, 2)) / 2 + 0.5
        unit = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
        return unit, unit[:, None].repeat(4, axis=1)


def test_a_pair_scores_cosines_with_text_and_input():
    red, blue = np.array([1.0, -1.0, -1.0]), np.array([-1.0, -1.0, 1.0])
    pictures = np.stack([np.broadcast_to(c, (4, 4, 3)) for c in (blue, (red + blue) / 2, red)])
    scorer = eta_scorers.PairScorer(FakePair(), pictures[0], "red")
    alignment, fidelity = scorer(pictures)
    np.testing.assert_allclose(alignment, [0, np.sqrt(0.5), 1], atol=1e-6)
    np.testing.assert_allclose(fidelity, [1, np.sqrt(0.5), 0], atol=1e-6)
    both = eta_scorers.BothScorer(scorer, Shares())
    np.testing.assert_allclose(both(pictures)[0], alignment)
    np.testing.assert_allclose(both(pictures)[1], -pictures.mean(axis=(1, 2, 3)))


def test_learned_stand_ins_are_one_for_the_source_itself():
    item, _ = known("colour")
    source, ideals = item.pictures()
    found = extras.learned_scores(FakePair(), item, np.stack([source, ideals[0]]))
    assert found["wlpips_kept"][0] == pytest.approx(1.0)
    assert found["wlpips_kept"][1] < 1.0
    assert found["wclip"].shape == (2,)


def test_a_pair_of_transformers_layout_gives_unit_vectors(tmp_path):
    """A tiny pair on disk, through the real code."""
    folder = tmp_path / "pair"
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2, "projection_dim": 8, "hidden_act": "quick_gelu"}
    ends = {"bos_token_id": 812, "eos_token_id": 813, "pad_token_id": 813}
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 8,
        "text_config": {**tower, **ends, "vocab_size": 814, "max_position_embeddings": 24},
        "vision_config": {**tower, "image_size": 16, "patch_size": 8},
    }
    module = CLIPModel(CLIPConfig.from_dict(config))
    ids, pixels = np.zeros((1, 24), np.int32), np.zeros((1, 16, 16, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids, pixels)["params"]
    save_part(folder, config, tiny.random_params(shapes, 0))
    save_clip_vocabulary(folder, captions.vocabulary(), 24)
    pair = eta_scorers.Pair(folder)
    assert pair.name == "pair"
    rng = np.random.default_rng(0)
    seen, states = pair.features(rng.uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32))
    texts = pair.texts(["a red dog", "a blue bird"])
    assert seen.shape == (3, 8)
    assert texts.shape == (2, 8)
    for vectors in (seen, states, texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)


def test_pictures_of_any_size_are_brought_to_the_readers():
    x = np.arange(2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    np.testing.assert_allclose(eta_scorers.to_side(x, 4)[0, 0, 0], x[0, :2, :2].mean(axis=(0, 1)))
    assert eta_scorers.to_side(x, 6).shape == (2, 6, 6, 3)
