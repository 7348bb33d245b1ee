"""The evaluation sets: contexts of a given length for every task, as JSON lines. Needs the `tokenizers` package alone.

    python sets.py --model ../recall --out ../sets --lengths 512 1024 --contexts 50 --seed 1000 --tasks late
"""
import argparse
import json
import os

import corpus
import tasks
import tokenizer as tokens

OVERHEAD = 32
LEAST_QUESTIONS = {"needle": 4, "kv": 4, "latest": 4, "hop": 2, "repeat": 1, "late": 2, "inherit": 4}


def contexts(task, length, count, seed, prompts):
    """`count` contexts whose prompts have about `length` tokens, each with enough questions."""
    writer = tasks.Writer(seed, corpus.sentences(), prompts.count)
    found = []
    while len(found) < count:
        context = writer.write(task, length - OVERHEAD)
        if len(context.questions) >= LEAST_QUESTIONS[task]:
            context.questions = context.questions[:12]
            found.append(context)
    return found


def write_sets(folder, lengths, count, seed, prompts, chosen=tasks.SETS):
    """JSON lines files <task>_<length>.jsonl of the chosen tasks."""
    os.makedirs(folder, exist_ok=True)
    for length in lengths:
        for number, task in enumerate(tasks.SETS):
            if task not in chosen:
                continue
            with open(os.path.join(folder, f"{task}_{length}.jsonl"), "w", encoding="utf-8") as handle:
                for i, context in enumerate(contexts(task, length, count, seed + length + number, prompts)):
                    questions = [{"question": q, "answers": [a]} for q, a in context.questions]
                    line = {"id": f"{task}-{length}-{seed}-{i}", "task": task, "documents": context.documents, "questions": questions}
                    handle.write(json.dumps(line) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="recall")
    parser.add_argument("--out", default="sets")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--contexts", type=int, default=50, help="contexts per task and length")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--tasks", nargs="+", default=tasks.SETS, choices=tasks.SETS)
    arguments = parser.parse_args()
    prompts = tokens.Prompts(tokens.Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json")))
    write_sets(arguments.out, arguments.lengths, arguments.contexts, arguments.seed, prompts, arguments.tasks)


if __name__ == "__main__":
    main()
