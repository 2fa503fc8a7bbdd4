"""Zero-shot tags against transformers' CLIP: the table, the probabilities, the ranking of words."""

import json

import numpy as np
import pytest

from palette_vc_jax.commands import text_table
from palette_vc_jax.conversion import text_tower
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import save_model
from palette_vc_jax.models.text_table import load_table, probabilities
from palette_vc_jax.palette import lexicon
from palette_vc_jax.sampling import tags
from tests.commands import command

torch = pytest.importorskip("torch", reason="parity needs torch")
transformers = pytest.importorskip("transformers", reason="parity needs transformers")
pytest.importorskip("diffusers", reason="parity needs diffusers")

WHOLE = 5e-5


@pytest.fixture(scope="module")
def tower(tmp_path_factory, clip):
    """Save a random text tower and a tokenizer as transformers does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from tests.parity.random_svd import randomized

    folder = tmp_path_factory.mktemp("text_tower")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.' "
    names = ["<|pad|>", "<|startoftext|>", *letters, "<|endoftext|>"]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(names)}, unk_token="<|pad|>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    ends = [(names[1], 1), (names[-1], len(names) - 1)]
    made.post_processor = processors.TemplateProcessing(
        single=f"{names[1]} $A {names[-1]}", special_tokens=ends
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=names[1], eos_token=names[-1], pad_token=names[0]
    )
    fast.save_pretrained(folder)
    config = transformers.CLIPTextConfig(
        vocab_size=len(names), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=60, hidden_act="gelu",
        projection_dim=clip.config.projection_dim, bos_token_id=1, eos_token_id=len(names) - 1,
        pad_token_id=0,
    )  # fmt: skip
    model = randomized(transformers.CLIPTextModelWithProjection(config), 9)
    model.save_pretrained(folder)
    return folder, fast, model.eval()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, clip):
    """Write the converted image tower, all that tagging reads of a model."""
    folder = tmp_path_factory.mktemp("converted")
    config = ModelConfig("svd", image_encoder=clip.config)
    save_model(folder, config, {"image_encoder": clip.params})
    return folder


@pytest.fixture(scope="module")
def converted(tower, model_folder):
    """Write the table beside the image tower."""
    flags = ("--text_tower", tower[0], "--model", model_folder, "--logit_scale", 20)
    assert command(text_table.main, *flags) == 0
    return model_folder


def _expected(tower, words):
    """Embed words as transformers' own documentation of zero-shot classification does."""
    _, tokenizer, model = tower
    means = []
    for word in words:
        texts = [template.format(word) for template in text_tower.TEMPLATES]
        parts = []
        for text in texts:  # one by one: nothing is padded
            ids = tokenizer([text], return_tensors="pt")["input_ids"]
            with torch.no_grad():
                found = model(ids).text_embeds[0]
            parts.append(found / found.norm())
        mean = torch.stack(parts).mean(0)
        means.append(mean / mean.norm())
    return torch.stack(means)


def test_the_table_is_the_text_towers_word(tower, converted, clip, check):
    """If this fails, padding, templates, pooling or scaling differ from CLIP's."""
    table = load_table(converted, clip.config.projection_dim)
    assert list(table.tags) == lexicon.vocabulary(lexicon.load()) and table.logit_scale == 20.0
    assert all(table.notes.values()) and len(table.notes["tower_sha256"]) == 64
    some = range(0, len(table.tags), 29)
    expected = _expected(tower, [table.tags[i] for i in some]).numpy()
    check(table.embeddings[list(some)], expected, WHOLE)


def test_ranking_is_pytorchs(tower, converted, clip, check):
    """If this fails, a film gets other tags than with PyTorch's CLIP."""
    pictures = np.random.default_rng(1).uniform(0, 1, (3, 224, 224)).astype(np.float32)
    pictures[0] *= np.linspace(0, 1, 224)[:, None]
    pictures[1] = np.roll(pictures[1], 7).cumsum(0) / 224
    table = load_table(converted, clip.config.projection_dim)
    words = torch.from_numpy(table.embeddings)
    processor = transformers.CLIPImageProcessor()
    prepared = processor(
        images=torch.from_numpy(pictures)[:, None].expand(-1, 3, -1, -1),
        do_resize=False, do_center_crop=False, do_rescale=False, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        images = clip.torch(prepared.pixel_values).image_embeds
    unit = images / images.norm(dim=-1, keepdim=True)
    expected = (table.logit_scale * unit @ words.T).softmax(-1)
    ours = probabilities(table.embeddings, table.logit_scale, images.numpy())
    check(np.asarray(ours), expected.numpy(), WHOLE)

    embedded = tags.zero_shot(converted, table)
    for index in range(3):
        order = torch.argsort(expected[index], descending=True, stable=True)[: tags.TAGS].tolist()
        found = embedded(pictures[index : index + 1])
        assert [tag.text for tag in found] == [table.tags[i] for i in order]
        weights = np.array([tag.weight for tag in found])
        check(weights, expected[index][order].numpy(), 1e-3)
    mean = expected.mean(0)
    order = torch.argsort(mean, descending=True, stable=True)[: tags.TAGS].tolist()
    assert [tag.text for tag in embedded(pictures)] == [table.tags[i] for i in order]


def test_a_tower_that_does_not_belong_is_refused(tower, model_folder, tmp_path, capsys):
    """If this fails, a table is written whose words mean nothing to the image tower."""
    config = json.loads((model_folder / "config.json").read_text())
    config["image_encoder"]["projection_dim"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert command(text_table.main, "--text_tower", tower[0], "--model", tmp_path) == 2
    assert "of the same model" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert command(text_table.main, "--text_tower", empty, "--model", model_folder) == 2
    assert command(text_table.main, "--text_tower", tower[0], "--model", empty) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "empty"]
