"""The tokenizers of the toy text models, in the files that the originals have: WordPiece (vocab.txt),
byte-level BPE (vocab.json, merges.txt) and Unigram (tokenizer.json), all from texts of the toy world."""

import collections
import json
import math
import pathlib
import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTINELS = 10
END = "<|endoftext|>"


def dump(path, content):
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def wordpiece(folder, texts):
    """All lower-case words, and what it takes to spell any other."""
    words = pre_tokenizers.BertPreTokenizer()
    found = sorted({word for text in texts for word, _ in words.pre_tokenize_str(text.lower())})
    letters = [*string.ascii_lowercase, *string.digits]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    vocabulary += [word for word in found if word not in vocabulary]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    config = {"do_lower_case": True, "model_max_length": 128, "tokenizer_class": "BertTokenizer"}
    for role in ("pad", "unk", "cls", "sep", "mask"):
        config[f"{role}_token"] = f"[{role.upper()}]"
    dump(folder / "tokenizer_config.json", config)


def byte_level(folder, texts):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=100, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    model = json.loads(made.to_str())["model"]
    # The mark of a text's end comes last, as in the original.
    vocabulary = {**model["vocab"], END: len(model["vocab"])}
    dump(folder / "vocab.json", vocabulary)
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    config = {f"{role}_token": END for role in ("bos", "eos", "unk", "pad")}
    config |= {"model_max_length": 128, "tokenizer_class": "GPT2Tokenizer"}
    dump(folder / "tokenizer_config.json", config)


def unigram(folder, texts):
    """Words with the space before them, by how often they occur; letters for all others; sentinels last
    and counting down.  On so few words training by expectation-maximisation would end up here too."""
    special = ["<pad>", "</s>", "<unk>"]
    space = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    split = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
    words = pre_tokenizers.Sequence([*split, pre_tokenizers.Punctuation()])
    counts = collections.Counter(word for text in texts for word, _ in words.pre_tokenize_str(text))
    total = sum(counts.values())
    pieces = [(word, round(math.log(count / total), 3)) for word, count in sorted(counts.items())]
    pieces.sort(key=lambda piece: -piece[1])
    letters = ["▁", *string.ascii_letters, *string.digits, *string.punctuation]
    pieces += [(letter, -12.0 if letter == "▁" else -14.0) for letter in letters if letter not in counts]
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]
    pieces = [(piece, 0.0) for piece in special] + pieces + [(piece, 0.0) for piece in sentinels]
    made = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(split)
    made.decoder = decoders.Metaspace(**space)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    made.add_special_tokens([*special, *sentinels])
    made.save(str(folder / "tokenizer.json"))
    config = {
        "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": SENTINELS,
        "additional_special_tokens": sentinels[::-1], "model_max_length": 128, "tokenizer_class": "T5Tokenizer",
    }
    dump(folder / "tokenizer_config.json", config)


def write_all(root, texts):
    """The folders of the three pre-trained models, with tokenizers in them."""
    root = pathlib.Path(root)
    for name, write in (("bert-toy", wordpiece), ("gpt2-toy", byte_level), ("t5-toy", unigram)):
        (root / name).mkdir(parents=True, exist_ok=True)
        write(root / name, texts)
