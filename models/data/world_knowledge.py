"""Family `knowledge`: facts of the town's entities, each asked in several ways."""

from collections.abc import Iterator, Mapping

from models.data.world import AREAS, PRICES, SPECIAL, World
from models.data.world_item import Item

PHRASINGS: Mapping[str, tuple[str, ...]] = {
    "area": (
        "Where in town is {name}?",
        "Which area is {name} in?",
        "In what part of town is {name}?",
        "Tell me the area of {name}.",
        "I look for {name}. Which area?",
        "What is the area of {name}?",
        "{name}: which part of town?",
        "Name the area where {name} stands.",
    ),
    "pricerange": (
        "What does {name} cost?",
        "How are the prices at {name}?",
        "Is {name} cheap or expensive?",
        "Tell me the prices of {name}.",
        "I look at {name}. Which price range?",
        "What is the price range of {name}?",
        "{name}: cheap, moderate or expensive?",
        "Name the price range of {name}.",
    ),
    "food": (
        "What food does {name} serve?",
        "What can I eat at {name}?",
        "Which food is served at {name}?",
        "Tell me the food of {name}.",
        "I eat at {name}. Which food?",
        "What is the food of {name}?",
        "{name}: what food?",
        "Name the food that {name} serves.",
    ),
    "stars": (
        "How many stars has {name}?",
        "Which stars does {name} have?",
        "How good is {name} in stars?",
        "Tell me the stars of {name}.",
        "I sleep at {name}. How many stars?",
        "What are the stars of {name}?",
        "{name}: how many stars?",
        "Name the number of stars of {name}.",
    ),
    "exhibit": (
        "What does {name} show?",
        "What can I see at {name}?",
        "Which things are shown at {name}?",
        "Tell me the exhibits of {name}.",
        "I visit {name}. What is there?",
        "What are the exhibits of {name}?",
        "{name}: what is on show?",
        "Name the exhibits that {name} has.",
    ),
}

_SIMPLE: Mapping[str, str] = {
    "area": "In the {area}.",
    "pricerange": "It is {pricerange}.",
    "food": "It serves {food}.",
    "stars": "It has {stars} stars.",
    "exhibit": "It shows {exhibit}.",
}

_DETAILED: Mapping[str, str] = {
    "area": "{name} is a {type} in the {area} of {town}.",
    "pricerange": "As a {type}, {name} has {pricerange} prices.",
    "food": "The cooks at {name} in {town} serve {food}.",
    "stars": "{name} in {town} is rated with {stars} stars.",
    "exhibit": "The rooms of {name} in {town} show {exhibit}.",
}


def knowledge_items(world: World) -> Iterator[Item]:
    """Yield every fact in every phrasing; an item's key names the fact."""
    for entity in world.entities:
        for attribute in ("area", "pricerange", entity.special):
            slots = {**entity.attributes, "town": world.town}
            right = entity.attributes[attribute]
            for phrasing in PHRASINGS[attribute]:
                yield Item(
                    prompt=phrasing.format_map(slots),
                    key=f"{entity.id}/{attribute}",
                    simple=_SIMPLE[attribute].format_map(slots),
                    detailed=_DETAILED[attribute].format_map(slots),
                    answer=right,
                    check="contains",
                    distractors=tuple(v for v in _values(attribute) if v != right),
                )


def _values(attribute: str) -> tuple[str, ...]:
    if attribute == "area":
        return AREAS
    if attribute == "pricerange":
        return PRICES
    return next(values for special, values in SPECIAL.values() if special == attribute)
