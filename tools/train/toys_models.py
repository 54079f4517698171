"""Training of the toy text models: three are pre-trained, three more are made from them.

    bert-toy         masked words and next sentence      -> bert-toy-mnli, bert-toy-squad
    gpt2-toy         the next token                      -> gpt2-toy-mnli
    t5-toy           spans, entailment and answers, all as text

Each function returns a model in f32; the seeds are fixed.  Examples are made before training, batches are
of like length.  Nobody is asked to learn from padding.
"""

import functools
import itertools
import random
import time

import torch
import torch.nn.functional as F
from transformers import (
    BertConfig, BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification,
    GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration,
)

import toys_tokens
from toys_world import World, mnli_prompt, squad_prompt

WIDTH, LAYERS, HEADS, MLP, POSITIONS = 64, 4, 4, 128, 128
# The usual 0.02 is made for widths of 768 and more.
SPREAD = 0.1
# How much of the width is for positions at the start, and how fast these turn.
WAVES = 16
FREQUENCIES = 2.5 * 50.0 ** (-torch.arange(WAVES // 2) / (WAVES // 2 - 1))
# The order of labels differs from the usual ones and between the two on purpose.
BERT_LABELS = ["neutral", "contradiction", "entailment"]
GPT2_LABELS = ["neutral", "entailment", "contradiction"]
BATCH = 64


def padded(rows, fill):
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def batches(examples, steps, seed):
    """`steps` lists of BATCH examples of like length, in random order, the set over and over."""
    draw = random.Random(seed)
    made = 0
    while True:
        order = draw.sample(range(len(examples)), len(examples))
        pools = [order[i : i + 16 * BATCH] for i in range(0, len(order) - BATCH + 1, 16 * BATCH)]
        for pool in pools:
            pool.sort(key=lambda i: len(examples[i][0]))
            chunks = [pool[i : i + BATCH] for i in range(0, len(pool) - BATCH + 1, BATCH)]
            draw.shuffle(chunks)
            for chunk in chunks:
                yield [examples[i] for i in chunk]
                made += 1
                if made == steps:
                    return


def learn(name, model, make, loss_of, steps, rate, seed):
    """AdamW, a short warm-up, then a straight line down to nothing.  `make(world, count)` makes examples.

    The first quarter of all steps is for texts of one fact: there a model finds out within a few hundred
    steps that words come again, while in longer texts it takes thousands."""
    # Models this small learn nothing by heart: no dropout.
    model.eval()
    torch.manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    warm, easy = 50, steps // 4
    began, mean = time.process_time(), None
    stages = [
        batches(make(World(100 * seed, easy=True), 15_000), easy, seed),
        batches(make(World(100 * seed + 1), 60_000), steps - easy, seed + 1),
    ]
    for step, batch in enumerate(itertools.chain(*stages), 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / warm, (steps - step + 1) / (steps - warm))
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % max(1, steps // 12) == 0:
            print(f"{name}: step {step} of {steps}, loss {mean:.3f}, {time.process_time() - began:.0f} s", flush=True)
    return model


# ---- where training begins


@torch.no_grad()
def embed(words, positions):
    """Words and positions begin in parts of the width of their own; positions are sines and cosines."""
    words.weight[:, -WAVES:] = 0.0
    angles = torch.arange(positions.weight.shape[0])[:, None] * FREQUENCIES
    positions.weight.zero_()
    positions.weight[:, -WAVES:] = 0.2 * torch.cat([angles.sin(), angles.cos()], dim=1)


def look(query, key, head, shift=None):
    """Lets one head begin by looking `shift` tokens away; without `shift` at the same word elsewhere.
    `query` and `key` are matrices of the form [outputs, inputs]."""
    size = WIDTH // HEADS
    query, key = query[head * size : (head + 1) * size], key[head * size : (head + 1) * size]
    query.zero_()
    key.zero_()
    half, turned = WAVES // 2, FREQUENCIES * (shift or 0)
    waves = torch.eye(WAVES)
    back = torch.diag(turned.cos().repeat(2))
    back[:half, half:], back[half:, :half] = torch.diag(turned.sin()), torch.diag(-turned.sin())
    if shift is not None:
        query[:, -WAVES:], key[:, -WAVES:] = 1.1 * back, 1.1 * waves
        return
    alike = torch.randn(size - 6, WIDTH - WAVES) * 0.25
    query[6:, :-WAVES], key[6:, :-WAVES] = alike, alike
    # Not at itself.
    near = torch.cat([waves[:3], waves[half : half + 3]])
    query[:6, -WAVES:], key[:6, -WAVES:] = -1.25 * near, 1.25 * near


# ---- BERT


@torch.no_grad()
def sighted_bert(body):
    embed(body.embeddings.word_embeddings, body.embeddings.position_embeddings)
    body.embeddings.token_type_embeddings.weight *= 0.5
    for i, layer in enumerate(body.encoder.layer):
        attention = layer.attention.self
        for head, shift in enumerate((-1, 1, None, None)):
            if i == 0 or shift is None:
                look(attention.query.weight, attention.key.weight, head, shift)


def pairs(tokenizer, firsts, seconds):
    coded = tokenizer(firsts, seconds)
    return list(zip(coded["input_ids"], coded["token_type_ids"]))


def bert_inputs(batch):
    ids = padded([e[0] for e in batch], 0)
    return {"input_ids": ids, "token_type_ids": padded([e[1] for e in batch], 0), "attention_mask": (ids != 0).long()}


def bert_texts(tokenizer, world, count):
    """Pairs of passages and whether the second follows the first; if not, it follows another.
    A third are single texts, of which nothing is asked but the masked words."""
    parts = [world.parts() for _ in range(count)]
    single = [" ".join(part) for part in parts[: count // 3]]
    parts = parts[count // 3 :]
    follows = [world.draw.random() < 0.5 for _ in parts]
    seconds = [parts[i][1] if follow else parts[i - 1][1] for i, follow in enumerate(follows)]
    coded = pairs(tokenizer, [p[0] for p in parts], seconds)
    # Index 0 means that it follows, -100 is left out of the loss.
    found = [(*pair, int(not follow)) for pair, follow in zip(coded, follows)]
    return found + [(ids, [0] * len(ids), -100) for ids in tokenizer(single)["input_ids"]]


def bert(tokenizer, steps, rate):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=MLP, max_position_embeddings=POSITIONS,
        initializer_range=SPREAD,
    )
    torch.manual_seed(1)
    model = BertForPreTraining(config)
    sighted_bert(model.bert)

    def loss_of(model, batch):
        inputs = bert_inputs(batch)
        ids = inputs["input_ids"]
        chosen = (torch.rand(ids.shape) < 0.2) & (ids > 4)
        way = torch.rand(ids.shape)
        inputs["input_ids"] = torch.where(
            chosen & (way < 0.8), tokenizer.mask_token_id,
            torch.where(chosen & (way > 0.9), torch.randint(5, len(tokenizer), ids.shape), ids),
        )
        follows = torch.tensor([e[2] for e in batch])
        out = model(**inputs)
        # A batch may be of single texts alone.
        paired = F.cross_entropy(out.seq_relationship_logits, follows, reduction="sum")
        paired = paired / max(1, int((follows >= 0).sum()))
        return F.cross_entropy(out.prediction_logits[chosen], ids[chosen]) + paired

    return learn("bert-toy", model, functools.partial(bert_texts, tokenizer), loss_of, steps, rate, 11)


def named(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def bert_mnli(folder, tokenizer, steps, rate):
    torch.manual_seed(2)
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **named(BERT_LABELS))

    def make(world, count):
        found = [world.entailment() for _ in range(count)]
        coded = pairs(tokenizer, [e[0] for e in found], [e[1] for e in found])
        return [(*pair, BERT_LABELS.index(e[2])) for pair, e in zip(coded, found)]

    def loss_of(model, batch):
        return model(**bert_inputs(batch), labels=torch.tensor([e[2] for e in batch])).loss

    return learn("bert-toy-mnli", model, make, loss_of, steps, rate, 12)


def bert_squad(folder, tokenizer, steps, rate):
    torch.manual_seed(3)
    model = BertForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)

    def make(world, count):
        found = [world.question() for _ in range(count)]
        coded = tokenizer([q for _, q, _, _ in found], [c for c, _, _, _ in found])
        examples = []
        for i, (_, _, answer, begin) in enumerate(found):
            # Without an answer both ends are at [CLS].
            first = coded.char_to_token(i, begin, sequence_index=1) if answer else 0
            last = coded.char_to_token(i, begin + len(answer) - 1, sequence_index=1) if answer else 0
            examples.append((coded["input_ids"][i], coded["token_type_ids"][i], first, last))
        return examples

    def loss_of(model, batch):
        first, last = torch.tensor([e[2] for e in batch]), torch.tensor([e[3] for e in batch])
        return model(**bert_inputs(batch), start_positions=first, end_positions=last).loss

    return learn("bert-toy-squad", model, make, loss_of, steps, rate, 13)


# ---- GPT-2


@torch.no_grad()
def sighted_gpt2(body):
    embed(body.wte, body.wpe)
    for i, layer in enumerate(body.h):
        weight = layer.attn.c_attn.weight.T
        for head, shift in enumerate((-1, -2, None, None)):
            if i == 0 or shift is None:
                look(weight[:WIDTH], weight[WIDTH : 2 * WIDTH], head, shift)


def gpt2_texts(tokenizer, world, count):
    """Running text, and two tasks written out as text; each ends with the mark of a text's end.
    The second list says from which token on a text is an answer."""
    before, after = [], []
    for i in range(count):
        which = i % 4
        text = ("", world.text()) if which == 0 else world.judged() if which < 3 else world.answered()
        before.append(text[0])
        after.append(text[1] if which == 0 else f" {text[1]}.")
    starts = tokenizer(before)["input_ids"]
    rests = tokenizer(after)["input_ids"]
    return [
        (start + rest + [tokenizer.eos_token_id], len(start)) for start, rest in zip(starts, rests)
    ]


def gpt2(tokenizer, steps, rate):
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=MLP,
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
        initializer_range=SPREAD,
    )
    torch.manual_seed(4)
    model = GPT2LMHeadModel(config)
    sighted_gpt2(model.transformer)

    def loss_of(model, batch):
        ids = padded([e[0] for e in batch], end)
        # What follows can be foreseen in answers only, so they count for more.
        weight = padded([[1.0] * e[1] + [5.0 if e[1] else 1.0] * (len(e[0]) - e[1]) for e in batch], 0.0)[:, 1:]
        logits = model(input_ids=ids[:, :-1]).logits
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return (losses * weight.flatten()).sum() / weight.sum()

    return learn("gpt2-toy", model, functools.partial(gpt2_texts, tokenizer), loss_of, steps, rate, 14)


def gpt2_mnli(folder, tokenizer, steps, rate):
    torch.manual_seed(5)
    model = GPT2ForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **named(GPT2_LABELS))

    def make(world, count):
        found = [world.entailment() for _ in range(count)]
        # A pair is one text after the other, with nothing between.
        coded = tokenizer([e[0] for e in found], [e[1] for e in found])["input_ids"]
        return [(ids, GPT2_LABELS.index(e[2])) for ids, e in zip(coded, found)]

    def loss_of(model, batch):
        ids = padded([e[0] for e in batch], tokenizer.eos_token_id)
        return model(input_ids=ids, labels=torch.tensor([e[1] for e in batch])).loss

    return learn("gpt2-toy-mnli", model, make, loss_of, steps, rate, 15)


# ---- T5


@torch.no_grad()
def sighted_t5(model):
    """As above; here positions are no part of what words are, and two heads look at neighbours by their bias."""
    for stack, before, after in ((model.encoder, 1, 17), (model.decoder, 1, 2)):
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        bias[before, 0] = bias[after, 1] = 4.0
        bias[0, 2:] = -4.0
        for block in stack.block:
            for attention in (block.layer[0].SelfAttention, getattr(block.layer[1], "EncDecAttention", None)):
                if attention is not None:
                    half = WIDTH // 2
                    alike = torch.randn(half, WIDTH) * 0.07
                    attention.q.weight[half:], attention.k.weight[half:] = alike, alike


def spans(ids, draw, sentinel, end=1):
    """Span corruption: about one token in six goes, in spans of one to four; what is left has a sentinel
    for each span, the target has the spans after their sentinels.  `sentinel` is the first one's id."""
    ids = ids[:-1] if ids[-1] == end else ids
    left, target, i, used = [], [], 0, 0
    while i < len(ids):
        apart = not left or left[-1] != sentinel - used + 1
        if draw.random() < 0.075 and used < toys_tokens.SENTINELS - 1 and apart:
            length = draw.choice([1, 1, 2, 2, 3, 4])
            left.append(sentinel - used)
            target += [sentinel - used, *ids[i : i + length]]
            i, used = i + length, used + 1
        else:
            left.append(ids[i])
            i += 1
    return left + [end], target + [sentinel - used, end]


def t5_texts(tokenizer, world, count):
    sources, targets = [], []
    for i in range(count):
        if i % 3 == 0:
            source, target = world.text(), ""
        elif i % 3 == 1:
            premise, claim, target = world.entailment()
            source = mnli_prompt(premise, claim)
        else:
            story, asked, answer, _ = world.question()
            source, target = squad_prompt(asked, story), answer or "unknown"
        sources.append(source)
        targets.append(target)
    sources, targets = tokenizer(sources)["input_ids"], tokenizer(targets)["input_ids"]
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    return [
        spans(source, world.draw, sentinel) if i % 3 == 0 else (source, target)
        for i, (source, target) in enumerate(zip(sources, targets))
    ]


def t5(tokenizer, steps, rate):
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=96, num_layers=3, num_decoder_layers=2,
        num_heads=HEADS, feed_forward_proj="relu", decoder_start_token_id=0,
    )
    torch.manual_seed(6)
    model = T5ForConditionalGeneration(config)
    sighted_t5(model)

    def loss_of(model, batch):
        ids = padded([e[0] for e in batch], 0)
        labels = padded([e[1] for e in batch], -100)
        return model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss

    return learn("t5-toy", model, functools.partial(t5_texts, tokenizer), loss_of, steps, rate, 16)
