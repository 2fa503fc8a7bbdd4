"""Naming what a film shows: which frames are looked at, the table of words, other taggers."""

import json
import sys
import types

import numpy as np
import pytest

from palette_vc_jax.commands import palette as palette_command
from palette_vc_jax.commands import sample
from palette_vc_jax.models.text_table import TextTable, load_table, save_table
from palette_vc_jax.sampling import tags
from palette_vc_jax.sampling.pretrained_tagger import read_tags
from palette_vc_jax.video.film import open_film
from tests import films, tiny
from tests.commands import command

WIDTH = tiny.CONFIG.image_encoder.projection_dim
WORDS = ("grass", "snow", "brick", "night sky", "sea", "fire", "skin", "sand")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Write a tiny model and a random table of words for it."""
    folder = tiny.write_model(tmp_path_factory.mktemp("model"))
    embeddings = np.random.default_rng(0).standard_normal((len(WORDS), WIDTH))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    notes = {"vocabulary_sha256": "v", "tower_sha256": "t", "templates": "{}"}
    save_table(TextTable(WORDS, embeddings, 10.0, notes), folder / "text_table.safetensors")
    return folder


@pytest.mark.parametrize(
    "shots, frames",
    [
        ([(0, 1)], [0]),
        ([(0, 90)], [15, 45, 75]),
        ([(0, 10), (10, 30)], [1, 5, 8, 13, 20, 26]),
        ([(10 * i, 10 * i + 10) for i in range(12)], [10 * i + 5 for i in range(12)]),
    ],
)
def test_a_few_frames_of_every_shot(shots, frames):
    """If this fails, some shots are not looked at, or frames at a cut are."""
    assert tags.frames_to_tag(shots) == frames


def test_a_long_film_is_looked_at_here_and_there():
    """If this fails, naming what an hour of film shows takes as long as coloring it."""
    chosen = tags.frames_to_tag([(30 * i, 30 * i + 30) for i in range(500)])
    assert len(chosen) == 12 and chosen[0] < 60 and chosen[-1] > 13000


def test_a_film_is_tagged_before_it_is_colored(model, tmp_path, capsys):
    """If this fails, `--palette words` alone does not name what a film shows."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(6))
    flags = ("--input", source, "--output", tmp_path / "out.mkv", "--checkpoint", model)
    assert command(sample.main, *flags, "--palette", "words", "--dry_run") == 0
    said = capsys.readouterr()
    plan = json.loads(said.out)
    details = plan["palette_details"]
    assert details["tagger"] == f"clip ({len(WORDS)} words)" and details["proposer"] == "table"
    named = [tag["tag"] for tag in details["tags"]]
    assert len(named) == tags.TAGS and set(named) <= set(WORDS)
    assert f"words:{', '.join(named)}" in said.err
    weights = [tag["weight"] for tag in details["tags"]]
    assert weights == sorted(weights, reverse=True) and 0 < sum(weights) <= 1


def test_the_films_colors_do_not_name_its_things(model, tmp_path):
    """If this fails, the tagger sees the colors that are to be found."""
    named = []
    for name, chroma in (("colored", "colored"), ("neutral", 128)):
        film = films.write_film(tmp_path / f"{name}.mkv", films.lumas(6), chroma=chroma)
        tagger, _ = tags.load_tagger("clip", model)
        named.append(tags.tag_film(open_film(film), [(0, 6)], tagger))
    assert named[0] == named[1]


def test_one_frame_is_tagged_by_the_palette_command(model, tmp_path):
    """If this fails, `words --frame FILM@TIME` looks elsewhere or cannot be used."""
    pictures = films.lumas(12)
    source = films.write_film(tmp_path / "in.mkv", pictures)
    film = open_film(source)
    for seconds, index in ((0.0, 0), (5 / 24, 5), (0.2, 4), (99.0, 11)):
        assert tags.frame_at(film, seconds).index == index
    args = ("words", "--frame", f"{source}@0.25", "--checkpoint", model)
    assert command(palette_command.main, *args, "--output", tmp_path / "p.json") == 0
    kept = json.loads((tmp_path / "p.json").read_text())
    assert kept["tagger"].startswith("clip") and len(kept["tags"]) == tags.TAGS


def test_a_table_that_does_not_belong_is_refused(model, tmp_path):
    """If this fails, a film is tagged with a table of another tower, or of random bytes."""
    assert load_table(model, WIDTH).tags == WORDS
    with pytest.raises(ValueError, match="belongs to it"):
        load_table(model, WIDTH + 1)
    with pytest.raises(ValueError, match="convert/text_table.py"):
        load_table(tmp_path, WIDTH)
    (tmp_path / "text_table.safetensors").write_bytes(b"not one")
    with pytest.raises(ValueError, match="not a table") as error:
        load_table(tmp_path, WIDTH)
    assert "\n" not in str(error.value)


def test_the_extra_tagger_is_named_where_it_is_missing(model, monkeypatch):
    """If this fails, a machine without transformers gets a traceback."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"requirements-tagger\.txt"):
        tags.load_tagger("transformers:some/model", model)


def test_an_image_text_model_names_things(model, monkeypatch):
    """If this fails, what a model writes does not become tags, or its code is run."""
    asked = []

    def pipeline(task, **settings):
        assert task == "image-text-to-text" and settings["trust_remote_code"] is False
        if settings["model"] == "broken":
            raise OSError("no such\nmodel")

        def ask(text, **limits):
            asked.append(text[0]["content"][0]["image"])
            return [{"generated_text": "A red tram, Snow.\n- wet asphalt, " + "x" * 99}]

        return ask

    fake = types.ModuleType("transformers")
    fake.pipeline = pipeline
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    tagger, name = tags.load_tagger("transformers:m", model)
    found = tagger(np.zeros((9, 20, 30)))
    assert [tag.text for tag in found] == ["a red tram", "snow", "wet asphalt"]
    assert len(asked) == 3 and asked[0].size == (30, 20) and name == "transformers:m"
    with pytest.raises(ValueError, match="no such model"):
        tags.load_tagger("transformers:broken", model)


def test_what_a_model_writes_is_cut_to_tags():
    """If this fails, a model's sentence or control codes become a tag."""
    assert read_tags("snow, SNOW, \x1b[2J, a\nb; " + "y" * 80) == ["snow", "a"]
