"""The models that the authors of the paper published on the Hugging Face Hub, as their repository describes them."""

from __future__ import annotations

from dataclasses import dataclass

from calm.hub.folders import OFFICIAL_AUTOENCODER

CHUNK_SIZE, LATENT_SIZE = 4, 128
AUTOENCODER_PARAMETERS = 75_000_000
"""Of the autoencoder that all CALMs share. It has a repository of its own and is downloaded with each of them."""
SEE_CARD = "see its card on the Hub"
TRAINING_DATA = "English text of the Pile (monology/pile-uncopyrighted)"


@dataclass(frozen=True)
class OfficialModel:
    """A published CALM, or the autoencoder. Its figures are those of the authors."""

    parameters: int
    """Without the autoencoder of a CALM."""
    licence: str
    brier_lm: float | None
    """None for the autoencoder, which generates no text."""

    @property
    def size(self) -> str:
        """The number of parameters without the autoencoder of a CALM, as text."""
        millions = self.parameters / 1e6
        return f"{millions:.0f} M" if millions < 1000 else f"{millions / 1000:.2f} B"

    @property
    def all_parameters(self) -> int:
        """With the autoencoder of a CALM."""
        return self.parameters + (0 if self.brier_lm is None else AUTOENCODER_PARAMETERS)


OFFICIAL_MODELS = {
    "cccczshao/CALM-M": OfficialModel(371_000_000, SEE_CARD, 5.72),
    "cccczshao/CALM-L": OfficialModel(735_000_000, SEE_CARD, 6.58),
    "cccczshao/CALM-XL": OfficialModel(1_820_000_000, "MIT", 8.53),
    OFFICIAL_AUTOENCODER: OfficialModel(AUTOENCODER_PARAMETERS, SEE_CARD, None),
}
"""By their Hub ids."""
