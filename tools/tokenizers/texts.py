"""Awkward texts, and a little text to train small tokenizers on.

    python texts.py OUT.json        writes the awkward texts, for tests/text.rs
"""

import json
import pathlib
import sys

WORDS = """
the quick brown fox jumps over a lazy dog while seven wizards boil magic potions in quiet kitchens
attention lets every word look at every other word and a mask decides which of them it may see
an encoder reads in both directions a decoder writes from left to right and cross attention joins them
premise hypothesis entailment neutral contradiction question context answer sentence translate summarize
she isn't sure they'll come he's seen what we've done i'm here you'd know don't can't won't it's
river bank money water tree house light dark night morning evening winter summer spring autumn
tokenizing untokenized tokenizer tokens embedding embeddings transformer transformers pretraining
der schnelle braune fuchs springt über den faulen hund und trinkt heißen tee im grünen garten
le renard brun saute par dessus le chien paresseux où était l'été garçon naïve façade œuvre
el zorro marrón salta sobre el perro mañana corazón niño pingüino acción
быстрая коричневая лиса прыгает через ленивую собаку и читает книгу
η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί
الثعلب البني السريع يقفز فوق الكلب الكسول
השועל החום המהיר קופץ מעל הכלב העצלן
素早い茶色の狐がのろまな犬を飛び越える 東京 大阪 言語 模型 注意
敏捷的棕色狐狸跳过了懒狗 语言 模型 注意力 机器 学习
빠른 갈색 여우가 게으른 개를 뛰어넘는다
สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ
तेज भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है
""".split("\n")


def corpus():
    """A few hundred lines in which the words above meet in changing orders."""
    lines = []
    for line in filter(None, WORDS):
        words = line.split()
        for k in range(max(1, len(words))):
            turned = words[k:] + words[:k]
            lines.append(" ".join(turned))
            if k % 3 == 0:
                lines.append(" ".join(turned).capitalize() + ".")
            if k % 5 == 0:
                lines.append(", ".join(turned[:5]) + f"? {k * 37} ({k}.{k}) – “{turned[0].upper()}”!")
    return lines


# Each is a text, or a text and how often it is repeated, or a pair of texts.
TEXTS = [
    "",
    " ",
    "   \t \n ",
    "Hello, world!",
    "  leading and trailing  ",
    "double  spaces   and    more",
    "tabs\tand\nnew\r\nlines\rall\x0bof\x0cthem",
    "NUL \x00 inside, \x07 bell, \x1b[31m escape, \x7f delete",
    "\x00",
    "Isn't it? They'LL've don't; it's he'd I'm we're",
    "The price is $1,234.56 (or 12% off) #hash @at a_b-c/d\\e ~`^|<>[]{}",
    "naïve café – “quotes” ‘single’ … — ellipsis",
    "cafe\u0301 e\u0301e\u0300 n\u0303 A\u030aA\u0327\u0301 \u0301lone",
    "\u0301",
    "\u1e9b\u0323 \ufb01ne \u2460 \uff21\uff22\uff23 \u00bd \u2122 \u212b \ufdfa",
    "İstanbul ıI ẞ ß ΑΣ ς ǅ ŉ",
    "👩\u200d👩\u200d👧\u200d👦 family, 🏳\ufe0f\u200d🌈 flag, 👍🏽 skin, 🇩🇪 DE, 1\ufe0f\u20e3 keycap",
    "zero\u200bwidth\u200cjoiners\u200d and\ufeff BOM \u2060 word\u00adjoiner",
    "\u00a0no\u00a0break\u2003em\u3000ideographic\u2028line\u2029para\u0085nel\u180e",
    "東京は日本の首都です。Tokyo 大阪Osaka",
    "敏捷的棕色狐狸跳过了懒狗，语言模型。\U00020000\U0002a6d6",
    "빠른 갈색 여우 \u1100\u1161\u11a8 jamo",
    "الثعلب البني السريع \u0627\u0651\u0644 مرحبًا ١٢٣",
    "שָׁלוֹם עולם",
    "สุนัขจิ้งจอก ภาษาไทยไม่มีช่องว่าง",
    "तेज भूरी लोमड़ी क्षत्रिय \u0915\u094d\u200d\u0937",
    "Ελληνικά και Русский и English mixed 日本語 عربي",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉 𝟙𝟚𝟛 \U0010ffff \ue000 \ufffd \ufffe",
    "\u202eright to left override\u202c \u200e\u200f marks",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA\u036b\u0357\u0334\u0362\u0335\u031c\u0330\u0354L\u0368\u0367\u0369\u0358\u0320G\u0311\u0357\u030e\u0305\u035b\u0341\u0334\u033b\u0348\u034d\u0354\u0339O\u0342\u030c\u030c\u0358\u0328\u0335\u0339\u033b\u031d\u0333",
    "The [MASK] sat. [CLS][SEP] [PAD] [UNK] [mask] [ MASK ]",
    "a [MASK]b[MASK] c  [MASK]  d",
    "end</s> and <s>start</s>, <pad><unk> <mask> with a<mask>b and  <mask>  spaces",
    "<|endoftext|> once <|endoftext|><|endoftext|>twice <|ENDOFTEXT|>",
    "The <extra_id_0> walks in <extra_id_1> park<extra_id_99>. <extra_id_100> <extra_id_00>",
    "translate English to German: The house is wonderful.",
    "▁meta ▁▁ space▁",
    "##pieces ##ing Ġspace Ċ Âł",
    "a" * 101 + " " + "b" * 100 + " " + "supercalifragilisticexpialidocious" * 3,
    "http://example.org/?q=1&r=%20#frag user@example.org 2026-11-23T16:42:19Z 1e-5 0x1F",
    "end with newline\n",
    "\ufeffstarts with a byte order mark",
    "UPPER lower MiXeD ÀÉÎÕÜ àéîõü ÇŁØĐ",
    "a.b.c ... !!! ?!?! --- ___ ''' \"\"\" ``",
    "one\u2019s ‚low‘ «guillemets» „Gänsefüßchen“ 「鉤括弧」、。",
    ("the quick brown fox ", 50_000),
    ("a", 1_000_000),
    ("é", 20_000),
    (" ", 100_000),
    ("\r\n", 10_000),
    ("東京", 5_000),
    ("👩\u200d👧 ", 2_000),
    ("isn't ", 5_000),
    ("[MASK] ", 2_000),
    ("1", 20_000),
    (". ", 10_000),
    ("e\u0301", 10_000),
]

PAIRS = [
    ("A man sleeps.", "Nobody is awake."),
    ("", ""),
    ("", "only the second"),
    ("only the first", ""),
    ("Where is [SEP] it?", "It's  in </s> the <|endoftext|> kitchen 東京."),
    (" space before", " space before both "),
]


if __name__ == "__main__":
    rows = [t if isinstance(t, tuple) else (t, 1) for t in TEXTS]
    rows = [{"text": t} | ({"times": n} if n > 1 else {}) for t, n in rows]
    rows += [{"text": a, "pair": b} for a, b in PAIRS]
    lines = ",\n".join(json.dumps(row) for row in rows)
    pathlib.Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
