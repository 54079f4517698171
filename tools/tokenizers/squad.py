"""What SQuAD's own program makes of scores, for tests/text.rs to compare with src/text/spans.rs.

    python squad.py ../../tests/text/squad.json        transformers 4 (5 has the program no more)

The context is words `w0 w1 ...`, a token each, some of them alike; scores are random, rounded so
that they can be stored.  Windows, the window that counts for a token, the n best and the case of
no answer are the original's.
"""

import contextlib
import io
import json
import pathlib
import random
import sys
import types

from transformers.data.metrics import squad_metrics
from transformers.data.processors.squad import _new_check_is_max_context

HEAD, TAIL = 6, 1


def case(seed, words, longest, stride, spread):
    rng = random.Random(seed)
    context = [f"w{rng.randrange(words)}" if rng.random() < 0.2 else f"w{i}" for i in range(words)]
    room = longest - HEAD - TAIL
    spans, start = [], 0
    while True:
        spans.append({"start": start, "length": min(room, words - start)})
        if start + room >= words:
            break
        start += min(room, stride)
    features, results, stored = [], [], []
    for w, span in enumerate(spans):
        first, length = span["start"], span["length"]
        places = {HEAD + i: first + i for i in range(length)}
        features.append(types.SimpleNamespace(
            example_index=0,
            unique_id=w,
            tokens=["[CLS]"] * HEAD + context[first : first + length] + ["[SEP]"] * TAIL,
            token_to_orig_map=places,
            token_is_max_context={i: _new_check_is_max_context(spans, w, p) for i, p in places.items()},
        ))
        n = HEAD + length + TAIL
        start, end = ([round(rng.gauss(0, spread), 3) for _ in range(n)] for _ in range(2))
        results.append(types.SimpleNamespace(unique_id=w, start_logits=start, end_logits=end))
        stored.append({"start": start, "end": end})
    example = types.SimpleNamespace(qas_id="q", doc_tokens=context)
    tokenizer = types.SimpleNamespace(convert_tokens_to_string=" ".join)
    out = {"context": " ".join(context), "head": HEAD, "tail": TAIL, "longest": longest, "stride": stride, "windows": stored}
    for version_2 in [False, True]:
        files = [pathlib.Path(f"/tmp/squad_{name}.json") for name in ["best", "n", "null"]]
        squad_metrics.compute_predictions_logits(
            [example], features, results, 20, 30, False, *map(str, files), False, version_2, 0.0, tokenizer)
        best = json.loads(files[1].read_text())["q"]
        out["v2" if version_2 else "v1"] = [[b["text"], round(b["probability"], 9)] for b in best]
        if version_2:
            out["margin"] = round(json.loads(files[2].read_text())["q"], 6)
    return out


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        cases = [case(1, 20, 60, 128, 2), case(2, 60, 40, 12, 3), case(3, 90, 45, 16, 1), case(4, 45, 20, 128, 4)]
    pathlib.Path(sys.argv[1]).write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
