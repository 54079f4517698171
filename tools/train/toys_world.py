"""The toy world that the toy text models know: people put coloured things into containers, give them
away, take them, like them, and walk to places.

A fact is a tuple such as ("put", "Anna", "red ball", "box").  Every fact can be told in several ways,
has claims that follow from it, that contradict it or that it says nothing about, and questions with an
answer that stands in the text.  All texts are made of these; nothing is copied from anywhere.

One fact in eight is held out, by a checksum of its words.  No text that a model learns from tells a
held-out fact, and every example of a test is about one.
"""

import random
import zlib

PEOPLE = "Anna Ben Clara David Emma Felix Grace Henry".split()
COLOURS = "red blue green yellow black white".split()
OBJECTS = "ball book cup hat key apple pen ring coat lamp".split()
CONTAINERS = "box bag basket drawer jar".split()
PLACES = "kitchen garden school office park library".split()
TELLING = {
    "put": ["{0} put the {1} in the {2}.", "{0} placed the {1} in the {2}.", "{0} hid the {1} in the {2}."],
    "go": ["{0} went to the {1}.", "{0} walked to the {1}.", "{0} ran to the {1}."],
    "give": ["{0} gave the {1} to {2}.", "{0} handed the {1} to {2}."],
    "take": ["{0} took the {1} from the {2}.", "{0} got the {1} out of the {2}."],
    "like": ["{0} likes the {1}.", "{0} loves the {1}.", "{0} is fond of the {1}."],
}
# A claim, asserted and denied.
CLAIMS = {
    "in": ("The {0} is in the {1}.", "The {0} is not in the {1}."),
    "at": ("{0} is in the {1}.", "{0} is not in the {1}."),
    "has": ("{0} has the {1}.", "{0} does not have the {1}."),
    "likes": ("{0} likes the {1}.", "{0} does not like the {1}."),
}
QUESTIONS = {
    "put": [
        ("Where is the {1}?", "in the {2}"),
        ("Who put the {1} in the {2}?", "{0}"),
        ("What did {0} put in the {2}?", "the {1}"),
        ("What is in the {2}?", "the {1}"),
    ],
    "go": [("Where is {0}?", "the {1}"), ("Where did {0} go?", "the {1}"), ("Who went to the {1}?", "{0}")],
    "give": [
        ("Who has the {1}?", "{2}"),
        ("Who gave the {1} to {2}?", "{0}"),
        ("What did {0} give to {2}?", "the {1}"),
    ],
    "take": [
        ("Who has the {1}?", "{0}"),
        ("Who took the {1}?", "{0}"),
        ("What did {0} take?", "the {1}"),
    ],
    "like": [("Who likes the {1}?", "{0}"), ("What does {0} like?", "the {1}")],
}
LABELS = ["entailment", "neutral", "contradiction"]
KINDS = list(TELLING)


def held_out(fact):
    return zlib.crc32(" ".join(fact).encode()) % 8 == 0


class World:
    """Draws texts.  `test` draws tests: what is asked about is held out; else nothing held out is told.
    `easy` texts tell one fact."""

    def __init__(self, seed, test=False, easy=False):
        self.draw = random.Random(seed)
        self.test = test
        self.easy = easy

    def other(self, words, *but):
        return self.draw.choice([word for word in words if word not in but])

    def thing(self):
        return f"{self.draw.choice(COLOURS)} {self.draw.choice(OBJECTS)}"

    def near(self, thing, taken):
        """Another thing of the same colour or the same kind, or any, that no fact speaks of."""
        while True:
            colour, kind = thing.split()
            which = self.draw.random()
            if which < 0.8:
                if which < 0.4:
                    colour = self.other(COLOURS, colour)
                else:
                    kind = self.other(OBJECTS, kind)
                near = f"{colour} {kind}"
            else:
                near = self.thing()
            if near not in taken:
                return near

    def fact(self, held=False):
        while True:
            kind = self.draw.choice(KINDS)
            person = self.draw.choice(PEOPLE)
            if kind == "go":
                fact = (kind, person, self.draw.choice(PLACES))
            elif kind == "give":
                fact = (kind, person, self.thing(), self.other(PEOPLE, person))
            elif kind == "like":
                fact = (kind, person, self.thing())
            else:
                fact = (kind, person, self.thing(), self.draw.choice(CONTAINERS))
            if held_out(fact) == held:
                return fact

    def facts(self, count):
        """Some facts that do not get in each other's way, the first of them the one to ask about; told in
        any order: no thing, container, place or receiver occurs twice, nobody does the same twice."""
        facts, things = [self.fact(self.test)], []
        count = 1 if self.easy else count
        while True:
            things = [f[2] for f in facts if f[0] != "go"]
            if len(facts) == count:
                return facts
            fact = self.fact()
            # Things that differ in one word only are what makes it worth reading closely.
            if fact[0] != "go" and things and self.draw.random() < 0.3:
                fact = (fact[0], fact[1], self.near(things[0], things), *fact[3:])
                if held_out(fact):
                    continue
            clash = any(
                (f[0], f[1]) == (fact[0], fact[1]) or (f[0] == fact[0] == "go" and f[2] == fact[2])
                or (f[0] != "go" and fact[0] != "go" and f[2] == fact[2])
                or (len(f) == len(fact) == 4 and f[3] == fact[3])
                for f in facts
            )
            if not clash:
                facts.append(fact)

    def tell(self, fact):
        return self.draw.choice(TELLING[fact[0]]).format(*fact[1:])

    def story(self, facts):
        told = [self.tell(fact) for fact in facts]
        self.draw.shuffle(told)
        return " ".join(told)

    # ---- claims

    def claim(self, facts, label):
        """A claim about the first fact, true, false or neither by all of them."""
        kind, person, *rest = facts[0]
        people = [word for f in facts for word in f if word in PEOPLE]
        things = [f[2] for f in facts if f[0] != "go"]
        match = label == "entailment"
        denied = self.draw.random() < 0.25
        if label != "neutral" and denied:
            match = not match
        if kind == "go":
            if label == "neutral":
                person = self.other(PEOPLE, *people)
            claim = ("at", person, rest[0] if match or label == "neutral" else self.other(PLACES, rest[0]))
        elif kind == "like":
            thing = rest[0]
            if label == "neutral":
                if self.draw.random() < 0.5:
                    person = self.other(PEOPLE, *people)
                else:
                    thing = self.near(thing, things)
            elif not match:
                # Nothing but its denial contradicts that someone likes a thing, nothing else follows.
                denied = not denied
            claim = ("likes", person, thing)
        elif kind == "put":
            thing, box = rest
            if label == "neutral":
                thing = self.near(thing, things)
            elif not match:
                box = self.other(CONTAINERS, box)
            claim = ("in", thing, box)
        else:
            thing = self.near(rest[0], things) if label == "neutral" else rest[0]
            owner, before = (rest[1], person) if kind == "give" else (person, rest[1])
            if match or label == "neutral" or kind == "give":
                right = match or (label == "neutral" and self.draw.random() < 0.5) or kind == "take"
                claim = ("has", owner if right else before, thing)
            else:
                claim = ("in", thing, before)
        return CLAIMS[claim[0]][denied].format(*claim[1:])

    def entailment(self):
        """Premise, hypothesis, label."""
        facts = self.facts(self.draw.choice([1, 1, 2]))
        label = self.draw.choice(LABELS)
        claim = self.claim(facts, label)
        return self.story(facts), claim, label

    # ---- questions

    def question(self, answerable=0.75):
        """Context, question, answer and the place where it begins; the answer is empty if there is none."""
        facts = self.facts(self.draw.choice([1, 2, 2, 3]))
        told = [self.tell(fact) for fact in facts]
        kind, *words = facts[0]
        asked, answer = self.draw.choice(QUESTIONS[kind])
        if kind not in ("go",) and self.draw.random() < 0.1:
            colour, noun = words[1].split()
            if sum(f" {noun} " in f" {f[2]} " for f in facts) == 1:
                asked, answer = f"What colour is the {noun}?", colour
        order = list(range(len(told)))
        self.draw.shuffle(order)
        story = " ".join(told[i] for i in order)
        if self.draw.random() < answerable:
            answer = answer.format(*words)
            begin = sum(len(told[i]) + 1 for i in order[: order.index(0)])
            return story, asked.format(*words), answer, begin + told[0].index(answer)
        # Ask about someone or something that the text does not speak of, but as similar as can be.
        people = [word for f in facts for word in f if word in PEOPLE]
        things = [f[2] for f in facts if f[0] != "go"]
        boxes = [f[3] for f in facts if len(f) == 4]
        places = [f[2] for f in facts if f[0] == "go"]
        # Half the time someone who is in the text, but did something else.
        doers = [f[1] for f in facts if f[0] == kind]
        present = [person for person in people if person not in doers]
        words = list(words)
        words[0] = self.draw.choice(present) if present and self.draw.random() < 0.5 else self.other(PEOPLE, *people)
        if kind == "go":
            words[1] = self.other(PLACES, *places)
        else:
            words[1] = self.near(words[1], things)
            if asked.startswith("What colour"):
                asked = f"What colour is the {self.other(OBJECTS, *[t.split()[1] for t in things])}?"
        if kind in ("put", "take"):
            words[2] = self.other(CONTAINERS, *boxes)
        return story, asked.format(*words), "", 0

    # ---- running text

    def parts(self):
        """Two passages of which the second follows the first: facts, then what can be said of them."""
        facts = self.facts(self.draw.choice([1, 2, 2]))
        later = []
        for fact in facts:
            if later and self.draw.random() < 0.4:
                continue
            others = [fact, *[f for f in facts if f != fact]]
            which = self.draw.random()
            claim = self.claim(others, "entailment")
            if which < 0.65:
                later.append(claim)
            else:
                asked, answer = self.draw.choice(QUESTIONS[fact[0]])
                answer = answer.format(*fact[1:])
                later.append(f"{asked.format(*fact[1:])} {answer[0].upper()}{answer[1:]}.")
        self.draw.shuffle(later)
        return self.story(facts), " ".join(later)

    def text(self):
        return " ".join(self.parts())

    # ---- the tasks as text, for models that write

    def judged(self):
        """For a model that only goes on writing: text up to the label, and the label's word."""
        premise, claim, label = self.entailment()
        return f"{premise} {claim} True, false or neither?", WORD_OF[label]

    def answered(self):
        story, asked, answer, _ = self.question()
        return f"{story} Question: {asked} Answer:", answer or "unknown"


WORD_OF = {"entailment": "true", "contradiction": "false", "neutral": "neither"}


def mnli_prompt(premise, claim):
    return f"mnli premise: {premise} hypothesis: {claim}"


def squad_prompt(question, context):
    return f"question: {question} context: {context}"


if __name__ == "__main__":
    world = World(1)
    for _ in range(8):
        print(world.text(), world.entailment(), world.question(), sep="\n  ")
