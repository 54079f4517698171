// Logits by the rules of a checkpoint's generation configuration: one workgroup a sequence. The logits are
// copied; what the sequence holds already is penalised; then tokens that may not come get the lowest score,
// and at a place with a forced token all others do. Lanes may write the same value to the same token.
// Prelude: type L; u32 WG.

struct Params {
    sequences: u32,   // B
    vocabulary: u32,  // V
    places: u32,      // S, of each sequence
    advance: u32,     // places the step moves on
}

@group(0) @binding(0) var<storage, read> logits: array<L>;                 // (B, V)
@group(0) @binding(1) var<storage, read> rules: array<u32>;                // ops/process_logits.rs: LogitsRules::tensor
@group(0) @binding(2) var<storage, read> step: array<u32>;                 // place
@group(0) @binding(3) var<storage, read> tokens: array<u32>;               // (B, S)
@group(0) @binding(4) var<storage, read_write> y: array<atomic<u32>>;      // (B, V), bits of f32
@group(0) @binding(5) var<uniform> p: Params;

const LOWEST: f32 = -3.0e38;
const NONE = 0xffffffffu;

fn put(row: u32, id: u32, v: f32) {
    if id < p.vocabulary {
        atomicStore(&y[row * p.vocabulary + id], bitcast<u32>(v));
    }
}

// Whether `count` of the rules' words from `first` on are the last tokens of a sequence of `length`.
fn ends_with(row: u32, length: u32, first: u32, count: u32) -> bool {
    if count > length {
        return false;
    }
    for (var i = 0u; i < count; i++) {
        if tokens[row * p.places + length - count + i] != rules[first + i] {
            return false;
        }
    }
    return true;
}

// Whether the tokens before place `t` are the last ones of a sequence of `length`, `count` of them.
fn repeats(row: u32, length: u32, t: u32, count: u32) -> bool {
    for (var i = 1u; i <= count; i++) {
        if tokens[row * p.places + t - i] != tokens[row * p.places + length - i] {
            return false;
        }
    }
    return true;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.sequences {
        return;
    }
    // Tokens that stand there; the next is drawn for this place.
    let length = min(step[0] + p.advance, p.places);
    let start = row * p.vocabulary;
    for (var i = lane; i < p.vocabulary; i += WG) {
        atomicStore(&y[start + i], bitcast<u32>(f32(logits[start + i])));
    }
    storageBarrier();

    let penalty = bitcast<f32>(rules[0]);
    if penalty != 1.0 {
        for (var t = lane; t < length; t += WG) {
            let id = tokens[row * p.places + t];
            if id < p.vocabulary {
                let l = f32(logits[start + id]);
                put(row, id, select(l / penalty, l * penalty, l < 0.0));
            }
        }
    }
    storageBarrier();

    let ngram = rules[1];
    if ngram > 0u {
        for (var t = ngram - 1u + lane; t < length; t += WG) {
            if repeats(row, length, t, ngram - 1u) {
                put(row, tokens[row * p.places + t], LOWEST);
            }
        }
    }
    // Lists of tokens: those that end a text, for as long as none may; suppressed ones; those suppressed first.
    var first = 10u;
    for (var list = 0u; list < 3u; list++) {
        let count = rules[7u + list];
        let holds = list == 1u || (list == 0u && length < rules[2]) || (list == 2u && length == rules[3]);
        for (var i = lane; holds && i < count; i += WG) {
            put(row, rules[first + i], LOWEST);
        }
        first += count;
    }
    // Sequences that may not come, each behind its length; a length of 0 ends them.
    for (var i = 0u; rules[first] > 0u; i++) {
        let count = rules[first];
        if i % WG == lane && ends_with(row, length, first + 1u, count - 1u) {
            put(row, rules[first + count], LOWEST);
        }
        first += count + 1u;
    }
    storageBarrier();

    var forced = NONE;
    if length == 1u {
        forced = rules[4];
    }
    if length == rules[5] {
        forced = rules[6];
    }
    if forced != NONE {
        for (var i = lane; i < p.vocabulary; i += WG) {
            put(row, i, select(LOWEST, 0.0, i == forced));
        }
    }
}
