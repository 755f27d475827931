import numpy as np
import pytest

import calm
from calm import CalmError

NOVEL = (
    "He broke off, and, darting across the room to where the girl was bending over the table, he embraced her with "
    'fervour -- slightly to my annoyance. "But, monsieur," she cried, "it is nearly eight o\'clock!"'
)


def test_the_bundled_autoencoder_restores_text(story):
    stories = "\n".join(calm.storyland.stories("validation", 20, skip=700))
    for text in (stories, NOVEL):
        assert calm.reconstruct(story, text).token_accuracy > 0.99
        assert calm.reconstruct(story, text, noise=0.3, seed=1).token_accuracy > 0.98


def test_more_noise_restores_fewer_tokens(story):
    accuracy = [calm.reconstruct(story, NOVEL, noise=noise, seed=2).token_accuracy for noise in (0, 1.5, 3)]
    assert accuracy[0] > accuracy[1] > accuracy[2]
    assert calm.reconstruct(story, NOVEL, noise=1.5, seed=2).token_accuracy == accuracy[1]


def test_chunks_cover_the_text(story):
    text = "Mia lost her kite."
    result = calm.reconstruct(story, text)
    assert "".join(chunk.text for chunk in result.chunks) == text
    assert sum(len(chunk.token_ids) for chunk in result.chunks) == result.tokens == len(story.tokenize(text))
    assert all(len(chunk.token_ids) == 4 for chunk in result.chunks[:-1])
    for chunk in result.chunks:
        assert chunk.mean.shape == chunk.std.shape == (story.calm.config.latent_size,)
        assert (chunk.std > 0).all()
        assert chunk.exact == (chunk.token_ids == chunk.decoded_ids)
    assert result.chunk_accuracy == sum(chunk.exact for chunk in result.chunks) / len(result.chunks)


@pytest.mark.parametrize("text", ["a", "日本語のテキスト", "🎉🎊", "\x00\u202e", " " * 9, "x" * 5000])
def test_any_text_is_reconstructed(story, text):
    result = calm.reconstruct(story, text)
    assert 0 <= result.token_accuracy <= 1


SPLIT = "Hi 🙂 you 日本語, naïve 👩‍👩‍👧 end"


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("text", [SPLIT, "🙂", "a real \ufffd mark", "<|end_of_text|>Hello [PAD] there"])
def test_texts_of_chunks_join_to_the_text(tiny, k, text):
    lm = tiny(k)
    result = calm.reconstruct(lm, text, noise=0.5, seed=1)
    assert "".join(chunk.text for chunk in result.chunks) == text
    assert "\ufffd" in text or not any("\ufffd" in chunk.label for chunk in result.chunks)
    for chunk in result.chunks:
        assert len(chunk.tokens) == len(chunk.decoded_tokens) == len(chunk.token_ids)
        if chunk.exact:
            assert (chunk.decoded_text, chunk.decoded_label) == (chunk.text, chunk.label)
            assert chunk.decoded_tokens == chunk.tokens


def test_a_character_that_chunks_share_is_shown_in_each_of_them(tiny):
    lm = tiny(1)
    chunks = calm.reconstruct(lm, "a🙂").chunks
    assert [chunk.text for chunk in chunks] == ["a", "", "", "", "🙂"]
    assert [chunk.label for chunk in chunks] == ["a", "🙂 (1/4)", "🙂 (2/4)", "🙂 (3/4)", "🙂 (4/4)"]
    (chunk,) = calm.reconstruct(tiny(4), "🙂").chunks
    assert (chunk.text, chunk.label) == ("🙂", "🙂") and chunk.tokens == [
        "🙂 (1/4)",
        "🙂 (2/4)",
        "🙂 (3/4)",
        "🙂 (4/4)",
    ]


def test_the_bundled_models_restore_split_characters(story):
    result = calm.reconstruct(story, "Hi 🙂!")
    assert result.token_accuracy == 1
    assert [chunk.decoded_text for chunk in result.chunks] == [chunk.text for chunk in result.chunks]
    assert "".join(chunk.decoded_text for chunk in result.chunks) == "Hi 🙂!"


def test_bad_arguments_raise_one_sentence(story, tiny_ar):
    with pytest.raises(CalmError, match="no text to reconstruct"):
        calm.reconstruct(story, "")
    for noise in (-0.1, float("nan"), float("inf"), "loud"):
        with pytest.raises(CalmError, match="noise must be a number"):
            calm.reconstruct(story, "x", noise=noise)
    with pytest.raises(CalmError, match="seed must be a whole number from 0"):
        calm.reconstruct(story, "x", seed=10**30)
    with pytest.raises(CalmError, match="choose a CALM model"):
        calm.reconstruct(tiny_ar, "x")


def test_encode_and_decode_are_the_two_halves_of_reconstruct(story):
    encoding = calm.encode(story, NOVEL)
    result = calm.reconstruct(story, NOVEL)
    for mean, std, chunk in zip(encoding.mean, encoding.std, result.chunks, strict=True):
        assert np.array_equal(mean, chunk.mean) and np.array_equal(std, chunk.std)
    again = calm.encode(story, encoding.token_ids)
    assert np.array_equal(again.mean, encoding.mean) and again.token_ids == encoding.token_ids
    decoded = [ids for chunk in result.chunks for ids in chunk.decoded_ids]
    assert [ids for chunk in calm.decode(story, encoding.mean) for ids in chunk][: result.tokens] == decoded


def test_chunks_that_the_model_cannot_read_are_refused(story, tiny_ar):
    for chunks in ([], [[1, 2, 3]], [[1, 2, 3, -1]], [[1, 2, 3, 10**9]]):
        with pytest.raises(CalmError, match="must be 4 token ids below"):
            calm.encode(story, chunks)
    with pytest.raises(CalmError, match="choose a CALM model"):
        calm.encode(tiny_ar, "x")


def test_a_long_text_is_encoded_in_parts(story, monkeypatch):
    whole = calm.encode(story, NOVEL)
    monkeypatch.setattr("calm.reconstruction.ENCODED_AT_ONCE", 7)
    parts = calm.encode(story, NOVEL)
    assert parts.offsets == whole.offsets
    assert np.allclose(parts.mean, whole.mean, atol=1e-5) and np.allclose(parts.std, whole.std, atol=1e-5)
