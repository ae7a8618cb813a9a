"""Generation of the embedded world, an invented town with restaurants, hotels and museums.

Everything follows from a seed through `random.Random` with string seeds, so the same seed gives the same bytes on every
platform. Names are made of syllables; no text comes from elsewhere. The entities serve the instruction families
(`world_knowledge`, `world_reasoning`, `world_safety`) and the dialogues (`world_dialogues`).
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

AREAS = ("north", "south", "east", "west", "centre")
PRICES = ("cheap", "moderate", "expensive")
# What only one type of entity has: attribute → its values.
SPECIAL: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "restaurant": ("food", ("noodles", "curry", "pies", "soup", "fish", "salads", "pizza", "grill")),
    "hotel": ("stars", ("two", "three", "four", "five")),
    "museum": ("exhibit", ("clocks", "coins", "maps", "masks", "trains", "ships", "stones", "toys")),
}
TYPES = tuple(SPECIAL)
_SURNAMES: Mapping[str, tuple[str, ...]] = {
    "restaurant": ("Kitchen", "Table", "Bistro"),
    "hotel": ("Inn", "Lodge", "Rooms"),
    "museum": ("Museum", "Hall", "Gallery"),
}
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kl", "pl", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "", "l", "m", "n", "r", "s")


@dataclass(frozen=True, slots=True)
class Entity:
    """A venue of the town.

    Attributes:
        id: Stable identity, such as `hotel-03`.
        type: `restaurant`, `hotel` or `museum`.
        attributes: Attribute → value, all text, in the same order for every entity of a type: name, type, area,
            pricerange, the special one (food, stars or exhibit), address, postcode, phone.
    """

    id: str
    type: str
    attributes: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the venue, unique in the world."""
        return self.attributes["name"]

    @property
    def special(self) -> str:
        """Name of the attribute specific to this type."""
        return SPECIAL[self.type][0]

    def to_json(self) -> dict[str, str]:
        """Return one flat row of the knowledge base."""
        return {"id": self.id, **self.attributes}


@dataclass(frozen=True, slots=True)
class World:
    """A town: its name and its entities."""

    seed: int
    town: str
    entities: tuple[Entity, ...]

    def rng(self, purpose: str) -> random.Random:
        """Return a generator that depends on the world's seed and `purpose` only."""
        return random.Random(f"world/{self.seed}/{purpose}")


def build_world(seed: int, *, num_entities: int) -> World:
    """Generate a town with `num_entities` entities, cycling through the types."""
    rng = random.Random(f"world/{seed}/entities")
    words = _new_words(rng)
    town = next(words)
    streets = [f"{next(words)} Street" for _ in range(max(4, num_entities // 4))]
    lowest = 10 ** max(3, len(str(num_entities)))
    phones = rng.sample(range(lowest, 10 * lowest), num_entities)
    entities = []
    for number in range(num_entities):
        kind = TYPES[number % len(TYPES)]
        special, values = SPECIAL[kind]
        attributes = {
            "name": f"{next(words)} {rng.choice(_SURNAMES[kind])}",
            "type": kind,
            "area": rng.choice(AREAS),
            "pricerange": rng.choice(PRICES),
            special: rng.choice(values),
            "address": f"{rng.randrange(2, 60)} {rng.choice(streets)}",
            "postcode": f"{town[:2].lower()}{rng.randrange(1, 10)} {rng.randrange(1, 10)}{rng.choice('abcdefgh')}",
            "phone": str(phones[number]),
        }
        entities.append(Entity(f"{kind}-{number // len(TYPES):02d}", kind, attributes))
    return World(seed, town, tuple(entities))


def _new_words(rng: random.Random) -> Iterator[str]:
    """Yield distinct pronounceable capitalised words; longer ones once the short ones run out."""
    seen: set[str] = set()
    tries, syllables = 0, 2
    while True:
        parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)]
        word = "".join(parts).capitalize()
        tries += 1
        if tries > 20_000:
            tries, syllables = 0, syllables + 1
        if word not in seen and len(word) <= 3 * syllables:
            seen.add(word)
            yield word
