"""Measures the toy text models with transformers, and stores some of its answers for other programs to
compare with.  Weights are loaded from their f16 files and computed with in f32, one example at a time
where it matters, so that nothing depends on padding."""

import json
import math

import torch
from transformers import (
    AutoTokenizer, BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification,
    GPT2ForSequenceClassification, GPT2LMHeadModel, T5ForConditionalGeneration,
)

from toys_models import BERT_LABELS, GPT2_LABELS, named, padded
from toys_world import LABELS, WORD_OF, World, mnli_prompt, squad_prompt

COUNT, KEPT = 1000, 20
GPT2_TEMPLATE = "{text} {pair} True, false or neither? {label}"
T5_TEMPLATE = "mnli premise: {text} hypothesis: {pair} {label}"


def load(kind, folder, **more):
    return kind.from_pretrained(folder, dtype=torch.float32, **more).eval(), AutoTokenizer.from_pretrained(folder)


def rounded(numbers, digits=5):
    return [round(float(number), digits) for number in numbers]


def entailments(count, seed):
    world = World(seed, test=True)
    return [world.entailment() for _ in range(count)]


def questions(count, seed):
    world = World(seed, test=True)
    return [world.question() for _ in range(count)]


def groups(items, size=100):
    return [items[i : i + size] for i in range(0, len(items), size)]


# ---- the objectives


def masked_texts(count):
    """Texts with one word masked, which another sentence of the same text tells."""
    world, found = World(9_001, test=True), []
    while len(found) < count:
        facts = world.facts(world.draw.choice([1, 2]))
        told, claim = world.story(facts), world.claim(facts, "entailment")
        words = claim[:-1].split()
        known = [i for i, word in enumerate(words) if word in told[:-1].replace(".", "").split() and word != "is"]
        if not known or claim in told:
            continue
        place = world.draw.choice(known)
        gold, words[place] = words[place], "[MASK]"
        if "not" in words:
            continue
        found.append((f"{told} {' '.join(words)}.", gold))
    return found


def mask_scores(model, tokenizer, text):
    coded = tokenizer(text, return_tensors="pt")
    logits = model(**coded).prediction_logits[0]
    return [logits[i].softmax(-1) for i in (coded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]]


def check_objectives(root, expected):
    model, tokenizer = load(BertForPreTraining, root / "bert-toy")
    rows, right = [], 0
    for text, gold in masked_texts(COUNT):
        scores = mask_scores(model, tokenizer, text)[0]
        right += tokenizer.convert_ids_to_tokens(int(scores.argmax())) == gold.lower()
        rows.append((text, [scores]))
    two = [
        ("Anna put the red ball in the [MASK]. The red ball is in the [MASK]."),
        ("Ben gave the [MASK] book to Clara. Clara has the green [MASK]."),
    ]
    rows = rows[: KEPT - len(two)] + [(text, mask_scores(model, tokenizer, text)) for text in two]
    expected["masks"] = [
        {
            "text": text,
            "masks": [
                [
                    {"token": tokenizer.convert_ids_to_tokens(i), "id": i, "probability": round(float(scores[i]), 5)}
                    for i in scores.topk(3).indices.tolist()
                ]
                for scores in found
            ],
        }
        for text, found in rows
    ]
    table = [("bert-toy", "masked word that the text tells", right / COUNT, "1/191")]
    # All masked words, chosen as in training.
    draw, hits, total = torch.Generator().manual_seed(5), 0, 0
    world = World(9_002, test=True)
    for group in groups([world.text() for _ in range(COUNT)]):
        ids = padded(tokenizer(group)["input_ids"], 0)
        chosen = (torch.rand(ids.shape, generator=draw) < 0.15) & (ids > 4)
        logits = model(input_ids=torch.where(chosen, 4, ids), attention_mask=(ids != 0).long()).prediction_logits
        hits += int((logits.argmax(-1)[chosen] == ids[chosen]).sum())
        total += int(chosen.sum())
    table.append(("bert-toy", "any masked word (many cannot be known)", hits / total, "1/191"))
    world = World(9_003, test=True)
    parts = [world.parts() for _ in range(COUNT)]
    rows, right = [], 0
    for i, (first, second) in enumerate(parts):
        follows = i % 2 == 0
        if not follows:
            second = parts[i - 1][1]
        scores = model(**tokenizer(first, second, return_tensors="pt")).seq_relationship_logits[0].softmax(-1)
        right += bool(scores[0] > 0.5) == follows
        rows.append({"text": first, "pair": second, "follows": follows, "probability": round(float(scores[0]), 5)})
    expected["next_sentence"] = rows[:KEPT]
    return [*table, ("bert-toy", "next sentence", right / COUNT, "1/2")]


# ---- entailment and answers by added heads


def classes(model, tokenizer, found, order):
    """Probabilities of the labels for each pair."""
    result = []
    for premise, claim, _ in found:
        coded = tokenizer(premise, claim, return_tensors="pt")
        result.append(model(**coded).logits[0].softmax(-1))
    right = sum(order[int(p.argmax())] == label for p, (_, _, label) in zip(result, found))
    return result, right / len(found)


def check_mnli(root, expected):
    found, table = entailments(COUNT, 9_101), []
    kinds = [
        ("bert-toy", BertForSequenceClassification, BERT_LABELS),
        ("gpt2-toy", GPT2ForSequenceClassification, GPT2_LABELS),
    ]
    for base, kind, order in kinds:
        rights = []
        for seed in range(10):
            torch.manual_seed(seed)
            model, tokenizer = load(kind, root / base, **named(order))
            rights.append(classes(model, tokenizer, found[: COUNT // 10], order)[1])
        table.append((base, "MNLI, new head without training (mean of ten)", sum(rights) / 10, "1/3"))
        name = f"{base}-mnli"
        model, tokenizer = load(kind, root / name)
        scores, right = classes(model, tokenizer, found, [model.config.id2label[i] for i in range(3)])
        table.append((name, "MNLI", right, "1/3"))
        expected[name] = [
            {
                "text": premise, "pair": claim, "gold": label, "label": order[int(p.argmax())],
                "probabilities": dict(zip(order, rounded(p))),
            }
            for (premise, claim, label), p in zip(found[:KEPT], scores)
        ]
    return table


def answer(model, tokenizer, question, context):
    """The best answer as SQuAD's own programs have it (spans of at most 30 tokens), against no answer."""
    coded = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = coded.pop("offset_mapping")[0].tolist()
    places = [i for i, which in enumerate(coded.sequence_ids(0)) if which == 1]
    out = model(**coded)
    start, end = out.start_logits[0], out.end_logits[0]
    best = max(((start[i] + end[j]).item(), i, j) for i in places for j in places if i <= j < i + 30)
    none = (start[0] + end[0]).item()
    begin, stop = offsets[best[1]][0], offsets[best[2]][1]
    return {
        "best": context[begin:stop], "start": begin, "end": stop, "score": round(best[0], 4), "none": round(none, 4),
        "answer": "" if none > best[0] else context[begin:stop],
    }


def check_squad(root, expected):
    found, table = questions(COUNT, 9_201), []
    for name, folder in (("bert-toy, new head without training", "bert-toy"), ("bert-toy-squad", "bert-toy-squad")):
        torch.manual_seed(7)
        model, tokenizer = load(BertForQuestionAnswering, root / folder)
        said = [answer(model, tokenizer, asked, story) for story, asked, _, _ in found]
        right = [s["answer"] == gold for s, (_, _, gold, _) in zip(said, found)]
        known = [r for r, (_, _, gold, _) in zip(right, found) if gold]
        table.append((name.split(",")[0], f"SQuAD{name[8:] if ',' in name else ''}, exact", sum(right) / COUNT, "-"))
        if "," not in name:
            table.append((name, "SQuAD, questions that have an answer", sum(known) / len(known), "-"))
            none = (sum(right) - sum(known)) / (COUNT - len(known))
            table.append((name, "SQuAD, questions that have none", none, "-"))
    expected["bert-toy-squad"] = [
        {"question": asked, "context": story, "gold": gold, **s}
        for (story, asked, gold, _), s in zip(found[:KEPT], said)
    ]
    return table


# ---- models that write


def logs(model, ids):
    """Log probability of each token but the first."""
    scores = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return [float(scores[i, token]) for i, token in enumerate(ids[1:])]


def choice(sums, names):
    shares = torch.tensor(sums, dtype=torch.float64).softmax(0)
    return {"log_likelihoods": dict(zip(names, rounded(sums, 4))), "probabilities": dict(zip(names, rounded(shares)))}


def greedy(model, tokenizer, prompt, tokens=30):
    coded = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**coded, max_new_tokens=tokens, do_sample=False, num_beams=1)[0]
    if not model.config.is_encoder_decoder:
        return ids[coded["input_ids"].shape[1] :].tolist()
    return ids[1:].tolist()


def check_gpt2(root, expected):
    model, tokenizer = load(GPT2LMHeadModel, root / "gpt2-toy")
    world = World(9_301, test=True)
    rows = []
    for _ in range(COUNT):
        text = world.text()
        found = logs(model, tokenizer(text)["input_ids"])
        rows.append({"text": text, "tokens": len(found), "log_likelihood": round(sum(found), 4)})
    expected["gpt2-toy perplexity"] = rows[:KEPT]
    perplexity = math.exp(-sum(r["log_likelihood"] for r in rows) / sum(r["tokens"] for r in rows))
    words = [WORD_OF[label] for label in LABELS]
    found, right, kept = entailments(COUNT, 9_302), 0, []
    for premise, claim, label in found:
        before = tokenizer(f"{premise} {claim} True, false or neither?")["input_ids"]
        sums = [sum(logs(model, before + tokenizer(f" {word}")["input_ids"])[len(before) - 1 :]) for word in words]
        right += LABELS[sums.index(max(sums))] == label
        kept.append({"text": premise, "pair": claim, "gold": WORD_OF[label], **choice(sums, words)})
    expected["gpt2-toy labels"] = {"template": GPT2_TEMPLATE, "examples": kept[:KEPT]}
    world, asked = World(9_303, test=True), []
    exact = 0
    for i in range(300):
        prompt, gold = world.answered()
        ids = greedy(model, tokenizer, prompt, 12)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        exact += text.strip().removesuffix(".") == gold
        if i < KEPT // 2:
            asked.append({"prompt": prompt, "ids": ids, "text": text})
    for _ in range(KEPT // 2):
        prompt = world.story(world.facts(2))
        ids = greedy(model, tokenizer, prompt)
        asked.append({"prompt": prompt, "ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)})
    expected["gpt2-toy greedy"] = asked
    return [
        ("gpt2-toy", "perplexity of running text", perplexity, "515"),
        ("gpt2-toy", "MNLI by likelihood, no added parameters", right / COUNT, "1/3"),
        ("gpt2-toy", "SQuAD by writing on, exact", exact / 300, "-"),
    ]


def check_t5(root, expected):
    model, tokenizer = load(T5ForConditionalGeneration, root / "t5-toy")
    table, written = [], []

    def exact(found):
        right = 0
        for group in groups(found):
            ids = padded([tokenizer(prompt)["input_ids"] for prompt, _ in group], 0)
            made = model.generate(input_ids=ids, attention_mask=(ids != 0).long(), max_new_tokens=12, do_sample=False)
            texts = tokenizer.batch_decode(made, skip_special_tokens=True)
            right += sum(text.strip() == gold for text, (_, gold) in zip(texts, group))
        for prompt, gold in found[:KEPT]:
            ids = greedy(model, tokenizer, prompt, 12)
            text = tokenizer.decode(ids, skip_special_tokens=True)
            written.append({"prompt": prompt, "gold": gold, "ids": ids, "text": text})
        return right / len(found)

    pairs = entailments(COUNT, 9_401)
    table.append(("t5-toy", "MNLI as text", exact([(mnli_prompt(p, c), label) for p, c, label in pairs]), "1/3"))
    asked = questions(COUNT, 9_402)
    answers = [(squad_prompt(q, story), gold or "unknown") for story, q, gold, _ in asked]
    table.append(("t5-toy", "SQuAD as text, exact", exact(answers), "-"))
    expected["t5-toy answers"] = written
    kept, right = [], 0
    for i, (premise, claim, label) in enumerate(pairs[:300]):
        coded = tokenizer(mnli_prompt(premise, claim), return_tensors="pt")
        sums = []
        for word in LABELS:
            target = torch.tensor([tokenizer(word)["input_ids"]])
            scores = model(**coded, labels=target).logits[0].log_softmax(-1)
            sums.append(float(scores.gather(1, target[0][:, None]).sum()))
        right += LABELS[sums.index(max(sums))] == label
        kept.append({"text": premise, "pair": claim, "gold": label, **choice(sums, LABELS)})
    expected["t5-toy labels"] = {"template": T5_TEMPLATE, "examples": kept[:KEPT]}
    table.append(("t5-toy", "MNLI by likelihood of the labels", right / len(kept), "1/3"))
    # A gap that another sentence fills.
    spans, right = [], 0
    for text, gold in masked_texts(300):
        prompt = text.replace("[MASK]", "<extra_id_0>")
        ids = greedy(model, tokenizer, prompt, 12)
        said = tokenizer.decode(ids, skip_special_tokens=False)
        right += said.replace("<extra_id_0>", " ").split("<extra_id_1>")[0].strip() == gold
        spans.append({"prompt": prompt, "gold": gold, "ids": ids, "text": said})
    expected["t5-toy spans"] = spans[:KEPT]
    return [*table, ("t5-toy", "span that the text tells, exact", right / 300, "-")]


@torch.no_grad()
def check(root):
    """Prints the table and writes what a program can be compared with."""
    expected = {}
    for part in (check_objectives, check_mnli, check_squad, check_gpt2, check_t5):
        for name, task, value, chance in part(root, expected):
            value = f"{value:.2f}" if "perplexity" in task else f"{100 * value:.1f} %"
            print(f"| {name} | {task} | {value} | {chance} |", flush=True)
    (root / "toys_expected.json").write_text(json.dumps(expected, indent=1) + "\n")
