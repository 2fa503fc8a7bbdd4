"""The optional tagger on a real, tiny and random image-text model of transformers."""

import numpy as np
import pytest

from palette_vc_jax.sampling import pretrained_tagger, tags

pytest.importorskip("torch", reason="the tagger needs torch")
transformers = pytest.importorskip("transformers", reason="the tagger needs transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a tiny LLaVA with a tokenizer of single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<pad>", "<s>", "</s>", "<image>", *map(chr, range(32, 127))]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(names)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    tokenizer.image_token = "<image>"
    template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    side = {"height": 28, "width": 28}
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=side),
        tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        chat_template=template, num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes, image_size=28, patch_size=14),
        text_config=transformers.LlamaConfig(
            **sizes, vocab_size=len(names), num_key_value_heads=2,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ),
        image_token_id=3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("llava")
    transformers.LlavaForConditionalGeneration(config).save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_frames_reach_the_model_and_its_words_come_back(folder, monkeypatch):
    """If this fails, transformers wants to be asked in another way than the tagger asks."""
    answers = []

    def read(answer):
        answers.append(answer)
        return ["snow", "a red tram"]

    monkeypatch.setattr(pretrained_tagger, "read_tags", read)
    tagger, name = tags.load_tagger(f"transformers:{folder}", folder)
    found = tagger(np.random.default_rng(0).uniform(0, 1, (5, 40, 60)))
    assert [tag.text for tag in found] == ["snow", "a red tram"]
    assert len(answers) == pretrained_tagger.MAX_FRAMES
    for answer in answers:
        assert isinstance(answer, str) and pretrained_tagger.QUESTION not in answer


def test_what_is_no_such_model_is_refused_in_one_line(tmp_path):
    """If this fails, a wrong folder ends in transformers' traceback."""
    with pytest.raises(ValueError, match="not an image-text-to-text model") as error:
        tags.load_tagger(f"transformers:{tmp_path}", tmp_path)
    assert "\n" not in str(error.value)
