"""Sentence templates of user and agent in the embedded dialogues, and paraphrases of the values.

`{what}` is a description such as "a cheap hotel in the north", `{kind}` a type, `{name}`, `{phone}` and so on attributes.
"""

from collections.abc import Mapping

OPENINGS = ("I am looking for {what}.", "Can you find me {what}?", "I need {what}.", "Is there {what}?", "Please find {what}.")
NAMED = ("Do you know {name}?", "Can you tell me about {name}?", "Someone told me to try {name}. What is it like?")
ASKS: Mapping[str, tuple[str, ...]] = {
    "area": ("Which part of town do you prefer?", "Which area should it be in?"),
    "pricerange": ("What price range do you have in mind?", "How much would you like to spend?"),
    "food": ("What would you like to eat?", "Do you have a kind of food in mind?"),
    "stars": ("How many stars should it have?", "Do you want a certain number of stars?"),
    "exhibit": ("What would you like to see there?", "What should it show?"),
}
COUNTED = ("I have {number} {kind}s like that.", "There are {number} {kind}s to choose from.")
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "area": ("In the {value}, please.", "The {value} would be best."),
    "pricerange": ("It should be {value}.", "Something {value}, please."),
    "food": ("I would like {value}.", "I feel like {value}."),
    "stars": ("It should have {value} stars.", "With {value} stars, please."),
    "exhibit": ("I want to see {value}.", "Something with {value}."),
}
OTHER_WORDS_ANSWERS = ("Somewhere {words}, please.", "Make it one {words}.", "I would rather have one {words}.")
# After the noun: "a hotel in the north".
PHRASES: Mapping[str, str] = {
    "area": "in the {area}",
    "food": "that serves {food}",
    "stars": "with {stars} stars",
    "exhibit": "that shows {exhibit}",
}
# A user does not always say the value: these must be learned, or known, to find the entity. After the noun, too.
OTHER_WORDS: Mapping[str, Mapping[str, str]] = {
    "area": {
        "north": "up by the mill",
        "south": "down by the harbour",
        "east": "beyond the bridge",
        "west": "behind the park",
        "centre": "right at the market square",
    },
    "pricerange": {
        "cheap": "that does not cost much",
        "moderate": "at a fair price",
        "expensive": "that is really fancy",
    },
    "food": {
        "noodles": "for a bowl of ramen",
        "curry": "for something spicy",
        "pies": "for something baked",
        "soup": "for a hot broth",
        "fish": "for the catch of the day",
        "salads": "for something green",
        "pizza": "for a margherita",
        "grill": "for a steak",
    },
    "stars": {
        "two": "with plain rooms",
        "three": "with good rooms",
        "four": "with very good rooms",
        "five": "with every luxury",
    },
    "exhibit": {
        "clocks": "about how time is told",
        "coins": "about old money",
        "maps": "about how the world was charted",
        "masks": "about carnival faces",
        "trains": "about the railway",
        "ships": "about sailing",
        "stones": "about minerals",
        "toys": "about what children played with",
    },
}
NONE_LIKE_THAT = "Sorry, there is no {what}. Is there something else?"
OFFERS = (
    "{name} is a {pricerange} {type} {special} {area}. Would you like to know more?",
    "How about {name}? It is a {pricerange} {type} {area} {special}.",
    "I can recommend {name}, a {pricerange} {type} {special} {area}.",
)
MORE = ("Is there another one?", "Do you have something else like that?", "What else is there?")
SECOND_OFFERS = ("There is also {name}, {area}.", "Another one is {name}, {special}.", "You could try {name} instead, {area}.")
ONLY_ONE = ("No, {name} is the only one.", "Sorry, there is only {name}.")
CHOICES = (
    ("Then I prefer the first one.", "Let us go back to the first one."),
    ("The second one sounds good.", "I take the second one."),
)
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "phone": ("What is the phone number?", "Can I have the phone number?", "How can I call them?"),
    "address": ("Where exactly is it?", "What is the address?", "Which street is it in?"),
    "postcode": ("What is the postcode?", "Could you give me the postcode?"),
}
REPLIES: Mapping[str, tuple[str, ...]] = {
    "phone": ("The phone number of {name} is {phone}.", "You can call {name} at {phone}.", "Their number is {phone}."),
    "address": ("{name} is at {address}.", "The address of {name} is {address}.", "You find it at {address}."),
    "postcode": ("The postcode of {name} is {postcode}.", "{name} has the postcode {postcode}.", "It is {postcode}."),
}
BOOKINGS = ("Please book it for {people} people.", "Can you make a reservation for {people}?")
BOOKED = ("{name} is booked. Your reference number is {ref}.", "Done, the reference for {name} is {ref}.")
THANKS = ("Thank you, goodbye.", "That is all, thanks.", "Great, thank you. Bye.")
GOODBYES = ("You are welcome. Goodbye!", "Enjoy your visit!", "Have a nice day. Goodbye!")
