"""How a corpus is cut into shards, the unit of resume."""

Shards = list[tuple[int, int]]


def shards_of(total: int, size: int) -> Shards:
    """Return (start, stop) of every shard."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def shard_name(index: int) -> str:
    """Return the folder name of a shard."""
    return f"shard-{index:05d}"
