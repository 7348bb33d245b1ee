"""Writes the example documents and the questions about them, keeping the questions that the model answers in both attention modes.

    python examples.py --model ../recall --out ../../examples/documents

The documents are of the kinds that `tasks.py` has, four of each. A set asks about some of them in one order; the notices come in two orders, which
changes the right answers, and the last sets mix documents of all kinds.
"""
import argparse
import json
import os
import random

import torch

import corpus
import evaluate
import model as network
import tasks
import tokenizer as tokens

TOKENS = 120
QUESTIONS = 5


class Shelf:
    """Documents by file name, as lists of statements, and the facts in them."""

    def __init__(self, seed, prompts):
        self.writer = tasks.Writer(seed, corpus.grammar_sentences(1500), prompts.count)
        self.rng = self.writer.rng
        self.prompts = prompts
        self.statements = {}
        self.names = iter(self.writer.names(120))

    def blank(self, kind):
        """Four headed documents; returns their file names."""
        files = []
        for _ in range(4):
            name = next(self.names)
            file = f"{kind}-of-{name}.txt".lower()
            self.statements[file] = [f"{kind.capitalize()} of {name}."]
            files.append(file)
        return files

    def put(self, file, statement):
        self.statements[file].append(statement)

    def texts(self):
        """Every document with filler between its facts, about TOKENS tokens long."""
        return {file: self.writer.spread([statements], TOKENS + self.rng.randint(-30, 50))[0] for file, statements in self.statements.items()}


def write_reports(shelf):
    """Facts about stations. Returns the files and {question: (answer, needed files)}."""
    files, asked = shelf.blank("report"), {}
    stations = [next(shelf.names) for _ in range(5)]
    for number in range(14):
        statement, question, answer = shelf.writer.fact(shelf.rng.choice(stations))
        if question not in asked:
            shelf.put(files[number % 4], statement)
            asked[question] = (answer, [files[number % 4]])
    return files, asked


def write_notices(shelf):
    """Pass numbers that are announced again: {question: {file: number}}."""
    files, asked = shelf.blank("notes"), {}
    for number in range(4):
        station = next(shelf.names)
        told = {file: shelf.writer.digits() for file in shelf.rng.sample(files, 2 + number % 2)}
        for file, value in told.items():
            shelf.put(file, f"The pass number of {station} is now {value}.")
        asked[f"What is the current pass number of {station}?"] = told
    return files, asked


def write_letters(shelf):
    """Home stations in one document, their master keys in another."""
    files, asked = shelf.blank("letter"), {}
    for number in range(7):
        person, station, code = next(shelf.names), next(shelf.names), shelf.writer.digits()
        first, second = files[number % 4], files[(number + 1 + number % 3) % 4]
        shelf.put(first, f"The home station of {person} is {station}.")
        shelf.put(second, f"The master key of {station} is {code}.")
        asked[f"What is the master key of the home station of {person}?"] = (f"{station}, {code}", [first, second])
    return files, asked


def write_registers(shelf):
    """Lines of names and numbers."""
    files, asked = shelf.blank("minutes"), {}
    for number in range(18):
        key, value = next(shelf.names), shelf.writer.digits()
        shelf.put(files[number % 4], f"{key}: {value}.")
        asked[f"What is the value of {key}?"] = (value, [files[number % 4]])
    return files, asked


def latest(asked, files):
    """The last announcement in this order of the documents."""
    found = {}
    for question, told in asked.items():
        values = [told[file] for file in files if file in told]
        if values:
            found[question] = (values[-1], [])
    return found


def answered(net, prompts, documents, question, answer):
    """Whether greedy decoding gives exactly this answer, with the documents separate and with the whole prompt causal."""
    context = tasks.Context("example", documents, [(question, answer)])
    return all(evaluate.measure(net, prompts, [context], masked)[0] == 1 for masked in (False, True))


def build(seed, net, prompts):
    """(texts by file, sets), or None when a set has too few questions that the model answers."""
    shelf = Shelf(seed, prompts)
    reports, facts = write_reports(shelf)
    notices, passes = write_notices(shelf)
    letters, keys = write_letters(shelf)
    registers, values = write_registers(shelf)
    texts = shelf.texts()
    single = {**facts, **keys, **values}
    mixed = [[registers[2], letters[0], notices[3], letters[1], reports[1], letters[3]],
             [letters[3], reports[2], registers[0], letters[2], notices[1], notices[0]]]
    plans = [("stations", reports, facts), ("notices", notices, latest(passes, notices)),
             ("notices in another order", notices[::-1], latest(passes, notices[::-1])), ("letters", letters, keys),
             ("registers", registers, values)]
    for number, files in enumerate(mixed, 1):
        known = {q: a for q, a in single.items() if set(a[1]) <= set(files)}
        plans.append((f"mixed {number}", files, {**known, **latest(passes, files)}))
    sets = []
    for name, files, asked in plans:
        documents = [texts[file] for file in files]
        order = list(asked)
        random.Random(seed).shuffle(order)
        kept = [q for q in order if answered(net, prompts, documents, q, asked[q][0])][:QUESTIONS]
        if len(kept) < 3:
            return None
        sets.append({"name": name, "documents": files, "questions": [{"question": q, "answer": asked[q][0]} for q in kept]})
    return texts, sets


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="../recall")
    parser.add_argument("--out", default="../../examples/documents")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    prompts = tokens.Prompts(tokens.Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json")))
    net = network.load(arguments.model)
    seed = arguments.seed
    while (built := build(seed, net, prompts)) is None:
        seed += 1
    texts, sets = built
    os.makedirs(arguments.out, exist_ok=True)
    for file, text in texts.items():
        with open(os.path.join(arguments.out, file), "w", encoding="utf-8") as handle:
            handle.write(text)
    with open(os.path.join(arguments.out, "questions.json"), "w", encoding="utf-8") as handle:
        json.dump({"sets": sets}, handle, indent=2)
        handle.write("\n")
    print(f"seed {seed}: {len(texts)} documents, {sum(len(s['questions']) for s in sets)} questions in {len(sets)} sets")


if __name__ == "__main__":
    main()
