"""Train the small tokenizers of text towers in tests/text, of CLIP's, SigLIP's and SigLIP 2's (Gemma's) kinds.

    python make_towers.py ../../tests/text        transformers 5, tokenizers, sentencepiece

CLIP's is written as vocabulary files and as tokenizer.json, SigLIP's as a SentencePiece model, SigLIP 2's as a
tokenizer.json, which are the forms that the hub has.
"""

import json
import pathlib
import shutil
import sys

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, Siglip2Tokenizer

from make_small import RULES, save, write
from texts import corpus


def clip(out, lines):
    ends = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=800, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    # As CLIP's own list: the alphabet, the alphabet at the ends of words, merges, marks.
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    pieces = alphabet + [c + "</w>" for c in alphabet]
    pieces += [a + b for a, b in merges if a + b not in pieces]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces + ends))}
    folder = out / "clip" / "files"
    write(folder, "vocab.json", json.dumps(vocab, ensure_ascii=False))
    write(folder, "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    save(CLIPTokenizer.from_pretrained(folder), out / "clip" / "json")


def siglip(out, lines):
    folder = out / "siglip" / "files"
    rules = folder / "rules.tsv"
    hexes = lambda s: " ".join(f"{ord(c):X}" for c in s)
    rules.write_text("".join(f"{hexes(a)}\t{hexes(b)}\n" for a, b in RULES))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.lower() for line in lines), model_prefix=str(folder / "spiece"), vocab_size=440,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_tsv=str(rules),
        character_coverage=0.995, minloglevel=2, num_threads=1,
    )
    rules.unlink()
    (folder / "spiece.vocab").unlink()


def siglip2(out, lines):
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    alone = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.train_from_iterator(
        (line.lower() for line in lines),
        trainers.BpeTrainer(vocab_size=900, special_tokens=special + alone, limit_alphabet=80, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    made = Siglip2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    eos = ("<eos>", made.convert_tokens_to_ids("<eos>"))
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", special_tokens=[eos])
    save(made, out / "siglip2" / "json")


def main(out):
    lines = corpus()
    for name, forms in [("clip", ["files", "json"]), ("siglip", ["files"]), ("siglip2", ["json"])]:
        shutil.rmtree(out / name, ignore_errors=True)
        for form in forms:
            (out / name / form).mkdir(parents=True)
    clip(out, lines)
    siglip(out, lines)
    siglip2(out, lines)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
