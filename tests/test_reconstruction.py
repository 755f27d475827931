import pytest

import calm
from calm import CalmError

NOVEL = (
    "He broke off, and, darting across the room to where the girl was bending over the table, he embraced her with "
    'fervour -- slightly to my annoyance. "But, monsieur," she cried, "it is nearly eight o\'clock!"'
)


def test_the_bundled_autoencoder_restores_text(story):
    told = "\n".join(calm.storyland.stories("validation", 20, skip=700))
    for text in (told, NOVEL):
        assert calm.reconstruct(story, text).token_accuracy > 0.99
        assert calm.reconstruct(story, text, noise=0.3, seed=1).token_accuracy > 0.98


def test_noise_disturbs_more_the_louder_it_is(story):
    accuracy = [calm.reconstruct(story, NOVEL, noise=noise, seed=2).token_accuracy for noise in (0, 1.5, 3)]
    assert accuracy[0] > accuracy[1] > accuracy[2]
    assert calm.reconstruct(story, NOVEL, noise=1.5, seed=2).token_accuracy == accuracy[1]


def test_chunks_cover_the_text(story):
    text = "Mia lost her kite."
    found = calm.reconstruct(story, text)
    assert "".join(chunk.text for chunk in found.chunks) == text
    assert sum(len(chunk.token_ids) for chunk in found.chunks) == found.tokens == len(story.tokenize(text))
    assert all(len(chunk.token_ids) == 4 for chunk in found.chunks[:-1])
    for chunk in found.chunks:
        assert chunk.mean.shape == chunk.std.shape == (story.calm.config.latent_size,)
        assert (chunk.std > 0).all()
        assert chunk.exact == (chunk.token_ids == chunk.decoded_ids)
    assert found.chunk_accuracy == sum(chunk.exact for chunk in found.chunks) / len(found.chunks)


@pytest.mark.parametrize("text", ["a", "日本語のテキスト", "🎉🎊", "\x00\u202e", " " * 9, "x" * 5000])
def test_any_text_goes_through(story, text):
    found = calm.reconstruct(story, text)
    assert 0 <= found.token_accuracy <= 1


def test_bad_requests_are_one_sentence(story, tiny_ar):
    with pytest.raises(CalmError, match="no text to reconstruct"):
        calm.reconstruct(story, "")
    for noise in (-0.1, float("nan"), float("inf"), "loud"):
        with pytest.raises(CalmError, match="noise must be a number"):
            calm.reconstruct(story, "x", noise=noise)
    with pytest.raises(CalmError, match="seed must be a whole number from 0"):
        calm.reconstruct(story, "x", seed=10**30)
    with pytest.raises(CalmError, match="choose a CALM model"):
        calm.reconstruct(tiny_ar, "x")
