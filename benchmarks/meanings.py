"""Sentences, and others that mean the same: which one belongs to which?"""

import itertools

SUBJECTS = (
    ("A farmer", "The old man who grows wheat", "The peasant in the field"),
    ("The nurse", "A woman working in the hospital", "A nurse from the clinic"),
    ("My neighbour", "The guy who lives next door", "The people on the other side of the wall"),
    ("An engineer", "Someone from the technical department", "The expert for machines"),
    ("The dog", "A small brown puppy", "A hound"),
    ("The committee", "A group of elected members", "The council"),
    ("A child", "The little girl", "The kid"),
    ("The teacher", "The person who gives lessons at school", "A schoolmaster"),
    ("A sailor", "The man who works on the ship", "The seaman"),
    ("Our grandmother", "The mother of our father", "Granny"),
    ("The police officer", "A cop", "The policeman on duty"),
    ("A tourist", "The visitor from abroad", "Somebody on holiday here"),
    ("The baker", "The man who makes bread", "The owner of the bakery"),
    ("A painter", "The artist with the brush", "The woman who makes portraits"),
    ("The judge", "The lady who decides in court", "The magistrate"),
    ("A student", "The young man at the university", "A girl who goes to college"),
)
EVENTS = (
    (
        "bought a new car last week",
        "has just got himself another vehicle",
        "purchased an automobile recently",
    ),
    (
        "was waiting for the train",
        "stood on the platform looking at the rails",
        "expected the train to arrive soon",
    ),
    ("complained about the noise", "said that it was far too loud", "protested because it was so noisy"),
    (
        "slept through the whole storm",
        "did not wake up in spite of the thunder",
        "stayed asleep all through the tempest",
    ),
    (
        "wrote a long letter to the mayor",
        "sent several pages of criticism to the town hall",
        "addressed a lengthy message to the mayor",
    ),
    (
        "cooked soup with beans and garlic",
        "prepared a vegetable stew for dinner",
        "made a garlic and bean soup",
    ),
    (
        "lost the keys in the snow",
        "could not find what opens the door",
        "dropped the keys somewhere in the snow",
    ),
    ("fell off the bicycle", "had an accident while riding a bike", "tumbled from a bike"),
    ("won a lot of money", "became rich in the lottery", "got a fortune in a game of chance"),
    ("sang in the shower", "made music while washing", "was singing under the shower"),
    ("crossed the river by boat", "got to the other bank of the stream on a ferry", "rowed across the river"),
    ("broke a window", "smashed the glass pane", "shattered a pane of the window"),
    ("planted an apple tree", "put a fruit tree into the ground", "set a young apple tree in the garden"),
    (
        "forgot the appointment",
        "did not remember the date of the meeting",
        "missed a meeting that had been arranged",
    ),
    ("repaired the roof", "fixed the top of the house", "mended the leaking roof"),
    ("read the newspaper", "studied the daily press", "looked through the morning paper"),
)


def meanings() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """One sentence for each meaning, and all others; each with the number of what it means."""
    known: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    for number, (subjects, events) in enumerate(itertools.product(SUBJECTS, EVENTS)):
        first, *rest = (f"{subject} {event}." for subject, event in itertools.product(subjects, events))
        known.append((first, number))
        others += [(said, number) for said in rest]
    return known, others
