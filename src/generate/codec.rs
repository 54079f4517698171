//! Tokens to pixels and back. A codec is one implementation of [`PatchCodec`]: a palette, in which a
//! token is the colour of one pixel, or the image tokenizer of LlamaGen.

use serde_json::{Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::image::preprocess::Preprocess;
use crate::models::generative::vq::Vq;
use crate::models::sequence::{Codec, GeneratorInfo};
use crate::ops::NearestCode;
use crate::session::{ModelFiles, Runtime};
use crate::tensor::{HostTensor, Size, TensorDesc};
use crate::textfile;

/// An image of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedImage {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// (H,W,3).
    pub pixels: Vec<u8>,
}

/// Turns whole images into tokens and back.
pub(super) trait PatchCodec: Send + Sync {
    /// How images are brought to the size of the model.
    fn preprocess(&self) -> &Preprocess;

    /// Images of whole sequences, whose ids are within the vocabulary: (H,W,3) each, about [-1, 1].
    fn decode(&self, info: &GeneratorInfo, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>>;

    /// Tokens of images (H,W,3) of the model's size.
    fn encode(&self, info: &GeneratorInfo, pictures: &[&[u8]]) -> Result<Vec<Vec<u32>>>;

    /// The graph that decodes so many images, an input for it, and what runs it; `None` if the host
    /// decodes.
    fn decoding(
        &self,
        _info: &GeneratorInfo,
        _pictures: usize,
    ) -> Result<Option<(Graph, HostTensor, &Runtime)>> {
        Ok(None)
    }
}

/// The codec of a model, read from its files.
pub(super) enum Read {
    Palette(Palette),
    Vq(Box<(Vq, Checkpoint, Preprocess)>),
}

/// Reads the codec of a model.
pub(super) fn read(files: &mut ModelFiles, info: &GeneratorInfo) -> Result<Read> {
    match info.codec {
        Codec::Palette => Ok(Read::Palette(Palette::open(files, info)?)),
        Codec::Vq => Tokenizer::read(files, info),
    }
}

impl Read {
    /// On the device of the model.
    pub(super) fn ready(self, runtime: &Runtime) -> Box<dyn PatchCodec> {
        match self {
            Read::Palette(palette) => Box::new(palette),
            Read::Vq(read) => {
                let (vq, checkpoint, preprocess) = *read;
                let runtime = runtime.beside(checkpoint.name().to_owned(), checkpoint);
                Box::new(Tokenizer { vq, runtime, preprocess })
            }
        }
    }
}

/// Colours in [-1, 1].
pub(super) struct Palette {
    colours: Vec<[f32; 3]>,
    preprocess: Preprocess,
}

impl Palette {
    fn open(files: &ModelFiles, info: &GeneratorInfo) -> Result<Self> {
        let Some((name, text)) = &files.preprocessor else {
            let help = "it holds the colours under `clusters`; download it beside config.json";
            return Err(Error::model("preprocessor_config.json", "is missing", help));
        };
        let json: Json =
            textfile::json(text.as_bytes()).map_err(|what| Error::model(name, what, "download it again"))?;
        let colour = |c: &Json| -> Option<[f32; 3]> {
            let values: Vec<f32> =
                c.as_array()?.iter().filter_map(|v| v.as_f64().map(|v| v as f32)).collect();
            values.iter().all(|v| v.is_finite()).then_some(())?;
            values.try_into().ok()
        };
        let colours: Option<Vec<[f32; 3]>> =
            json.get("clusters").and_then(Json::as_array).map(|list| list.iter().map_while(colour).collect());
        let colours = colours.unwrap_or_default();
        if colours.len() != info.vocabulary {
            let what =
                format!("`clusters` holds {} colours, the model draws {}", colours.len(), info.vocabulary);
            return Err(Error::model(name, what, "it belongs to another checkpoint"));
        }
        let preprocess = Preprocess::from_json(name, text, Some("imagegpt"))?.with_size(info.image_size)?;
        Ok(Self { colours, preprocess })
    }
}

impl PatchCodec for Palette {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn decode(&self, _info: &GeneratorInfo, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let picture = |ids: &Vec<u32>| ids.iter().flat_map(|&id| self.colours[id as usize]).collect();
        Ok(tokens.iter().map(picture).collect())
    }

    fn encode(&self, _info: &GeneratorInfo, pictures: &[&[u8]]) -> Result<Vec<Vec<u32>>> {
        let nearest = |pixel: &[u8]| {
            let x = [0, 1, 2].map(|i| f32::from(pixel[i]) / 127.5 - 1.0);
            let distance = |c: &[f32; 3]| (0..3).map(|i| (x[i] - c[i]) * (x[i] - c[i])).sum::<f32>();
            let far = |best: (usize, f32), (i, d): (usize, f32)| if d < best.1 { (i, d) } else { best };
            self.colours.iter().map(distance).enumerate().fold((0, f32::INFINITY), far).0 as u32
        };
        Ok(pictures.iter().map(|pixels| pixels.chunks(3).map(nearest).collect()).collect())
    }
}

/// Most pixels that go through the tokenizer at a time: beyond, activations cost more than launches.
const MOST_PIXELS: usize = 256 * 256;

/// LlamaGen's image tokenizer, on the device.
struct Tokenizer {
    vq: Vq,
    runtime: Runtime,
    preprocess: Preprocess,
}

impl Tokenizer {
    fn read(files: &mut ModelFiles, info: &GeneratorInfo) -> Result<Read> {
        let checkpoint = files.codec.take().ok_or_else(|| {
            let help = "convert the tokenizer (vq_ds16_c2i.pt) too, as the README says";
            Error::model("vq.safetensors", "is missing", help)
        })?;
        let vq = Vq::open(&files.config, checkpoint.index())?;
        if vq.codes < info.vocabulary {
            let what = format!("the codebook has {} codes, the decoder draws {}", vq.codes, info.vocabulary);
            return Err(Error::model("vq.safetensors", what, "it belongs to another checkpoint"));
        }
        let Size { height, width } = info.image_size;
        let half = [0.5; 3];
        let processor = json!({
            "image_processor_type": "BitImageProcessor", "resample": 3,
            "do_resize": true, "size": {"shortest_edge": height.min(width)},
            "do_center_crop": true, "crop_size": {"height": height, "width": width},
            "do_rescale": true, "do_normalize": true, "image_mean": half, "image_std": half,
        });
        let preprocess =
            Preprocess::from_json("the tokenizer's preprocessing", &processor.to_string(), None)?;
        Ok(Read::Vq(Box::new((vq, checkpoint, preprocess))))
    }

    /// Runs a graph of one input and one output, made by `build`.
    fn run(
        &self,
        what: &str,
        input: HostTensor,
        build: impl FnOnce(&mut Graph, Value) -> Result<Value>,
    ) -> Result<HostTensor> {
        let desc = input.desc();
        let results = self.runtime.run(&(what, desc), || Self::graph(desc, build), &[("x", input)]);
        Ok(results?.remove(0))
    }

    fn graph(desc: TensorDesc, build: impl FnOnce(&mut Graph, Value) -> Result<Value>) -> Result<Graph> {
        let mut g = Graph::new();
        let x = g.input("x", desc);
        let y = build(&mut g, x)?;
        g.output("y", y);
        g.check()?;
        Ok(g)
    }
}

impl PatchCodec for Tokenizer {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn decode(&self, info: &GeneratorInfo, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let Size { height, width } = info.image_size;
        let mut most = (MOST_PIXELS / (height * width)).clamp(1, 16);
        let mut pictures = Vec::with_capacity(tokens.len());
        while pictures.len() < tokens.len() {
            let part = &tokens[pictures.len()..tokens.len().min(pictures.len() + most)];
            let ids = HostTensor::u32([part.len(), info.tokens], part.concat());
            let made = self.run("decode", ids, |g, ids| Ok(self.vq.decode(g, ids, info.grid)));
            if let Some(made) = self.runtime.fitting(made, part.len(), &mut most, " images")? {
                pictures.extend(made.to_f32().chunks(height * width * 3).map(<[f32]>::to_vec));
            }
        }
        Ok(pictures)
    }

    fn decoding(
        &self,
        info: &GeneratorInfo,
        pictures: usize,
    ) -> Result<Option<(Graph, HostTensor, &Runtime)>> {
        let ids = HostTensor::u32([pictures, info.tokens], vec![0; pictures * info.tokens]);
        let graph = Self::graph(ids.desc(), |g, ids| Ok(self.vq.decode(g, ids, info.grid)))?;
        Ok(Some((graph, ids, &self.runtime)))
    }

    fn encode(&self, info: &GeneratorInfo, pictures: &[&[u8]]) -> Result<Vec<Vec<u32>>> {
        let Size { height, width } = info.image_size;
        let mut most = (MOST_PIXELS / (height * width)).clamp(1, 16);
        let mut tokens = Vec::with_capacity(pictures.len());
        while tokens.len() < pictures.len() {
            let part = &pictures[tokens.len()..pictures.len().min(tokens.len() + most)];
            let x = part.iter().copied().flatten().map(|&b| f32::from(b) / 127.5 - 1.0).collect();
            let x = HostTensor::f32([part.len(), height, width, 3], x);
            let ids = self.run("encode", x, |g, x| self.vq.encode(g, x));
            let Some(ids) = self.runtime.fitting(ids, part.len(), &mut most, " images")? else { continue };
            let ids = ids.as_u32().unwrap_or_default();
            let count = ids.iter().filter(|id| **id == NearestCode::NONE).count();
            if count > 0 {
                let what = format!("codes that {} finds for an image", self.runtime.name);
                return Err(Error::NonFinite { what, count, total: ids.len() });
            }
            tokens.extend(ids.chunks(info.tokens).map(<[u32]>::to_vec));
        }
        Ok(tokens)
    }
}
