"""The signal store: sharded, memory-mapped, nothing padded.

Shards may be added one by one (the unit of resume); a store opens over whichever are complete. At K = 10 a token takes 48 bytes
(vocabulary up to 65,536) or 70; a sample takes 4 bytes and its id. This module is the one to import from.
"""

from models.fusion.shard_links import link_shards
from models.fusion.signal_record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals, SignalBatch, SignalKind, SignalSpec
from models.fusion.signal_shard import complete_shards, shard_path, write_shard
from models.fusion.signal_store import SignalStore

__all__ = [
    "PAD_LOGPROB",
    "TAIL_FLOOR",
    "SampleSignals",
    "SignalBatch",
    "SignalKind",
    "SignalSpec",
    "SignalStore",
    "complete_shards",
    "link_shards",
    "shard_path",
    "write_shard",
]
