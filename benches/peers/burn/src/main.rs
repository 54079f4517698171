//! ViT by burn's own modules on its wgpu back end.
//!
//! Environment: `PEER_ATTENTION` is `op` (burn's fused attention operator; without autotune burn
//! itself takes separate kernels there), `fallback` (separate kernels), or `mha` (the module
//! `MultiHeadAttention`); `PEER_LINEAR` is `row` or `col`, how weights lie in memory. Shader
//! language, autotune and fusion are features of this package. `CUBECL_WGPU_DEFAULT_DEVICE` picks
//! the adapter, as in every program of burn's.

use std::collections::HashMap;

use burn::module::Param;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::module::{attention, attention_fallback};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use peer_common::{Job, Result, read_weights};

#[derive(Clone, Copy, PartialEq)]
enum Attention {
    Op,
    Fallback,
    Module,
}

fn main() -> Result<()> {
    let job = Job::from_args()?;
    let choice = std::env::var("PEER_ATTENTION").unwrap_or_else(|_| "op".into());
    let kind = match choice.as_str() {
        "op" => Attention::Op,
        "fallback" => Attention::Fallback,
        "mha" => Attention::Module,
        other => return Err(format!("PEER_ATTENTION={other}; there are op, fallback, mha").into()),
    };
    let linear = std::env::var("PEER_LINEAR").unwrap_or_else(|_| "row".into());
    if !matches!(linear.as_str(), "row" | "col") {
        return Err(format!("PEER_LINEAR={linear}; there are row, col").into());
    }
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let text = std::fs::read_to_string(job.model.join("config.json"))?;
    let config: serde_json::Value = serde_json::from_str(&text)?;
    let mut weights = Weights {
        tensors: read_weights(&job.weights())?.into_iter().map(|(n, s, v)| (n, (s, v))).collect(),
        columns: linear == "col",
        device: device.clone(),
    };
    let vit = Vit::load(&config, &mut weights, kind)?;
    let onoff = |on| if on { "on" } else { "off" };
    let about = format!(
        r#"{{"engine": "burn", "version": "0.22.1", "device": "{}", "settings": "autotune {}, fusion {}, attention {choice}, linear {linear}, {}"}}"#,
        device.identity().map_or_else(|| "unknown".into(), |identity| identity.name),
        onoff(cfg!(feature = "autotune")),
        onoff(cfg!(feature = "fusion")),
        if cfg!(feature = "vulkan") { "SPIR-V" } else { "WGSL" },
    );
    job.serve(&about, || {
        let data = TensorData::new(job.image.clone(), job.shape);
        let logits = vit.forward(Tensor::from_data(data, &device));
        logits.into_data().try_to_vec::<f32>().map_err(|e| format!("{e:?}").into())
    })
}

struct Weights {
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    columns: bool,
    device: Device,
}

impl Weights {
    fn take<const D: usize>(&mut self, name: &str) -> Result<Tensor<D>> {
        let (shape, values) = self.tensors.remove(name).ok_or_else(|| format!("no tensor {name}"))?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    fn param<const D: usize>(&mut self, name: &str) -> Result<Param<Tensor<D>>> {
        Ok(Param::from_tensor(self.take(name)?))
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        let key = format!("{name}.weight");
        let weight = if self.columns {
            self.take::<2>(&key)?.transpose()
        } else {
            let (shape, values) = self.tensors.remove(&key).ok_or_else(|| format!("no tensor {key}"))?;
            let [v, c] = [shape[0], shape[1]];
            let turned = (0..v * c).map(|i| values[(i % v) * c + i / v]).collect();
            Tensor::from_data(TensorData::new(turned, [c, v]), &self.device)
        };
        let [c, v] = weight.dims();
        let mut linear = LinearConfig::new(c, v).init(&self.device);
        linear.weight = Param::from_tensor(weight);
        linear.bias = Some(self.param(&format!("{name}.bias"))?);
        Ok(linear)
    }

    fn norm(&mut self, name: &str, epsilon: f64) -> Result<LayerNorm> {
        let gamma = self.param::<1>(&format!("{name}.weight"))?;
        let [c] = gamma.dims();
        let mut norm = LayerNormConfig::new(c).with_epsilon(epsilon).init(&self.device);
        norm.gamma = gamma;
        norm.beta = Some(self.param(&format!("{name}.bias"))?);
        Ok(norm)
    }
}

struct Vit {
    patches: Conv2d,
    cls: Tensor<3>,
    positions: Tensor<3>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

struct Block {
    before: LayerNorm,
    attention: MultiHeadAttention,
    kind: Attention,
    after: LayerNorm,
    up: Linear,
    gelu: Gelu,
    down: Linear,
}

impl Vit {
    fn load(config: &serde_json::Value, weights: &mut Weights, kind: Attention) -> Result<Self> {
        let number = |key: &str| config[key].as_u64().map(|n| n as usize).ok_or(format!("no {key}"));
        let epsilon = config["layer_norm_eps"].as_f64().ok_or("no layer_norm_eps")?;
        let (c, p) = (number("hidden_size")?, number("patch_size")?);
        let heads = number("num_attention_heads")?;
        let mut patches = Conv2dConfig::new([3, c], [p, p]).with_stride([p, p]).init(&weights.device);
        let projection = "vit.embeddings.patch_embeddings.projection";
        patches.weight = weights.param(&format!("{projection}.weight"))?;
        patches.bias = Some(weights.param(&format!("{projection}.bias"))?);
        let blocks = (0..number("num_hidden_layers")?)
            .map(|i| {
                let layer = format!("vit.encoder.layer.{i}");
                let config = MultiHeadAttentionConfig::new(c, heads).with_dropout(0.0);
                let mut attention = config.init(&weights.device);
                attention.query = weights.linear(&format!("{layer}.attention.attention.query"))?;
                attention.key = weights.linear(&format!("{layer}.attention.attention.key"))?;
                attention.value = weights.linear(&format!("{layer}.attention.attention.value"))?;
                attention.output = weights.linear(&format!("{layer}.attention.output.dense"))?;
                Ok(Block {
                    before: weights.norm(&format!("{layer}.layernorm_before"), epsilon)?,
                    attention,
                    kind,
                    after: weights.norm(&format!("{layer}.layernorm_after"), epsilon)?,
                    up: weights.linear(&format!("{layer}.intermediate.dense"))?,
                    gelu: Gelu::new(),
                    down: weights.linear(&format!("{layer}.output.dense"))?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            patches,
            cls: weights.take("vit.embeddings.cls_token")?,
            positions: weights.take("vit.embeddings.position_embeddings")?,
            blocks,
            norm: weights.norm("vit.layernorm", epsilon)?,
            head: weights.linear("classifier")?,
        })
    }

    fn forward(&self, image: Tensor<4>) -> Tensor<2> {
        let [b, ..] = image.dims();
        let patches: Tensor<3> = self.patches.forward(image).flatten(2, 3);
        let cls = self.cls.clone().repeat_dim(0, b);
        let mut x = Tensor::cat(vec![cls, patches.swap_dims(1, 2)], 1) + self.positions.clone();
        for block in &self.blocks {
            x = block.forward(x);
        }
        // Only the class token is read, so only its row is normalised.
        let [b, _, c] = x.dims();
        let cls = x.slice([0..b, 0..1, 0..c]).reshape([b, c]);
        self.head.forward(self.norm.forward(cls))
    }
}

impl Block {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attend(self.before.forward(x));
        let y = self.down.forward(self.gelu.forward(self.up.forward(self.after.forward(x.clone()))));
        x + y
    }

    fn attend(&self, x: Tensor<3>) -> Tensor<3> {
        let mha = &self.attention;
        if self.kind == Attention::Module {
            return mha.forward(MhaInput::self_attn(x)).context;
        }
        let [b, t, c] = x.dims();
        let (h, d) = (mha.n_heads, mha.d_k);
        let heads = |linear: &Linear| linear.forward(x.clone()).reshape([b, t, h, d]).swap_dims(1, 2);
        let (q, k, v) = (heads(&mha.query), heads(&mha.key), heads(&mha.value));
        let run = if self.kind == Attention::Op { attention } else { attention_fallback };
        let context = run(q, k, v, None, None, Default::default());
        mha.output.forward(context.swap_dims(1, 2).reshape([b, t, c]))
    }
}
