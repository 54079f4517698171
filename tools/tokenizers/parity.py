"""What the original tokenizers make of the texts in texts.py, for tests/text.rs to compare with.

    python parity.py FOLDER FAMILY OUT.json [--slow] [--here]

FOLDER holds a checkpoint's tokenizer, FAMILY is bert, roberta, gpt2, t5, modernbert, clip,
siglip or siglip2.  The original is the
class of the installed `transformers`; with --slow (transformers 4 only) the one in pure Python or,
for T5, in SentencePiece, which knows no offsets.  The stored cases were written so:

    python texts.py ../../tests/text/texts.json
    for t in bert:bert bert_cased:bert gpt2:gpt2 roberta:roberta t5:t5 modernbert:modernbert; do
        python parity.py ../../tests/text/${t%:*}/json ${t#*:} ../../tests/text/${t%:*}/cases.json --here
    done
    for t in clip/json siglip/files siglip2/json; do
        python parity.py ../../tests/text/$t ${t%/*} ../../tests/text/${t%/*}/cases.json --here
    done

To compare a real vocabulary, write cases into any folder and name it:

    python parity.py ~/models/bert bert /tmp/cases/bert.json
    VIT_GPU_TEXT_CASES=/tmp/cases cargo test --release --test text original -- --nocapture

Cases stand in the order of texts.json.  Offsets are those of Unicode characters.  Long lists and
texts are stored as their length and a digest.
"""

import json
import pathlib
import sys

import transformers
from transformers.utils import logging

from texts import PAIRS, TEXTS

CLASSES = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer", "gpt2": "GPT2Tokenizer", "t5": "T5Tokenizer",
           "modernbert": "PreTrainedTokenizer",
           "clip": "CLIPTokenizer", "siglip": "SiglipTokenizer", "siglip2": "Siglip2Tokenizer"}
LONG = 100


def digest(numbers):
    value = 0
    for n in numbers:
        value = (value * 1_000_003 + n + 1) % 2**64
    return f"{len(numbers)}:{value:016x}"


def short(numbers):
    return numbers if len(numbers) <= LONG else digest(numbers)


def short_text(text):
    return text if len(text) <= LONG else digest(list(text.encode()))


def load(folder, family, slow):
    if slow:
        return getattr(transformers, CLASSES[family]).from_pretrained(folder)
    if transformers.__version__.startswith("4"):
        return getattr(transformers, CLASSES[family] + "Fast").from_pretrained(folder)
    if family == "modernbert":
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return getattr(transformers, CLASSES[family]).from_pretrained(folder)


def run(tokenizer, a, b=None):
    if not tokenizer.is_fast:
        found = tokenizer(a, b, return_token_type_ids=True, verbose=False)
        case = {"ids": short(found["input_ids"]), "types": digest(found["token_type_ids"])}
        if b is None:
            case["plain"] = digest(tokenizer(a, add_special_tokens=False, verbose=False)["input_ids"])
        return case
    # transformers 5 takes an empty second text for none; the tokenizer itself does not.
    inner = tokenizer._tokenizer
    inner.no_truncation()
    inner.no_padding()
    found = inner.encode(a, b)
    case = {
        "ids": short(found.ids),
        "types": digest(found.type_ids),
        "offsets": digest([n for pair in found.offsets for n in pair]),
    }
    if b is None:
        assert found.ids == tokenizer(a, verbose=False)["input_ids"], a
        case["plain"] = digest(tokenizer(a, add_special_tokens=False, verbose=False)["input_ids"])
        # The tokenizer's own decoder; transformers 4 tidies up behind it, 5 does not.
        case["decoded"] = short_text(inner.decode(found.ids, skip_special_tokens=False))
        case["shown"] = short_text(inner.decode(found.ids, skip_special_tokens=True))
    return case


def main(folder, family, out, *options):
    logging.set_verbosity_error()
    tokenizer = load(folder, family, "--slow" in options)
    cases = [run(tokenizer, *unpacked) for unpacked in unpack()]
    head = {
        "original": f"transformers {transformers.__version__} {type(tokenizer).__name__}",
        "family": family,
        "folder": str(pathlib.Path(folder).resolve()) if "--here" not in options else "",
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    pathlib.Path(out).write_text(json.dumps(head)[:-1] + ', "cases": [\n' + lines + "\n]}\n")


def unpack():
    """Every text, or pair of texts, in full."""
    for text in TEXTS:
        yield (text[0] * text[1],) if isinstance(text, tuple) else (text,)
    yield from PAIRS


if __name__ == "__main__":
    main(*sys.argv[1:])
