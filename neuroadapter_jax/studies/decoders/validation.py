"""Settings that are chosen on validation images: the low-level start's strength, and guidance."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.files import write_json
from neuroadapter_jax.pipeline import Decoder, LowLevelStart
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.studies.decoders.scores import ScoreImages, mean_scores
from neuroadapter_jax.studies.decoders.settings import DecoderSettings

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GUIDANCE_SCALES = (1.0, 2.0, 4.0, 7.0)


def choose_strength(
    without: Mapping[str, float], by_strength: Mapping[float, Mapping[str, float]]
) -> float:
    """The strength with the highest PixCorr + SSIM of those that cost no meaning.

    Meaning is semantic recall and object identity: neither may fall.

    Args:
        without: scores on validation images without a low-level start.
        by_strength: strength -> scores with a start of that strength.

    Returns:
        The strength; 1 (no low-level start) where all cost meaning.
    """
    likeness = {
        strength: scores["pixel_correlation"] + scores["ssim"]
        for strength, scores in by_strength.items()
        if all(scores[k] >= without[k] for k in ("semantic_recall", "object_identity"))
    }
    return max(likeness, key=lambda strength: (likeness[strength], strength), default=1.0)


@dataclass(frozen=True)
class ValidationImages:
    """Validation images, and how reconstructions of them are scored.

    Attributes:
        fmri: responses.
        low: latents of the low-level start; None where no method needs them.
        score: None where the truth is not known, so that nothing can be chosen.
    """

    fmri: Float[np.ndarray, "b n"]
    low: Float[np.ndarray, "b y x c"] | None
    score: ScoreImages | None


class ValidationScores:
    """Scores of decoders on validation images; each is computed once and stored.

    Args:
        images: the validation images.
        settings: seed and batch size.
        path: JSON file of all scores, from which a killed call goes on.
        bar: moves on by one with each score.
    """

    def __init__(self, images: ValidationImages, settings: DecoderSettings, path: Path, bar: Bar):
        self.images, self.settings, self.path, self.bar = images, settings, path, bar
        form, expected = dict[str, dict[str, float]], "scores on validation images"
        stored = read_json(path, expected, form, f"delete {path}") if path.is_file() else {}
        self.stored: dict[str, dict[str, float]] = with_new_names(stored)

    def of(
        self,
        decoder: Decoder,
        name: str,
        sampling: Sampling,
        *,
        guidance: float | None = None,
        strength: float | None = None,
    ) -> dict[str, float]:
        """The scores of one decoder.

        Args:
            decoder: what reconstructs.
            name: its name in the file.
            sampling: its settings.
            guidance: replaces that of `sampling`.
            strength: of the low-level start; without one when None.
        """
        key = f"{name}, guidance {guidance}, strength {strength}"
        if key not in self.stored:
            images, sampling = self.images, sampling.replace(guidance_scale=guidance)

            def reconstruct(rows: np.ndarray) -> np.ndarray:
                low_level = None
                if strength is not None and images.low is not None:
                    low_level = LowLevelStart(images.low[rows], strength)
                return decoder(
                    images.fmri[rows],
                    sampling,
                    num_candidates=1,
                    seed=self.settings.seed,
                    sample_ids=rows,
                    low_level=low_level,
                )[:, 0]

            found = map_batches(reconstruct, len(images.fmri), self.settings.batch_size)
            if images.score is None:
                raise InputError("Validation images without a score; nothing can be chosen.")
            self.stored[key] = mean_scores(images.score(found))
            write_json(self.path, self.stored)
        self.bar.update()
        return self.stored[key]


def choose_on_validation(
    decoders: Mapping[str, Decoder],
    samplings: Mapping[str, Sampling],
    images: ValidationImages,
    settings: DecoderSettings,
    path: Path,
    *,
    guided: Collection[str],
    started: Collection[str],
    progress: bool = True,
) -> dict[str, Any]:
    """The guidance scale of decoders that are guided from a prompt, and low-level strengths.

    The guidance scale has the highest semantic recall, then the highest PixCorr; the strength is
    that of `choose_strength`. What `settings` give is not chosen.

    Args:
        decoders: by name, those of which something is chosen.
        samplings: of each decoder.
        images: the validation images.
        settings: of the study.
        path: JSON file of the scores.
        guided: decoders whose guidance is chosen.
        started: decoders that begin from a low-level start.
        progress: show a bar.

    Returns:
        "num_images"; "strength" and "guidance_scale": decoder -> number; "scores".
    """
    given, strength = settings.linear_guidance_scale, settings.strength
    guidance = dict.fromkeys(guided, given)
    strengths = dict.fromkeys(started, strength)
    total = (given is None) * len(guided) * len(GUIDANCE_SCALES)
    total += (strength is None) * len(started) * (1 + len(STRENGTHS))
    with Bar(total=total, desc="Validation", unit="setting", disable=not progress) as bar:
        scores = ValidationScores(images, settings, path, bar)
        for name in guided if given is None else ():
            found = {
                scale: scores.of(decoders[name], name, samplings[name], guidance=scale)
                for scale in GUIDANCE_SCALES
            }
            ranks = {
                scale: (each["semantic_recall"], each["pixel_correlation"])
                for scale, each in found.items()
            }
            guidance[name] = max(ranks, key=ranks.__getitem__)
        for name in started if strength is None else ():
            decoder, sampling, own = decoders[name], samplings[name], guidance.get(name)
            without = scores.of(decoder, name, sampling, guidance=own)
            by_strength = {
                each: scores.of(decoder, name, sampling, guidance=own, strength=each)
                for each in STRENGTHS
            }
            strengths[name] = choose_strength(without, by_strength)
    return {
        "num_images": len(images.fmri),
        "strength": strengths,
        "guidance_scale": guidance,
        "scores": scores.stored,
    }
