//! Causal attention of new tokens over a KV cache. The cache of a layer is one state (2, B·H, P, D')
//! with D' = D rounded up to fours: first all keys, stored by quads (B·H, D'/4, P, 4) so that
//! neighbouring lanes read neighbouring keys, then all values (B·H, P, D'). Where the new tokens stand is
//! a state too, so one plan serves every step, and no launch's size depends on it.

use super::{Attention, MAX_HEAD_WIDTH, weights_row};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::elementwise::LANES;
use crate::ops::lower::{LowerCx, Operand, Target, to_u32};
use crate::ops::{Op, OpDef, arity, dims, f32s};
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// Attention over a cache that the new tokens join. Operands: q, k and v (B,H,T,D), or one packed
/// tensor (3·B,H,T,D); cache; step (u32, the place of the first new token). Result (B,T,H·D). A place
/// beyond the cache is not entered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CachedAttention {
    /// q, k and v come as one packed tensor.
    pub packed: bool,
    /// The cache is empty: the step is 0, and the new tokens see only each other.
    pub prompt: bool,
    /// k and v are in the cache already.
    pub entered: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

params! {
    /// Parameters of the kernel that enters k and v.
    struct EnterParams { count: u32, heads: u32, tokens: u32, width: u32, positions: u32, k_start: u32, v_start: u32 }
}

params! {
    /// Parameters of attention over a cache.
    struct StepParams { heads: u32, queries: u32, positions: u32, v_start: u32, groups: u32, splits: u32, scale: f32 }
}

static ENTER: Kernel =
    Kernel { name: "cache_enter", source: shader!("cache_enter.wgsl"), params: EnterParams::FIELDS };
static STEP: Kernel = Kernel {
    name: "attention_step",
    source: shader!("lib/row.wgsl", "attention_step.wgsl"),
    params: StepParams::FIELDS,
};
static MERGE: Kernel =
    Kernel { name: "attention_merge", source: shader!("attention_merge.wgsl"), params: StepParams::FIELDS };

/// Most keys whose scores lie in workgroup memory.
const MOST_KEYS: usize = 2048;
/// Keys from which on a GPU shares a head between workgroups.
const SPLIT_KEYS: usize = 512;

impl Graph {
    /// Attention of new tokens over a cache. q, k, v: (B,H,T,D), cache: [`cache_shape`], step: u32;
    /// returns (B,T,H·D). `prompt` says that the cache is empty and the step 0.
    pub fn cached_attention(
        &mut self,
        [q, k, v]: [Value; 3],
        cache: Value,
        step: Value,
        prompt: bool,
        scale: f32,
    ) -> Value {
        let op = CachedAttention { packed: false, prompt, entered: false, scale };
        self.push(Op::CachedAttention(op), vec![q, k, v, cache, step])
    }
}

/// Shape of the cache of one layer.
pub fn cache_shape(batch: usize, heads: usize, positions: usize, head_width: usize) -> Shape {
    Shape::new(&[2, batch * heads, positions, head_width.next_multiple_of(4)])
}

/// Shape rule of cache and step.
pub(crate) fn check(kv: &TensorDesc, step: &TensorDesc, [b, h, t, d]: [usize; 4]) -> Result<(), String> {
    let [_, _, positions, _] = dims("cache", kv)?;
    if kv.shape != cache_shape(b, h, positions, d) || step.dtype != DType::U32 || step.shape.elements() == 0 {
        return Err(format!("cache {kv} and step {step} do not fit heads of [{b},{h},{t},{d}]"));
    }
    if t > positions {
        return Err(format!("{t} tokens do not fit a cache of {positions}"));
    }
    if d > MAX_HEAD_WIDTH {
        return Err(format!("head width {d} is above {MAX_HEAD_WIDTH}"));
    }
    Ok(())
}

/// Where element (bh, place, i) of k and of v lies in a cache of shape (2, B·H, P, D').
fn places([_, rows, positions, width]: [usize; 4], bh: usize, place: usize, i: usize) -> (usize, usize) {
    let k = ((bh * width / 4 + i / 4) * positions + place) * 4 + i % 4;
    (k, ((rows + bh) * positions + place) * width + i)
}

/// The cache after k and v of a packed (3·B,H,T,D) have joined it, by plain loops.
pub(crate) fn enter(qkv: &HostTensor, kv: &HostTensor, step: &HostTensor) -> HostTensor {
    let [b3, h, t, d]: [usize; 4] = dims("qkv", &qkv.desc()).expect("checked by infer");
    let size: [usize; 4] = dims("cache", &kv.desc()).expect("checked by infer");
    let first = step.as_u32().expect("checked by infer")[0] as usize;
    let (x, rows) = (f32s(qkv), b3 / 3 * h);
    let mut cache = f32s(kv).to_vec();
    for bh in 0..rows {
        for ti in (0..t).filter(|ti| first + ti < size[2]) {
            for i in 0..d {
                let (k, v) = places(size, bh, first + ti, i);
                cache[k] = x[((rows + bh) * t + ti) * d + i];
                cache[v] = x[((2 * rows + bh) * t + ti) * d + i];
            }
        }
    }
    HostTensor::f32(kv.shape(), cache)
}

impl CachedAttention {
    /// Operands before the cache.
    fn qkv(&self) -> usize {
        if self.packed { 1 } else { 3 }
    }

    /// q, k and v packed, by plain loops.
    fn packed(&self, inputs: &[&HostTensor]) -> HostTensor {
        if self.packed {
            return inputs[0].clone();
        }
        let [b, h, t, d]: [usize; 4] = dims("q", &inputs[0].desc()).expect("checked by infer");
        HostTensor::f32([3 * b, h, t, d], inputs[..3].iter().flat_map(|x| f32s(x)).copied().collect())
    }

    fn sizes(&self, first: &TensorDesc) -> Result<[usize; 4], String> {
        let [b, h, t, d] = dims("q", first)?;
        match self.packed {
            true if b % 3 == 0 => Ok([b / 3, h, t, d]),
            true => {
                Err(format!("packed operand has shape {}, its first dimension is no triple", first.shape))
            }
            false => Ok([b, h, t, d]),
        }
    }

    /// Workgroups that share a head, and the keys of each.
    fn splits(target: &Target, positions: usize) -> (usize, usize) {
        let most = if target.cpu { MOST_KEYS } else { SPLIT_KEYS };
        let splits = positions.div_ceil(most);
        (splits, positions.div_ceil(splits))
    }

    fn lower_enter(&self, cx: &mut LowerCx) -> Result<()> {
        let at = self.qkv();
        let [b, h, t, d] = self.sizes(&cx.input(0)).expect("checked by infer");
        let part = to_u32("attention operand", 3 * b * h * t * d)? / 3;
        let kv = cx.input(at);
        to_u32("cache", kv.shape.elements())?;
        let variant = Variant::new()
            .with_type("K", cx.input(if self.packed { 0 } else { 1 }).dtype)
            .with_type("V", cx.input(if self.packed { 0 } else { 2 }).dtype)
            .with_type("KV", kv.dtype)
            .with_u32("WG", LANES);
        let params = EnterParams {
            count: part,
            heads: (b * h) as u32,
            tokens: t as u32,
            width: d as u32,
            positions: kv.shape.dims()[2] as u32,
            k_start: if self.packed { part } else { 0 },
            v_start: if self.packed { 2 * part } else { 0 },
        };
        let [k, v] = if self.packed { [0, 0] } else { [1, 2] };
        let binds = vec![cx.operand(k), cx.operand(v), cx.operand(at + 1), cx.operand(at)];
        cx.dispatch(&ENTER, variant, params, binds, (b * h * t * d).div_ceil(LANES))
    }

    fn lower_step(&self, cx: &mut LowerCx) -> Result<()> {
        let at = self.qkv();
        let [b, h, t, d] = self.sizes(&cx.input(0)).expect("checked by infer");
        let kv = cx.input(at);
        let positions = kv.shape.dims()[2];
        let (splits, keys) = Self::splits(cx.target, positions);
        let quads = d.div_ceil(4);
        let across = quads.next_power_of_two();
        // One SIMD register on software adapters, where every further lane costs a barrier.
        let lanes = if cx.target.cpu { across.max(8) } else { across.max(256) };
        let groups = b * h * t * splits;
        let q = cx.input(0).dtype;
        let variant = Variant::new()
            .with_type("Q", q)
            .with_vec4("KV", kv.dtype)
            .with_u32("D", d)
            .with_u32("WG", lanes.min(cx.target.max_invocations as usize))
            .with_u32("ACROSS", across)
            .with_u32("KEYS", keys)
            .with_bool("SPLIT", splits > 1);
        let params = StepParams {
            heads: h as u32,
            queries: t as u32,
            positions: positions as u32,
            v_start: to_u32("cache", kv.shape.elements())? / 8,
            groups: to_u32("attention workgroups", groups)?,
            splits: splits as u32,
            scale: self.scale,
        };
        let read = [cx.operand(0), cx.operand(at), cx.operand(at + 1)];
        if splits == 1 {
            let variant = variant.with_type("Y", cx.output().dtype);
            return cx.dispatch(&STEP, variant, params, [&read[..], &[cx.result()]].concat(), groups);
        }
        let parts: Operand = cx.scratch(groups * (quads * 4 + 4))?;
        let variant = variant.with_type("Y", DType::F32);
        cx.dispatch(&STEP, variant, params, [&read[..], &[parts]].concat(), groups)?;
        let rows = b * h * t;
        let variant =
            Variant::new().with_type("Y", cx.output().dtype).with_u32("D", d).with_u32("WG", across.max(8));
        let params = StepParams { groups: rows as u32, ..params };
        cx.dispatch(&MERGE, variant, params, vec![parts, cx.result()], rows)
    }
}

impl OpDef for CachedAttention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let at = self.qkv();
        arity(inputs, at + 2)?;
        let [b, h, t, d] = self.sizes(&inputs[0])?;
        if inputs[..at].iter().any(|x| x.shape != inputs[0].shape) {
            return Err("q, k and v have different shapes".to_owned());
        }
        check(&inputs[at], &inputs[at + 1], [b, h, t, d])?;
        Ok(TensorDesc::f32([b, t, h * d]))
    }

    fn writes(&self) -> Vec<usize> {
        if self.entered { vec![] } else { vec![self.qkv()] }
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let at = self.qkv();
        let [b, h, t, d] = self.sizes(&inputs[0].desc()).expect("checked by infer");
        let qkv = self.packed(inputs);
        let kv = if self.entered { inputs[at].clone() } else { enter(&qkv, inputs[at], inputs[at + 1]) };
        let size: [usize; 4] = dims("cache", &kv.desc()).expect("checked by infer");
        let first = inputs[at + 1].as_u32().expect("checked by infer")[0] as usize;
        let cache = f32s(&kv);
        let mut y = vec![0.0; out.shape.elements()];
        for (row, y) in y.chunks_mut(d).enumerate() {
            let (bh, ti) = (row / h / t * h + row % h, row / h % t);
            let seen = (first + ti + 1).min(size[2]);
            let row = |s: usize, v: bool| {
                (0..d).map(move |i| {
                    let (k, value) = places(size, bh, s, i);
                    cache[if v { value } else { k }]
                })
            };
            let keys: Vec<f32> = (0..seen).flat_map(|s| row(s, false)).collect();
            let q = &f32s(&qkv)[(bh * t + ti) * d..][..d];
            let weights = weights_row(q, &keys, None, seen, self.scale);
            for (s, weight) in weights.iter().enumerate() {
                for (y, v) in y.iter_mut().zip(row(s, true)) {
                    *y += weight * v;
                }
            }
        }
        debug_assert_eq!(b * t * h * d, out.shape.elements());
        HostTensor::f32(out.shape, y)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let at = self.qkv();
        if self.entered { vec![] } else { vec![enter(&self.packed(inputs), inputs[at], inputs[at + 1])] }
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        let keys = if self.prompt { None } else { inputs[self.qkv()].shape.dims().get(2) };
        self.sizes(&inputs[0])
            .map_or(0, |[b, h, t, d]| 4 * (b * h * t * d * keys.copied().unwrap_or(t)) as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        if !self.entered {
            self.lower_enter(cx)?;
        }
        if self.prompt {
            let among = Attention { packed: self.packed, bias: false, causal: true, scale: self.scale };
            return among.lower(cx);
        }
        self.lower_step(cx)
    }
}
