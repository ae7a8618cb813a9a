"""The retriever: a context encoder and an entity encoder whose dot product is a cosine (§3.2 of MK-TOD)."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from models.dialogue.data.records import Entity
from models.dialogue.retrieval.entity_text import context_text, entity_text
from models.dialogue.retrieval.hybrid import HybridScorer
from models.dialogue.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser
from models.errors import ArtifactError, ParamsError, Problem
from models.lm.pooling import Tower, read_pooling
from models.lm.sentence_encoder import TOKENIZER, TextTokenizer, drop_pooler, find_encoder, load_encoder
from models.params.retriever import RetrieverParams

WEIGHTS, SETTINGS = "model.safetensors", "retriever.json"
# They say where weights came from and how they were trained, not what the retriever computes.
_NOT_IN_DIGEST: dict[str, Any] = dict.fromkeys(("encoder", "revision", "pico", "warm_start", "seed"), True)
_DENSE_ONLY, _HYBRID = {"scoring": True, "lexical": True}, {"lexical": {"lr_factor"}}


class Retriever(nn.Module):
    """Contexts and entities to unit vectors.

    Attributes:
        cfg: How it was built; its lengths, texts and pooling hold for every use.
        tokeniser: Shared by both sides.
        dim: Width D of the vectors.
        scorer: Weights of hybrid scoring; None = the score is the cosine.
    """

    def __init__(self, cfg: RetrieverParams, tokeniser: TextTokenizer, *, encoders: Sequence[PreTrainedModel]) -> None:
        """Wrap one encoder (shared by both sides) or two (contexts, entities).

        Raises:
            ParamsError: The encoder has fewer positions than the longest context or entity.
        """
        super().__init__()
        _check_positions(cfg, encoders[0])
        self.cfg = cfg
        self.tokeniser = tokeniser
        towers = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            pooling = "mean" if cfg.pooling == "auto" else cfg.pooling
            towers += [Tower(encoder, pooling=pooling, projection=cfg.projection) for encoder in encoders]
        self.towers = nn.ModuleList(towers)
        self.dim = towers[0].dim
        self.scorer = HybridScorer(temperature=cfg.warm_start.temperature) if cfg.scoring == "hybrid" else None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokeniser.tokenizer

    def encode_contexts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return q_reps, float32[B, D] of length 1, of int64[B, T]."""
        reps: Tensor = self.towers[0](input_ids, attention_mask)
        return reps

    def encode_entities(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return e_reps, float32[B, D] of length 1, of int64[B, T]."""
        reps: Tensor = self.towers[-1](input_ids, attention_mask)
        return reps

    def context_text(self, context: Sequence[str]) -> str:
        """Return the input text of the context encoder."""
        cfg = self.cfg
        return context_text(context, max_utterances=cfg.max_utterances, role_marks=cfg.role_marks, normalised=cfg.normalise)

    def entity_text(self, entity: Entity) -> str:
        """Return the input text of the entity encoder."""
        cfg = self.cfg
        return entity_text(entity, attributes=cfg.attributes, domain=cfg.domain, normalised=cfg.normalise)

    def tokenise_contexts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise; too long ones lose their oldest words, never the first special token."""
        return self.tokeniser.encode(texts, max_tokens=self.cfg.max_context_tokens, drop="left")

    def tokenise_entities(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise; too long ones lose their last attributes, never the name, which comes first."""
        return self.tokeniser.encode(texts, max_tokens=self.cfg.max_entity_tokens, drop="right")

    def pad(self, ids: Sequence[Sequence[int]], device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """Return input_ids and attention_mask, int64[B, T], on `device` (default: the weights')."""
        return self.tokeniser.pad(ids, device=self.device if device is None else device)

    def digest(self) -> str:
        """Return the sha256 over all that decides vectors and scores: settings, encoder config, tokenizer, weights (streamed)."""
        digest = hashlib.sha256()
        settings = self.cfg.model_dump(mode="json", exclude=_NOT_IN_DIGEST | (_DENSE_ONLY if self.scorer is None else _HYBRID))
        digest.update(json.dumps([settings, self._architecture()], sort_keys=True).encode())
        digest.update(self.tokenizer.to_str().encode())
        for name, weight in sorted(self.state_dict().items()):
            plain = weight.detach().to("cpu").contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.view(torch.uint8).numpy().tobytes() if plain.ndim else repr(plain.item()).encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write weights, tokenizer and settings (safetensors and JSON only); the settings come last."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().to("cpu").contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, str(folder / WEIGHTS), metadata={"format": "pt"})
        self.tokeniser.save(folder)
        settings = {
            "cfg": self.cfg.model_dump(mode="json"),
            "architecture": self._architecture(),
            "tokens": self.tokeniser.special_ids(),
            "num_towers": len(self.towers),
        }
        text = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / SETTINGS).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Retriever":
        """Read what `save` wrote, in evaluation mode.

        Raises:
            ArtifactError: A file is missing or does not fit the others.
        """
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            tokeniser = TextTokenizer(Tokenizer.from_file(str(folder / TOKENIZER)), **settings["tokens"])
            encoders = [_empty_encoder(settings["architecture"]) for _ in range(settings["num_towers"])]
            retriever = cls(RetrieverParams.model_validate(settings["cfg"]), tokeniser, encoders=encoders)
            retriever.load_state_dict(load_file(str(folder / WEIGHTS)))
        except Exception as err:  # tokenizers and safetensors raise bare Exceptions
            raise ArtifactError(f"`{folder}` must hold a saved retriever, but cannot be read ({err}). Train it again.") from err
        return retriever.to(device).eval()

    def _architecture(self) -> dict[str, Any]:
        """The encoder's config without what merely describes its origin."""
        tower = self.towers[0]
        assert isinstance(tower, Tower)
        config = tower.encoder.config.to_dict()
        return {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version", "architectures", "dtype")}


def build_retriever(cfg: RetrieverParams, *, texts: Iterable[str], root: Path) -> Retriever:
    """Make the retriever of the params before any training of ours, in evaluation mode, on the CPU.

    Args:
        cfg: The section `retriever`.
        texts: Training texts of the `pico` tokenizer (contexts, entity texts); unused by other encoders.
        root: Base of relative folders.

    Raises:
        ParamsError: A hub name without a revision, or lengths beyond the encoder's positions.
        SourceError: The encoder cannot be loaded, or makes its vectors in a way that we cannot.
    """
    if cfg.encoder == "pico":
        tokeniser = train_pico_tokeniser(texts, vocab_size=cfg.pico.vocab_size)
        longest = max(cfg.max_context_tokens, cfg.max_entity_tokens)
        seeds = (cfg.seed, cfg.seed + 1) if cfg.untied else (cfg.seed,)
        encoders: list[PreTrainedModel] = [
            build_pico_encoder(cfg.pico, tokeniser, max_tokens=longest, seed=seed) for seed in seeds
        ]
    else:
        location, revision = find_encoder(cfg.encoder, revision=cfg.revision, root=root)
        if cfg.pooling == "auto":
            cfg = cfg.model_copy(update={"pooling": read_pooling(location, revision=revision) or "mean"})
        model, tokeniser = load_encoder(location, revision=revision)
        encoders = [model, load_encoder(location, revision=revision)[0]] if cfg.untied else [model]
    return Retriever(cfg, tokeniser, encoders=encoders).eval()


def _empty_encoder(architecture: dict[str, Any]) -> PreTrainedModel:
    rest = dict(architecture)
    config = AutoConfig.for_model(rest.pop("model_type"), **rest)
    model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)
    return drop_pooler(model, where="the saved retriever")


def _check_positions(cfg: RetrieverParams, encoder: PreTrainedModel) -> None:
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return
    problems = [
        Problem(f"`retriever.{key}`", f"must be at most the encoder's {positions} positions", str(getattr(cfg, key)))
        for key in ("max_context_tokens", "max_entity_tokens")
        if getattr(cfg, key) > positions
    ]
    if problems:
        raise ParamsError("Invalid parameters", problems)
