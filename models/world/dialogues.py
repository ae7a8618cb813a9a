"""Generation of task-oriented dialogues about the town: goal, constraints, offers, questions and booking.

Retrieval is non-trivial: users paraphrase values, ask for another offer and return to the first, or begin with a name; a
context then mentions several entities of which only one is meant, and replies do not always name it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from models.schema import Split
from models.world import phrases as say
from models.world.town import AREAS, PRICES, Entity, World

# Shares of the dialogues: beginning with a name, or else with a wish that no entity fulfils; asking for another offer; booking.
_NAMED, _UNSATISFIABLE, _MORE, _BOOKING = 0.15, 0.15, 0.4, 0.35
# Share of these offers that miss one of the wishes where nothing else has them all.
_NEAR_MISS = 0.75
# Share of the values said in other words, and of the agent's questions that begin with how many there are.
_OTHER_WORDS, _COUNTED = 0.3, 0.4


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A user utterance with the agent's response.

    Attributes:
        user: Utterance of the user.
        response: The agent's answer.
        about: The entity of the response; None if the agent only asks, declines or says goodbye.
        attributes: The attributes of `about` whose values the response contains.
        dynamic: Results of a real-time query: `choice` (number of matching entities) or `ref` (of a booking).
    """

    user: str
    response: str
    about: Entity | None = None
    attributes: tuple[str, ...] = ()
    dynamic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpokenDialogue:
    """A dialogue: `said` are the user's constraints, attribute → value."""

    id: str
    goal: Entity
    said: Mapping[str, str]
    turns: tuple[SpokenTurn, ...]


@dataclass(slots=True)
class _Talk:
    """State of a dialogue being generated: the current goal entity, and the constraints the user has stated."""

    world: World
    goal: Entity
    rng: random.Random
    said: dict[str, str] = field(default_factory=dict)
    turns: list[SpokenTurn] = field(default_factory=list)

    def pick(self, sentences: Sequence[str]) -> str:
        return self.rng.choice(sentences)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def matches(self, said: Mapping[str, str]) -> list[Entity]:
        wanted = said.items()
        return [e for e in self.world.entities if e.type == self.goal.type and all(e.attributes[k] == v for k, v in wanted)]


def dialogue_splits(num_dialogues: int) -> dict[Split, range]:
    """Return the numbers of the dialogues of each split: 8:1:1, at least one each."""
    held_out = max(1, num_dialogues // 10)
    train = num_dialogues - 2 * held_out
    return {"train": range(train), "valid": range(train, train + held_out), "test": range(train + held_out, num_dialogues)}


def dialogues(world: World, numbers: range) -> Iterator[SpokenDialogue]:
    """Yield dialogues; each depends on the world and its own number only."""
    for number in numbers:
        rng = world.rng(f"dialogue/{number}")
        talk = _Talk(world, rng.choice(world.entities), rng)
        goal = talk.goal
        user = _name(talk) if talk.chance(_NAMED) else _search(talk)
        _offer(talk, user)
        if talk.said and talk.chance(_MORE):
            _another(talk)
        _request(talk)
        if goal.type != "museum" and talk.chance(_BOOKING):
            _book(talk)
        talk.turns.append(SpokenTurn(talk.pick(say.THANKS), talk.pick(say.GOODBYES)))
        yield SpokenDialogue(f"dialogue-{number:05d}", goal, talk.said, tuple(talk.turns))


def _name(talk: _Talk) -> str:
    """Begin with the name of the goal."""
    return talk.pick(say.NAMED).format(name=talk.goal.name)


def _search(talk: _Talk) -> str:
    """Narrow the search to the goal, or to entities with the same constraints; return the last user utterance."""
    rng, goal = talk.rng, talk.goal
    slots = ["area", "pricerange", goal.special]
    rng.shuffle(slots)
    first = slots[: rng.choice((1, 1, 2))]
    talk.said = {slot: goal.attributes[slot] for slot in first}
    user = talk.pick(say.OPENINGS).format(what=_description(talk, first))
    if talk.chance(_UNSATISFIABLE) and (unsatisfiable := _unsatisfiable(talk)):
        bare = _bare(goal.type, unsatisfiable)
        wish = talk.pick(say.OPENINGS).format(what=_with_article(bare))
        talk.turns.append(SpokenTurn(wish, say.NONE_LIKE_THAT.format(what=bare)))
        user = f"Then I would like {_description(talk, first)}."
    for slot in slots[len(first) :]:
        left = len(talk.matches(talk.said))
        if left == 1:
            break
        talk.turns.append(_question(talk, user, slot, left))
        talk.said[slot] = goal.attributes[slot]
        user = _answer(talk, slot)
    return user


def _question(talk: _Talk, user: str, slot: str, left: int) -> SpokenTurn:
    ask = talk.pick(say.ASKS[slot])
    if not talk.chance(_COUNTED):
        return SpokenTurn(user, ask, dynamic=_found(talk))
    counted = talk.pick(say.COUNTED).format(number=left, kind=talk.goal.type)
    return SpokenTurn(user, f"{counted} {ask}", dynamic=_found(talk))


def _found(talk: _Talk) -> dict[str, tuple[str, ...]]:
    """Return the number of entities that satisfy all constraints, whether or not the response mentions it."""
    return {"choice": (str(len(talk.matches(talk.said))),)} if talk.said else {}


def _answer(talk: _Talk, slot: str) -> str:
    value = talk.goal.attributes[slot]
    if talk.chance(_OTHER_WORDS):
        return talk.pick(say.OTHER_WORDS_ANSWERS).format(words=say.OTHER_WORDS[slot][value])
    return talk.pick(say.ANSWERS[slot]).format(value=value)


def _offer(talk: _Talk, user: str) -> None:
    response = talk.pick(say.OFFERS).format_map(_slots(talk.goal)).replace(" a expensive", " an expensive")
    talk.turns.append(SpokenTurn(user, response, talk.goal, ("name", "pricerange", "area", talk.goal.special), _found(talk)))


def _another(talk: _Talk) -> None:
    """Let the user ask for another offer and choose one of the two."""
    first = talk.goal
    others = [e for e in talk.matches(talk.said) if e is not first] or _near_miss(talk)
    if not others:
        response = talk.pick(say.ONLY_ONE).format(name=first.name)
        talk.turns.append(SpokenTurn(talk.pick(say.MORE), response, first, ("name",)))
        return
    other = talk.rng.choice(others)
    sentence = talk.pick(say.SECOND_OFFERS)
    held = ("name", "area" if "{area}" in sentence else other.special)
    talk.turns.append(SpokenTurn(talk.pick(say.MORE), sentence.format_map(_slots(other)), other, held))
    talk.goal = talk.rng.choice((first, other))


def _near_miss(talk: _Talk) -> list[Entity]:
    """Find the first entity, if any, that violates one constraint; in some dialogues nothing is found."""
    if not talk.chance(_NEAR_MISS):
        return []
    for slot in reversed(talk.said):
        said = {other: value for other, value in talk.said.items() if other != slot}
        if said and (found := [e for e in talk.matches(said) if e is not talk.goal]):
            return found[:1]
    return []


def _request(talk: _Talk) -> None:
    """Let the user ask about the chosen entity, one or two questions per turn."""
    rng, goal = talk.rng, talk.goal
    offered = list(dict.fromkeys(turn.about.id for turn in talk.turns if turn.about))
    # If two entities were offered, the user first says which one is chosen.
    choice = f"{talk.pick(say.CHOICES[offered.index(goal.id)])} " if len(offered) == 2 else ""
    asked = rng.sample(list(say.QUESTIONS), rng.choice((1, 2, 3)))
    while asked:
        now, asked = (asked[:2], asked[2:]) if rng.random() < 0.3 else (asked[:1], asked[1:])
        user = choice + " ".join(talk.pick(say.QUESTIONS[slot]) for slot in now)
        sentences = [talk.pick(say.REPLIES[slot]) for slot in now]
        named = ("name",) if any("{name}" in sentence for sentence in sentences) else ()
        response = " ".join(sentence.format_map(goal.attributes) for sentence in sentences)
        talk.turns.append(SpokenTurn(user, response, goal, (*named, *now)))
        choice = ""


def _book(talk: _Talk) -> None:
    ref = "".join(talk.rng.choice("abcdefghkmnpqrstuvwxyz23456789") for _ in range(6))
    user = talk.pick(say.BOOKINGS).format(people=talk.rng.choice(("two", "three", "four", "five", "six")))
    response = talk.pick(say.BOOKED).format(name=talk.goal.name, ref=ref)
    talk.turns.append(SpokenTurn(user, response, talk.goal, ("name",), {"ref": (ref,)}))


def _slots(entity: Entity) -> dict[str, str]:
    phrases = {slot: phrase.format_map(entity.attributes) for slot, phrase in say.PHRASES.items() if slot in entity.attributes}
    return {**entity.attributes, "area": phrases["area"], "special": phrases[entity.special]}


def _unsatisfiable(talk: _Talk) -> dict[str, str] | None:
    """Find an area and a price range that no entity of the type combines, if there are any."""
    pairs = [{"area": area, "pricerange": price} for area in AREAS for price in PRICES]
    free = [pair for pair in pairs if not talk.matches(pair)]
    return talk.rng.choice(free) if free else None


def _description(talk: _Talk, slots: Sequence[str]) -> str:
    """Describe the goal by some attributes, each by its value or a paraphrase."""
    values = {slot: talk.goal.attributes[slot] for slot in slots}
    other = [slot for slot in slots if talk.chance(_OTHER_WORDS)]
    plain = _bare(talk.goal.type, {slot: value for slot, value in values.items() if slot not in other})
    return _with_article(" ".join([plain, *(say.OTHER_WORDS[slot][values[slot]] for slot in other)]))


def _bare(kind: str, said: Mapping[str, str]) -> str:
    price = [said["pricerange"]] if "pricerange" in said else []
    return " ".join([*price, kind, *(say.PHRASES[slot].format_map(said) for slot in said if slot in say.PHRASES)])


def _with_article(bare: str) -> str:
    return f"{'an' if bare[0] in 'aeiou' else 'a'} {bare}"
