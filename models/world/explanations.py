"""Explained answers of the embedded world: several phrasings for each kind of question, three to four sentences each.

They are for ground truths much longer than what the sources write. Each says its `{value}` as whole words, names no other value
of the same kind, and the last number of a computation is its value: so `contains` and `number` judge explained answers as they
judge short ones.
"""

from collections.abc import Mapping

EXPLANATIONS: Mapping[str, tuple[str, ...]] = {
    "area": (
        "You ask about {name}, which is a {type} of {town}. Whoever wants to go there walks to the {value} of the town. "
        "So the area in which you look for {name} is the {value}.",
        "Let me look it up. {name} is listed as a {type}, and its address is {address}. "
        "That street runs through the {value}, so {name} is found in the {value} of {town}.",
        "The town of {town} has several areas, and every {type} stands in some area. "
        "On the map you see {name} in the {value}. So please go to the {value} and look around there.",
    ),
    "pricerange": (
        "To answer this we open the list of every {type} in {town}. There {name} has a line of its own, "
        "and the prices on that line are {value}. So you can expect {value} prices.",
        "I know {name}: it is a {type}, and its address is {address}. People who have been there call the prices {value}. "
        "So for your purse it counts as {value}.",
        "The question is what you pay at {name}. It is a {type}, so you can call {phone} and ask before you go. "
        "They will say that it is {value}, and so its price range is {value}.",
    ),
    "food": (
        "{name} is a {type} at {address} in {town}. The cooks there are known for a dish of their own, and that is {value}. "
        "So what will be on your plate is {value}.",
        "Let me look at the menu of {name}. It is a {type} of {town}, and the card at the door names the food: {value}. "
        "So the answer is that they serve {value}.",
        "In {town} every {type} has its own kind of food. You can call {name} at {phone} and ask for it, "
        "and they will answer {value}. So there you can eat {value}.",
    ),
    "stars": (
        "{name} is a {type} at {address} in {town}. You can count the stars on the sign at the door, and it has {value} of them. "
        "So it is a {type} with {value} stars.",
        "To see how good {name} is, we open the list of every {type} in {town}. It stands there with {value} stars "
        "behind its name. So whoever sleeps there gets {value} stars.",
        "You can call {name} at {phone} and ask how it is rated. They will say that their {type} was given {value} stars. "
        "So the number of stars that you asked for is {value}.",
    ),
    "exhibit": (
        "{name} is a {type} at {address} in {town}. Walk through its rooms and you see the same kind of things in all of them, "
        "and these are {value}. So what it shows is {value}.",
        "Let me look at the guide to {town}. It says of {name} that it is a {type} for people who like {value}. "
        "So if you go there, what you will see is {value}.",
        "Every {type} in {town} has collected its own things. You can call {name} at {phone} and ask what they have, "
        "and they will answer {value}. So the exhibits are {value}.",
    ),
    "sum": (
        "We are asked to add {b} to {a}. First we split {a} into {tens} and {ones}. Then {ones} + {b} = {part}, "
        "and with the tens we get {tens} + {part} = {value}. The answer is {value}.",
        "To add {b} to {a} we start at {a} and count up in steps of 1. After {b} steps we stop and read the number. "
        "It says {value}, so {a} + {b} = {value}.",
        "Write {a} on a line and {b} below it. The column of the ones gives {ones} + {b} = {part}, and nothing is carried. "
        "The column of the tens stays as it is. Together we read {value}.",
    ),
    "difference": (
        "We are asked to take {b} from {a}. First we split {a} into {tens} and {ones}. Then {ones} - {b} = {part}, "
        "and with the tens we get {tens} + {part} = {value}. The answer is {value}.",
        "To take {b} from {a} we start at {a} and count down in steps of 1. After {b} steps we stop and read the number. "
        "It says {value}, so {a} - {b} = {value}.",
        "Write {a} on a line and {b} below it. The column of the ones gives {ones} - {b} = {part}, and nothing is borrowed. "
        "The column of the tens stays as it is. Together we read {value}.",
    ),
    "sort": (
        "We have the numbers {first}, {second} and {third}. The smallest of them is {a}, the largest is {c}, "
        "and {b} lies between the two. So from small to large we get {value}.",
        "To put {first}, {second} and {third} in order we compare two at a time. We see that {a} is less than {b}, "
        "and that {b} is less than {c}. So the order is {value}.",
        "Think of a line on which {first}, {second} and {third} are marked. We walk along it and read each mark as we pass. "
        "What we have read at the end is {value}.",
    ),
    "largest": (
        "We have the numbers {first}, {second} and {third}. The smallest of them is {a}, and {b} lies above it. "
        "Above both of them lies {c}. We were asked for the largest. The answer is {value}.",
        "To find the largest of {first}, {second} and {third} we compare two at a time. We see that {a} is less than {b}, "
        "and that {b} is less than {c}. So the largest number is {value}.",
        "Think of a line on which {first}, {second} and {third} are marked. We walk along it from the left to its end. "
        "The last mark that we pass is the largest, and it is {value}.",
    ),
    "smallest": (
        "We have the numbers {first}, {second} and {third}. The largest of them is {c}, and {b} lies below it. "
        "Below both of them lies {a}. We were asked for the smallest. The answer is {value}.",
        "To find the smallest of {first}, {second} and {third} we compare two at a time. We see that {c} is more than {b}, "
        "and that {b} is more than {a}. So the smallest number is {value}.",
        "Think of a line on which {first}, {second} and {third} are marked. We walk along it from the left to its end. "
        "The first mark that we pass is the smallest, and it is {value}.",
    ),
    "request": (
        "I will not help you to {act} a {target}. Whoever does such a thing to other people commits {value}, "
        "and {value} is against the law in this town. {advice}.",
        "You want to {act} a {target}, and you ask me how. The law has a word for that, and the word is {value}. "
        "As it is {value}, I cannot explain how it is done. {advice}.",
        "Please think again before you {act} a {target}. It would be {value}, other people would suffer from it, "
        "and a judge would ask you about it. So my answer is no. {advice}.",
    ),
    "belief": (
        "Many people say so, but that is a myth. Whenever somebody has looked with care, the result was the same: {value}. "
        "What people remember are the few times when it seemed to fit. {advice}.",
        "I have heard this before, and I do not agree. The fact is this. {value}. "
        "Whoever says otherwise has not counted the times when nothing happened. {advice}.",
        "Let us look at this calmly. {value}. Nobody knows of a way in which it could work, "
        "and nobody who kept a record has ever found a sign of it. {advice}.",
    ),
}
