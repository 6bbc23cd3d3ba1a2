"""Sentences, and others that mean the same: which one belongs to which?"""

import itertools

SUBJECTS = (
    ("A farmer", "The old man who grows wheat"),
    ("The nurse", "A woman working in the hospital"),
    ("My neighbour", "The guy who lives next door"),
    ("An engineer", "Someone from the technical department"),
    ("The dog", "A small brown puppy"),
    ("The committee", "A group of elected members"),
    ("A child", "The little girl"),
    ("The teacher", "The person who gives lessons at school"),
    ("A sailor", "The man who works on the ship"),
    ("Our grandmother", "The mother of our father"),
    ("The police officer", "A cop"),
    ("A tourist", "The visitor from abroad"),
    ("The baker", "The man who makes bread"),
    ("A painter", "The artist with the brush"),
    ("The judge", "The lady who decides in court"),
    ("A student", "The young man at the university"),
)
EVENTS = (
    ("bought a new car last week", "has just got himself another vehicle"),
    ("was waiting for the train", "stood on the platform looking at the rails"),
    ("complained about the noise", "said that it was far too loud"),
    ("slept through the whole storm", "did not wake up in spite of the thunder"),
    ("wrote a long letter to the mayor", "sent several pages of criticism to the town hall"),
    ("cooked soup with beans and garlic", "prepared a vegetable stew for dinner"),
    ("lost the keys in the snow", "could not find what opens the door"),
    ("fell off the bicycle", "had an accident while riding a bike"),
    ("won a lot of money", "became rich in the lottery"),
    ("sang in the shower", "made music while washing"),
    ("crossed the river by boat", "got to the other bank of the stream on a ferry"),
    ("broke a window", "smashed the glass pane"),
    ("planted an apple tree", "put a fruit tree into the ground"),
    ("forgot the appointment", "did not remember the date of the meeting"),
    ("repaired the roof", "fixed the top of the house"),
    ("read the newspaper", "studied the daily press"),
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
