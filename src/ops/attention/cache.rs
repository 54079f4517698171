//! Causal attention of new tokens over a KV cache. The cache of a layer is one state (2, B·H, P, D')
//! with D' = D rounded up to fours: first all keys, stored by quads (B·H, D'/4, P, 4) so that
//! neighbouring lanes read neighbouring keys, then all values (B·H, P, D'). Where the new tokens stand is
//! a state too, so one plan serves every step, and no launch's size depends on it.

use super::full::Attention;
use super::rules::{BiasAt, MAX_HEAD_WIDTH, Sizes, weights_row};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::elementwise::LANES;
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::ops::target::Target;
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// Attention over a cache that the new tokens join. Operands: q, k and v (B,H,T,D), or one packed
/// tensor (3·B,H,T,D); cache; step (u32, the place of the first new token); then a bias (H,R), R >= P, if
/// set: its last column is added to the score of a query's own place, the one before it to that of the
/// place before, and so on; then rows (B,P) u32 if it is a tree. The cache may have more rows than B, a
/// multiple: a prompt is entered in all of them. Result (B,T,H·D). A place beyond the cache is not entered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CachedAttention {
    /// q, k and v come as one packed tensor.
    pub packed: bool,
    /// The cache is empty: the step is 0, and the new tokens see only each other.
    pub prompt: bool,
    /// k and v are in the cache already.
    pub entered: bool,
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Whose row of the cache holds a place of a sequence is said for each: sequences that split share
    /// what they had in common. Not with a prompt.
    pub tree: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

params! {
    /// Parameters of the kernel that enters k and v.
    struct EnterParams {
        count: u32, heads: u32, sources: u32, tokens: u32, width: u32, positions: u32, k_start: u32, v_start: u32,
    }
}

params! {
    /// Parameters of attention over a cache.
    struct StepParams {
        heads: u32, queries: u32, positions: u32, v_start: u32, groups: u32, splits: u32, biases: u32, scale: f32,
    }
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
    /// Attention of new tokens over a cache. q, k, v: (B,H,T,D), bias: (H,R); returns (B,T,H·D). `prompt`
    /// says that the cache is empty and the step 0.
    pub fn cached_attention(
        &mut self,
        [q, k, v]: [Value; 3],
        cache: Cache,
        prompt: bool,
        bias: Option<Value>,
        scale: f32,
    ) -> Value {
        let Cache { kv, step, rows } = cache;
        let rows = rows.filter(|_| !prompt);
        let (bias_set, tree) = (bias.is_some(), rows.is_some());
        let op = CachedAttention { packed: false, prompt, entered: false, bias: bias_set, tree, scale };
        let inputs = [q, k, v, kv, step].into_iter().chain(bias).chain(rows);
        self.push(op, inputs.collect())
    }
}

/// What attention over a cache needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Keys and values: [`cache_shape`].
    pub kv: Value,
    /// Place of the first new token: u32.
    pub step: Value,
    /// Whose row holds a place of a sequence: (B,P) u32; its own, if absent.
    pub rows: Option<Value>,
}

/// Shape of the cache of one layer.
pub fn cache_shape(batch: usize, heads: usize, positions: usize, head_width: usize) -> Shape {
    Shape::new(&[2, batch * heads, positions, head_width.next_multiple_of(4)])
}

/// Shape rule of cache and step.
pub(crate) fn check(kv: &TensorDesc, step: &TensorDesc, [b, h, t, d]: [usize; 4]) -> Result<(), String> {
    let [_, _, positions, _] = dims("cache", kv)?;
    let rows = kv.shape.dims()[1];
    let fits = rows > 0 && rows.is_multiple_of(b * h) && kv.shape == cache_shape(rows, 1, positions, d);
    if !fits || step.dtype != DType::U32 || step.shape.elements() == 0 {
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
    let third = b3 / 3 * h * t * d;
    let x = f32s(qkv);
    let first = step.as_u32().expect("checked by infer")[0] as usize;
    fill([&x[third..2 * third], &x[2 * third..]], [b3 / 3 * h, t, d], kv, first)
}

/// The cache after k and v of so many heads, tokens and columns have joined it from place `first` on.
/// Fewer heads than the cache has are repeated.
pub(super) fn fill(
    [k, v]: [&[f32]; 2],
    [heads, t, d]: [usize; 3],
    kv: &HostTensor,
    first: usize,
) -> HostTensor {
    let size: [usize; 4] = dims("cache", &kv.desc()).expect("checked by infer");
    let mut cache = f32s(kv).to_vec();
    for bh in 0..size[1] {
        for ti in (0..t).filter(|ti| first + ti < size[2]) {
            for i in 0..d {
                let (to_k, to_v) = places(size, bh, first + ti, i);
                let from = (bh % heads * t + ti) * d + i;
                cache[to_k] = k[from];
                cache[to_v] = v[from];
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
}

/// Enters k and v into a cache.
pub(super) struct Entry {
    /// Operands k and v, and the elements at which they begin.
    pub(super) k: (usize, usize),
    pub(super) v: (usize, usize),
    /// Heads of k in all, tokens and head width.
    pub(super) sizes: [usize; 3],
    /// Operand that is the cache.
    pub(super) cache: usize,
    /// Operand that says where to begin; place 0 without.
    pub(super) step: Option<usize>,
}

impl Entry {
    pub(super) fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [sources, tokens, width] = self.sizes;
        let kv = cx.input(self.cache);
        let heads = kv.shape.dims()[1];
        let count = to_u32("attention operand", heads * tokens * width)?;
        to_u32("cache", kv.shape.elements())?;
        let variant = Variant::new()
            .with_type("K", cx.input(self.k.0).dtype)
            .with_type("V", cx.input(self.v.0).dtype)
            .with_type("KV", kv.dtype)
            .with_u32("WG", LANES)
            .with_bool("STEP", self.step.is_some());
        let params = EnterParams {
            count,
            heads: heads as u32,
            sources: sources as u32,
            tokens: tokens as u32,
            width: width as u32,
            positions: kv.shape.dims()[2] as u32,
            k_start: to_u32("attention operand", self.k.1)?,
            v_start: to_u32("attention operand", self.v.1)?,
        };
        let read = [self.k.0, self.v.0, self.step.unwrap_or(self.k.0), self.cache];
        let binds = read.map(|i| cx.operand(i)).to_vec();
        cx.dispatch(&ENTER, variant, params, binds, (count as usize).div_ceil(LANES))
    }
}

/// Attention over what a cache holds; q is operand 0.
pub(super) struct Reach {
    /// B, H, T, D.
    pub(super) sizes: [usize; 4],
    /// Operand that is the cache.
    pub(super) cache: usize,
    /// Operand that says where the first query stands, or how many keys count.
    pub(super) step: usize,
    /// The latter.
    pub(super) cross: bool,
    /// Operand that is the bias.
    pub(super) bias: Option<usize>,
    /// Operand that says whose row holds a place.
    pub(super) rows: Option<usize>,
    pub(super) scale: f32,
}

impl Reach {
    /// Workgroups that share a head, and the keys of each.
    fn splits(target: &Target, positions: usize) -> (usize, usize) {
        let most = if target.cpu { MOST_KEYS } else { SPLIT_KEYS };
        let splits = positions.div_ceil(most);
        (splits, positions.div_ceil(splits))
    }

    pub(super) fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, h, t, d] = self.sizes;
        let kv = cx.input(self.cache);
        let positions = kv.shape.dims()[2];
        let (splits, keys) = Self::splits(cx.target, positions);
        let quads = d.div_ceil(4);
        let across = quads.next_power_of_two();
        // One SIMD register on software adapters, where every further lane costs a barrier.
        let lanes = if cx.target.cpu { across.max(8) } else { across.max(256) };
        let groups = b * h * t * splits;
        let variant = Variant::new()
            .with_type("Q", cx.input(0).dtype)
            .with_vec4("KV", kv.dtype)
            .with_u32("D", d)
            .with_u32("WG", lanes.min(cx.target.max_invocations as usize))
            .with_u32("ACROSS", across)
            .with_u32("KEYS", keys)
            .with_bool("SPLIT", splits > 1)
            .with_bool("CROSS", self.cross)
            .with_bool("BIAS", self.bias.is_some())
            .with_bool("TREE", self.rows.is_some());
        let params = StepParams {
            heads: h as u32,
            queries: t as u32,
            positions: positions as u32,
            v_start: to_u32("cache", kv.shape.elements())? / 8,
            groups: to_u32("attention workgroups", groups)?,
            splits: splits as u32,
            biases: self.bias.map_or(0, |i| cx.input(i).shape.width() as u32),
            scale: self.scale,
        };
        let operands = [0, self.cache, self.step, self.bias.unwrap_or(0), self.rows.unwrap_or(0)];
        let read = operands.map(|i| cx.operand(i));
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

/// Attention of one query over the first `seen` places of a cache of shape `size`, by plain loops.
/// `head_of` says which head of the cache holds a place.
pub(super) fn attend(
    cache: &HostTensor,
    q: &[f32],
    head_of: impl Fn(usize) -> usize,
    seen: usize,
    bias: Option<Vec<f32>>,
    scale: f32,
) -> Vec<f32> {
    let size: [usize; 4] = dims("cache", &cache.desc()).expect("checked by infer");
    let (cache, d) = (f32s(cache), q.len());
    let key = |s: usize| {
        let head = head_of(s);
        (0..d).map(move |i| cache[places(size, head, s, i).0])
    };
    let keys: Vec<f32> = (0..seen).flat_map(key).collect();
    let weights = weights_row(q, &keys, bias, 0..seen, scale);
    let sum = |i: usize| {
        let values =
            weights.iter().enumerate().map(|(s, weight)| weight * cache[places(size, head_of(s), s, i).1]);
        values.sum()
    };
    (0..d).map(sum).collect()
}

impl OpDef for CachedAttention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let at = self.qkv();
        arity(inputs, at + 2 + usize::from(self.bias) + usize::from(self.tree))?;
        let [b, h, t, d] = self.sizes(&inputs[0])?;
        if inputs[..at].iter().any(|x| x.shape != inputs[0].shape) {
            return Err("q, k and v have different shapes".to_owned());
        }
        check(&inputs[at], &inputs[at + 1], [b, h, t, d])?;
        if self.bias {
            let [heads, columns] = dims("bias", &inputs[at + 2])?;
            if heads != h || columns < inputs[at].shape.dims()[2] {
                return Err(format!("bias {} does not reach over cache {}", inputs[at + 2], inputs[at]));
            }
        }
        if self.tree {
            let rows = &inputs[inputs.len() - 1];
            let want = [b, inputs[at].shape.dims()[2]];
            if rows.dtype != DType::U32 || rows.shape.dims() != want || self.prompt {
                return Err(format!("rows are {rows}, expected u32 {want:?} and no prompt"));
            }
        }
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
        let mut y = Vec::with_capacity(out.shape.elements());
        for row in 0..b * t * h {
            let (bh, ti) = (row / h / t * h + row % h, row / h % t);
            let seen = (first + ti + 1).min(size[2]);
            let bias = self.bias.then(|| {
                let columns = inputs[at + 2].shape().width();
                f32s(inputs[at + 2])[row % h * columns..][columns - seen..columns].to_vec()
            });
            let rows = self.tree.then(|| inputs[inputs.len() - 1].as_u32().expect("checked by infer"));
            let head = |s: usize| rows.map_or(bh, |rows| rows[bh / h * size[2] + s] as usize * h + bh % h);
            y.extend(attend(&kv, &f32s(&qkv)[(bh * t + ti) * d..][..d], head, seen, bias, self.scale));
        }
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

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let at = self.qkv();
        let [b, h, t, d] = self.sizes(&cx.input(0)).expect("checked by infer");
        if !self.entered {
            let part = b * h * t * d;
            let [k, v] = if self.packed { [(0, part), (0, 2 * part)] } else { [(1, 0), (2, 0)] };
            let entry = Entry { k, v, sizes: [b * h, t, d], cache: at, step: Some(at + 1) };
            entry.lower(cx)?;
        }
        let bias = self.bias.then_some(at + 2);
        let rows = self.tree.then(|| at + 2 + usize::from(self.bias));
        if self.prompt {
            let among = Attention {
                packed: self.packed,
                bias: false,
                causal: true,
                window: None,
                lengths: false,
                scale: self.scale,
            };
            let table = bias.map(|i| {
                let columns = cx.input(i).shape.width();
                (i, BiasAt::relative(columns, columns - 1))
            });
            return among.launch(cx, &Sizes { b, h, t, s: t, d }, table, None);
        }
        let reach = Reach {
            sizes: [b, h, t, d],
            cache: at,
            step: at + 1,
            cross: false,
            bias,
            rows,
            scale: self.scale,
        };
        reach.lower(cx)
    }
}
