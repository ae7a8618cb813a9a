"""Kinds of trained generators: the class of each, and loading of a trained one of any kind."""

from collections.abc import Mapping
from pathlib import Path

import torch

from models.dialogue.generators.decoder_only.model import CausalGenerator
from models.dialogue.generators.files import read_params
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.generators.trainable import AnyGenerator
from models.params.dialogue import TrainedKind

GENERATORS: Mapping[TrainedKind, type[AnyGenerator]] = {"seq2seq": Seq2SeqGenerator, "causal": CausalGenerator}


def load_generator(folder: Path, *, device: torch.device | str) -> AnyGenerator:
    """Read a folder that a trained generator has saved, in evaluation mode.

    Raises:
        SourceError: A file is missing or broken.
    """
    return GENERATORS[read_params(folder).kind].load(folder, device=device)
