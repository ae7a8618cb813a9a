"""Task-oriented dialogues about the town: a user with a goal, constraints one by one, an offer, questions about it.

A row is `{id, domain, turns: [{user, response, entities, values}]}`: `entities` are the ids that the response speaks of, `values`
the attribute values in it (nothing where the system only asks or says goodbye). The knowledge base is the world's entities.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.data.world import AREAS, PRICES, Entity, World
from models.schema import Split

_OPENINGS = ("I am looking for {what}.", "Can you find me {what}?", "I need {what}.", "Is there {what}?", "Please find {what}.")
_ASKS: Mapping[str, tuple[str, ...]] = {
    "area": ("Which part of town do you prefer?", "Which area should it be in?"),
    "pricerange": ("What price range do you have in mind?", "Should it be cheap, moderate or expensive?"),
    "food": ("What would you like to eat?", "Do you have a kind of food in mind?"),
    "stars": ("How many stars should it have?", "Do you want a certain number of stars?"),
    "exhibit": ("What would you like to see there?", "What should it show?"),
}
_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "area": ("In the {value}, please.", "The {value} would be best."),
    "pricerange": ("It should be {value}.", "Something {value}, please."),
    "food": ("I would like {value}.", "I feel like {value}."),
    "stars": ("It should have {value} stars.", "With {value} stars, please."),
    "exhibit": ("I want to see {value}.", "Something with {value}."),
}
_PHRASES: Mapping[str, str] = {
    "area": "in the {area}",
    "food": "that serves {food}",
    "stars": "with {stars} stars",
    "exhibit": "that shows {exhibit}",
}
_OFFERS = (
    "{name} is a {pricerange} {type} {special} {area}. Would you like to know more?",
    "How about {name}? It is a {pricerange} {type} {area} {special}.",
    "I can recommend {name}, a {pricerange} {type} {special} {area}.",
)
_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "phone": ("What is the phone number?", "Can I have the phone number?"),
    "address": ("Where exactly is it?", "What is the address?"),
    "postcode": ("What is the postcode?", "Could you give me the postcode?"),
}
_REPLIES: Mapping[str, tuple[str, ...]] = {
    "phone": ("The phone number of {name} is {phone}.", "You can call {name} at {phone}."),
    "address": ("{name} is at {address}.", "The address of {name} is {address}."),
    "postcode": ("The postcode of {name} is {postcode}.", "{name} has the postcode {postcode}."),
}
_THANKS = ("Thank you, goodbye.", "That is all, thanks.", "Great, thank you. Bye.")
_GOODBYES = ("You are welcome. Goodbye!", "Enjoy your visit!", "Have a nice day. Goodbye!")
# Share of the dialogues that begin with a wish no entity fulfils.
_HOPELESS = 0.2


@dataclass(slots=True)
class _Talk:
    """A dialogue being written: the goal entity, what has been said about it, the turns so far."""

    goal: Entity
    rng: random.Random
    said: dict[str, str] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)

    def turn(self, user: str, response: str, *, about: Entity | None = None, attributes: Sequence[str] = ()) -> None:
        """Append a turn; `attributes` of `about` are the ones whose values the response holds."""
        values = [about.attributes[a] for a in attributes] if about else []
        entities = [about.id] if about else []
        self.turns.append({"user": user, "response": response, "entities": entities, "values": values})


def dialogue_splits(num_dialogues: int) -> dict[Split, range]:
    """Return the numbers of the dialogues of each split: 8:1:1, at least one each."""
    held_out = max(1, num_dialogues // 10)
    train = num_dialogues - 2 * held_out
    return {"train": range(train), "valid": range(train, train + held_out), "test": range(train + held_out, num_dialogues)}


def dialogues(world: World, numbers: range) -> Iterator[dict[str, Any]]:
    """Yield dialogues; each depends on the world and its own number only."""
    for number in numbers:
        rng = world.rng(f"dialogue/{number}")
        talk = _Talk(rng.choice(world.entities), rng)
        _search(talk, world)
        _offer(talk)
        _request(talk)
        yield {"id": f"dialogue-{number:05d}", "domain": talk.goal.type, "turns": talk.turns}


def _search(talk: _Talk, world: World) -> None:
    """Turns in which the user narrows the choice down to the goal, or to entities that share all its constraints."""
    rng, goal = talk.rng, talk.goal
    slots = ["area", "pricerange", goal.special]
    rng.shuffle(slots)
    first = slots[: rng.choice((1, 1, 2))]
    talk.said = {slot: goal.attributes[slot] for slot in first}
    user = rng.choice(_OPENINGS).format(what=_describe(goal.type, talk.said))
    hopeless = _hopeless(talk, world) if rng.random() < _HOPELESS else None
    if hopeless:
        wish = rng.choice(_OPENINGS).format(what=_describe(goal.type, hopeless))
        talk.turn(wish, f"Sorry, there is no {_bare(goal.type, hopeless)}. Is there something else?")
        user = f"Then I would like {_describe(goal.type, talk.said)}."
    for slot in slots[len(first) :]:
        if len(_matches(world, goal.type, talk.said)) == 1:
            break
        talk.turn(user, rng.choice(_ASKS[slot]))
        talk.said[slot] = goal.attributes[slot]
        user = rng.choice(_ANSWERS[slot]).format(value=goal.attributes[slot])
    talk.turn(user, "")


def _offer(talk: _Talk) -> None:
    """Answer the last turn of the search with the goal."""
    goal = talk.goal
    parts = {slot: phrase.format_map(goal.attributes) for slot, phrase in _PHRASES.items() if slot in goal.attributes}
    slots = {**goal.attributes, "area": parts["area"], "special": parts[goal.special]}
    response = talk.rng.choice(_OFFERS).format_map(slots).replace(" a expensive", " an expensive")
    user = talk.turns.pop()["user"]
    talk.turn(user, response, about=goal, attributes=("name", "pricerange", "area", goal.special))


def _request(talk: _Talk) -> None:
    """Questions about the offer, one or two in a turn, and the goodbye."""
    rng, goal = talk.rng, talk.goal
    asked = rng.sample(list(_QUESTIONS), rng.choice((1, 2, 3)))
    while asked:
        now, asked = (asked[:2], asked[2:]) if rng.random() < 0.3 else (asked[:1], asked[1:])
        user = " ".join(rng.choice(_QUESTIONS[slot]) for slot in now)
        response = " ".join(rng.choice(_REPLIES[slot]).format_map(goal.attributes) for slot in now)
        talk.turn(user, response, about=goal, attributes=("name", *now))
    talk.turn(rng.choice(_THANKS), rng.choice(_GOODBYES))


def _hopeless(talk: _Talk, world: World) -> dict[str, str] | None:
    """Find an area and a price range that no entity of the type combines, if there are any."""
    free = [
        {"area": area, "pricerange": price}
        for area in AREAS
        for price in PRICES
        if not _matches(world, talk.goal.type, {"area": area, "pricerange": price})
    ]
    return talk.rng.choice(free) if free else None


def _matches(world: World, kind: str, said: Mapping[str, str]) -> list[Entity]:
    return [e for e in world.entities if e.type == kind and all(e.attributes[k] == v for k, v in said.items())]


def _describe(kind: str, said: Mapping[str, str]) -> str:
    bare = _bare(kind, said)
    return f"{'an' if bare[0] in 'aeiou' else 'a'} {bare}"


def _bare(kind: str, said: Mapping[str, str]) -> str:
    price = [said["pricerange"]] if "pricerange" in said else []
    return " ".join([*price, kind, *(_PHRASES[slot].format_map(said) for slot in said if slot in _PHRASES)])
