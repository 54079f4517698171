"""Train the small tokenizers of tests/text on a little text of our own, and write them in both
forms: as tokenizer.json and as vocabulary files.

    python make_small.py ../../tests/text        transformers 5, tokenizers, sentencepiece
"""

import json
import pathlib
import shutil
import sys

import sentencepiece
from tokenizers import ByteLevelBPETokenizer, BertWordPieceTokenizer
from transformers import BertTokenizer, GPT2Tokenizer, RobertaTokenizer, T5Tokenizer

from texts import corpus

# Rewrites of the small unigram model: code points from, code points to. SentencePiece's own table
# takes 240 kB, this one a few; it has the same kinds of entries.
RULES = (
    [(chr(0xFF01 + i), chr(0x21 + i)) for i in range(94)]
    + [(c, " ") for c in "\t\n\r\x0b\x0c\u00a0\u2003\u3000\u2028\u2029\u0085"]
    + [(c, "") for c in "\x07\x1b\x7f\u200b\ufeff\u00ad\u200e\u200f"]
    + [("\ufb01", "fi"), ("\u2460", "1"), ("\u00bd", "1\u20442"), ("\u2122", "TM"), ("\u212b", "\u00c5")]
    + [("e\u0301", "\u00e9"), ("e\u0300", "\u00e8"), ("n\u0303", "\u00f1"), ("A\u030a", "\u00c5")]
    + [("\u1100\u1161\u11a8", "\uac01"), ("\u2026", "...")]
)


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8", newline="\n")


def main(out):
    lines = corpus()
    for name in ["bert", "bert_cased", "gpt2", "roberta", "t5"]:
        for form in ["files", "json"]:
            shutil.rmtree(out / name / form, ignore_errors=True)
            (out / name / form).mkdir(parents=True)

    for name, lower in [("bert", True), ("bert_cased", False)]:
        trained = BertWordPieceTokenizer(lowercase=lower)
        trained.train_from_iterator(lines, vocab_size=600, min_frequency=2, limit_alphabet=250, show_progress=False)
        folder = out / name / "files"
        trained.save_model(str(folder))
        config = {"do_lower_case": lower, "model_max_length": 512}
        write(folder, "tokenizer_config.json", json.dumps(config))
        save(BertTokenizer.from_pretrained(folder), out / name / "json")

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        lines, vocab_size=600, min_frequency=2, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    folder = out / "gpt2" / "files"
    trained.save_model(str(folder))
    save(GPT2Tokenizer.from_pretrained(folder), out / "gpt2" / "json")

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        lines, vocab_size=450, min_frequency=2, show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    folder = out / "roberta" / "files"
    trained.save_model(str(folder))
    # transformers 5 forgets, without a configuration, that RoBERTa's mask takes the space before it.
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False,
            "single_word": False, "normalized": False, "special": True}
    write(folder, "tokenizer_config.json", json.dumps({"mask_token": mask}))
    save(RobertaTokenizer.from_pretrained(folder), out / "roberta" / "json")
    (folder / "tokenizer_config.json").unlink()

    folder = out / "t5" / "files"
    rules = folder / "rules.tsv"
    hexes = lambda s: " ".join(f"{ord(c):X}" for c in s)
    rules.write_text("".join(f"{hexes(a)}\t{hexes(b)}\n" for a, b in RULES))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "spiece"), vocab_size=500,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_tsv=str(rules),
        character_coverage=0.995, minloglevel=2, num_threads=1,
    )
    rules.unlink()
    (folder / "spiece.vocab").unlink()
    save(T5Tokenizer.from_pretrained(folder), out / "t5" / "json")


def save(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    # The same without line breaks and indentation: a third of the bytes.
    file = folder / "tokenizer.json"
    write(folder, file.name, json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
