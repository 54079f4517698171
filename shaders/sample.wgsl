// Draws tokens: one workgroup each, `draws` of a sequence side by side. Exact top-k and top-p by radix
// selection: logits are mapped to integers of the same order, and a histogram of eight bits at a time
// finds the least one that is kept, counting tokens (top-k) or their probability in units of 2^-31
// (top-p), so that the outcome does not depend on the order of additions. Then the maximum of logit plus
// Gumbel noise is the draw. The last workgroup to arrive moves the step on. Prelude: type L; bool GUIDED; u32 WG.

struct Params {
    sequences: u32,   // B
    vocabulary: u32,  // V
    places: u32,      // S, of each sequence
    advance: u32,     // places the step moves on
    draws: u32,       // n
}

@group(0) @binding(0) var<storage, read> logits: array<L>;           // (n·B, V), or (2·n·B, V) if guided
@group(0) @binding(1) var<storage, read> settings: array<u32>;       // ops/sample.rs: Sampling::tensor
@group(0) @binding(2) var<storage, read> samples: array<u32>;        // (B)
@group(0) @binding(3) var<storage, read_write> step: array<atomic<u32>>;  // place, arrivals, not finite
@group(0) @binding(4) var<storage, read_write> tokens: array<u32>;   // (B, S)
@group(0) @binding(5) var<storage, read_write> entropy: array<f32>;  // (B, S)
@group(0) @binding(6) var<storage, read_write> ids: array<u32>;      // (n·B)
@group(0) @binding(7) var<uniform> p: Params;

const LOWEST: f32 = -3.0e38;
const UNIT: f32 = 2147483648.0;

var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> chosen: u32;
var<workgroup> above: u32;
var<workgroup> scores: array<f32, WG>;
var<workgroup> places: array<u32, WG>;
var<workgroup> broken: atomic<u32>;

// An integer of the same order.
fn ordered(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn raw_logit(query: u32, i: u32, scale: f32) -> f32 {
    let c = f32(logits[query * p.vocabulary + i]);
    if GUIDED {
        let u = f32(logits[(query + p.sequences * p.draws) * p.vocabulary + i]);
        return u + (c - u) * scale;
    }
    return c;
}

fn logit(query: u32, i: u32, scale: f32) -> f32 {
    let l = raw_logit(query, i, scale);
    return select(LOWEST, l, finite(l));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let query = wg.y * wgs.x + wg.x;
    if query >= p.sequences * p.draws {
        return;
    }
    let b = query / p.draws;
    let first = atomicLoad(&step[0]) + p.advance - 1u;
    let place = first + query % p.draws;
    let greedy = bitcast<f32>(settings[3]) == 0.0;
    let t = select(bitcast<f32>(settings[3]), 1.0, greedy);
    let top_k = settings[2];
    let top_p = bitcast<f32>(settings[4]);
    let first_scale = bitcast<f32>(settings[5]);
    let scale = first_scale + (bitcast<f32>(settings[6]) - first_scale) * f32(first) / f32(max(settings[7], 1u));
    if lane == 0u {
        atomicStore(&broken, 0u);
    }
    workgroupBarrier();

    var top = LOWEST;
    for (var i = lane; i < p.vocabulary; i += WG) {
        let l = raw_logit(query, i, scale);
        if finite(l) {
            top = max(top, l);
        } else {
            atomicStore(&broken, 1u);
        }
    }
    top = row_max(lane, top);
    var weight = 0.0;
    var moment = 0.0;
    for (var i = lane; i < p.vocabulary; i += WG) {
        let d = (logit(query, i, scale) - top) / t;
        let e = exp(d);
        weight += e;
        moment += select(0.0, e * d, e > 0.0);
    }
    weight = row_sum(lane, weight);
    moment = row_sum(lane, moment);

    var lowest = 0u;
    if !greedy && top_k > 0u && top_k < p.vocabulary {
        lowest = threshold(lane, query, scale, false, top_k - 1u, 0u, top, t, 1.0);
    }
    if !greedy && top_p < 1.0 {
        var left = 0.0;
        for (var i = lane; i < p.vocabulary; i += WG) {
            let l = logit(query, i, scale);
            left += select(0.0, exp((l - top) / t), ordered(l) >= lowest);
        }
        left = row_sum(lane, left);
        lowest = threshold(lane, query, scale, true, u32(top_p * UNIT), lowest, top, t, left);
    }

    let high = settings[1] ^ (samples[b] * 0x9e3779b9u);
    var best = -3.4e38;
    var at = 0xffffffffu;
    for (var i = lane; i < p.vocabulary; i += WG) {
        let l = logit(query, i, scale);
        if ordered(l) >= lowest {
            var score = l / t;
            if !greedy {
                score += gumbel(vec4<u32>(settings[0], high, place, i));
            }
            if score > best || at == 0xffffffffu {
                best = score;
                at = i;
            }
        }
    }
    scores[lane] = best;
    places[lane] = at;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = lane + half;
            // The first of equals wins; a lane without a candidate holds the last place there is.
            if places[other] != 0xffffffffu
                && (places[lane] == 0xffffffffu || scores[other] > scores[lane]
                    || (scores[other] == scores[lane] && places[other] < places[lane])) {
                scores[lane] = scores[other];
                places[lane] = places[other];
            }
        }
        workgroupBarrier();
    }
    if lane > 0u {
        return;
    }
    let id = min(places[0], p.vocabulary - 1u);
    ids[query] = id;
    if place + 1u < p.places {
        tokens[b * p.places + place + 1u] = id;
        entropy[b * p.places + place + 1u] = log(weight) - moment / weight;
    }
    if atomicLoad(&broken) != 0u {
        atomicAdd(&step[2], 1u);
    }
    // Everybody has read the place before he arrives.
    if atomicAdd(&step[1], 1u) + 1u == p.sequences * p.draws {
        atomicStore(&step[1], 0u);
        atomicStore(&step[0], first + 1u);
    }
}

// The least integer, not below `floor`, of which all larger ones together count for no more than `limit`.
fn threshold(
    lane: u32, query: u32, scale: f32, by_mass: bool, limit: u32, floor: u32, top: f32, t: f32, whole: f32,
) -> u32 {
    var prefix = 0u;
    var seen = 0u;
    for (var round = 0u; round < 4u; round++) {
        let shift = 24u - 8u * round;
        for (var i = lane; i < 256u; i += WG) {
            atomicStore(&histogram[i], 0u);
        }
        workgroupBarrier();
        for (var i = lane; i < p.vocabulary; i += WG) {
            let l = logit(query, i, scale);
            let key = ordered(l);
            // Of the first digit nothing is fixed yet, and a shift by 32 has no meaning.
            if key >= floor && (round == 0u || (key >> (shift + 8u)) == (prefix >> (shift + 8u))) {
                var units = 1u;
                if by_mass {
                    units = u32(exp((l - top) / t) / whole * UNIT + 0.5);
                }
                atomicAdd(&histogram[(key >> shift) & 255u], units);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var larger = seen;
            var digit = 255u;
            // Rounding may leave the last digit without the weight to cross the limit.
            while digit > 0u && larger + atomicLoad(&histogram[digit]) <= limit {
                larger += atomicLoad(&histogram[digit]);
                digit -= 1u;
            }
            chosen = digit;
            above = larger;
        }
        workgroupBarrier();
        prefix |= workgroupUniformLoad(&chosen) << shift;
        seen = workgroupUniformLoad(&above);
    }
    return max(prefix, floor);
}
