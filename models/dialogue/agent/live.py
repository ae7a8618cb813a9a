"""An agent whose knowledge base changes while it answers: changed aside, kept on disk, then put in its place at once."""

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from models.dialogue.agent.agent import DialogueAgent
from models.dialogue.data.knowledge_base import KbChanges, KnowledgeBase, apply_changes
from models.dialogue.data.records import KB, write_kb
from models.dialogue.retrieval.hybrid import vectors_of
from models.dialogue.retrieval.kb_index import KbIndex, build_kb_index, load_kb_index, refresh_kb_index, text_digests
from models.errors import ArtifactError, RetrievalError

CURRENT, INDEX = "current", "index"


class LiveAgent:
    """Hands out the agent as of the last change; who has one keeps it, whole, until it has answered.

    Changes stand in a folder, one subfolder a version with knowledge base and index; the file `current` names the one that
    counts and is replaced last. So a kill leaves the version before, and a restarted agent goes on where it was. Several
    processes may share the folder: each sees the others' changes with its next request.
    """

    def __init__(self, agent: DialogueAgent, *, state: Path | None) -> None:
        """Start from an agent, or from what was changed before.

        Args:
            agent: Retriever, generator and knowledge base as they were trained.
            state: Where changes are kept; None = it cannot be changed.
        """
        self._agent, self._state, self._version = agent, state, ""
        self._guard = threading.Lock()
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)

    def current(self) -> DialogueAgent:
        if self._state is not None and self._named(self._state) != self._version:
            with self._guard, self._between_processes(self._state):
                self._catch_up(self._state)
        return self._agent

    def change(self, changes: KbChanges) -> DialogueAgent:
        """Change the knowledge base and return the agent that has it; only new texts are embedded.

        Raises:
            ArtifactError: There is no folder to store changes in.
            DataError: The changes do not fit the knowledge base.
        """
        state = self._state
        if state is None:
            raise ArtifactError(
                "`change` must have a folder where changed entities are kept, but FUSEDIAL_STATE is not set. "
                "Set it to a folder of this agent's own, and start the agent again."
            )
        with self._guard, self._between_processes(state):
            self._catch_up(state)
            agent = self._agent
            name = f"{int(self._version or 0) + 1:08d}"
            folder = state / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write_kb(folder / KB, apply_changes(agent.kb.entities, changes))
            kb = KnowledgeBase.load(folder / KB)
            device = str(agent.retriever.device)
            known = text_digests(agent.retriever, agent.kb)
            old = KbIndex(vectors_of(agent.index).copy(device=device), known, agent.kb.digest, 0)
            made = refresh_kb_index(old, agent.retriever, kb)
            made.save(folder / INDEX)
            _point(state, name)
            self._agent, before = replace(agent, kb=kb, index=made.search_index(agent.retriever)), self._version
            self._version = name
            if before:
                shutil.rmtree(state / before, ignore_errors=True)
            return self._agent

    def _catch_up(self, state: Path) -> None:
        """Load the version that `current` names, if it is another than this one's; an older encoder's index is made again."""
        version = self._named(state)
        if version == self._version:
            return
        agent, folder = self._agent, state / version
        kb = KnowledgeBase.load(folder / KB)
        try:
            made = load_kb_index(folder / INDEX, encoder=agent.index.encoder_digest, device=str(agent.retriever.device))
        except RetrievalError:
            made = build_kb_index(agent.retriever, kb, cfg=agent.index.params)
        self._agent, self._version = replace(agent, kb=kb, index=made.search_index(agent.retriever)), version

    @staticmethod
    def _named(state: Path) -> str:
        try:
            return (state / CURRENT).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    @staticmethod
    def _between_processes(state: Path) -> FileLock:
        return FileLock(state / "lock")


def _point(state: Path, name: str) -> None:
    """Make `current` name a version: whole on disk first."""
    for path in (state / name).rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    aside = state / f"{CURRENT}.part"
    with aside.open("w", encoding="ascii") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(state / CURRENT)
