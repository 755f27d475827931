"""The models that the authors of the paper published on the Hugging Face Hub, as their repository describes them."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_SIZE, LATENT_SIZE = 4, 128
AUTOENCODER_PARAMETERS = 75_000_000
"""Of the autoencoder that all of them share. It has a repository of its own and is downloaded with the model."""
TRAINING_DATA = "English text of the Pile (monology/pile-uncopyrighted)"


@dataclass(frozen=True)
class OfficialModel:
    """A published CALM. Its figures are those of the authors."""

    parameters: int
    """Without the autoencoder."""
    brier_lm: float
    licence: str

    @property
    def size(self) -> str:
        """The number of parameters without the autoencoder, as text."""
        millions = self.parameters / 1e6
        return f"{millions:.0f} M" if millions < 1000 else f"{millions / 1000:.2f} B"

    @property
    def all_parameters(self) -> int:
        """With the autoencoder."""
        return self.parameters + AUTOENCODER_PARAMETERS


OFFICIAL_MODELS = {
    "cccczshao/CALM-M": OfficialModel(371_000_000, 5.72, "see its card on the Hub"),
    "cccczshao/CALM-L": OfficialModel(735_000_000, 6.58, "see its card on the Hub"),
    "cccczshao/CALM-XL": OfficialModel(1_820_000_000, 8.53, "MIT"),
}
"""By their Hub ids."""
