//! `vit-gpu generate`: images drawn token by token, with everything that shows how; texts in
//! `generate/texts.rs`.
//!
//! Arguments, files to be written and the model's own words are all checked before a device is opened:
//! the model is first looked at without one.

pub(super) mod args;
mod outputs;
mod preview;
mod texts;

use crate::printable::escaped;
use crate::render::growth::{FRAMES, Growth, Show};
use crate::render::sheet::Sheet;
use crate::render::{animation, entropy, sheet};
pub(super) use outputs::{Begun, Gallery};

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::args::DtypeArg;
use super::locate::{Found, locate_or};
use super::open;
use super::outcome::{Outcome, Stop};
use super::outfile;
use super::talk::Talk;
use crate::checkpoint::Checkpoint;
use crate::cli::generate::args::{GenerateArgs, When};
use crate::error::{Error, Result};
use crate::generate::recipe::{Recipe, Wishes};
use crate::generate::{Generator, GeneratorInfo, Stats, tokenfile};
use crate::hub;
use crate::image;
use crate::image::{DecodeOptions, Decoded};
use crate::session::{Device, ModelFiles, ModelKind, ModelSource, Options};
use crate::tensor::Size;
use outputs::Outputs;
use preview::Preview;

/// The model where none is named.
pub(super) const DEFAULT_MODEL: &str = "builtin:shapes-gpt";

/// Most memory that the frames of an animation may take, in bytes.
const MAX_FRAME_BYTES: u64 = 2 << 30;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &GenerateArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    if let Some(flag) = args.write.given() {
        return texts::run(args, super::texts::find(&args.model, flag, talk)?, talk, out);
    }
    if args.format.is_some() {
        let what = "--format is for texts, and there is no --prompt";
        return Err(Error::usage(what, "the kind of an image is told by the extension of -o").into());
    }
    [&args.what.init_image, &args.what.reproduce]
        .into_iter()
        .flatten()
        .try_for_each(|p| outfile::protect(p))?;
    let outputs = Outputs::create(&args.files)?;
    if outputs.is_empty() && !args.stats && args.preview != When::Always {
        return Err(Stop::from(Error::usage(
            "there is nothing to write",
            "name an image with -o FILE.png, or see --animate, --entropy and --tokens; for a text pass --prompt",
        )));
    }
    let again = args.what.reproduce.as_deref().map(Recipe::read).transpose()?;
    let primer =
        args.what.init_image.as_deref().map(|path| image::decode_file(path, &DecodeOptions::default()));
    let primer = primer.transpose()?;

    let mut model = args.model.clone();
    let mut device = args.device.clone();
    if let Some(again) = &again {
        model.model = model.model.or_else(|| Some(again.model.clone().into()));
        if device.dtype == DtypeArg::Auto && again.dtype == "f16" {
            device.dtype = DtypeArg::F16;
        }
    }
    let options = open::options(&device, !model.no_mmap, talk)?;
    let located = locate_or(&model, DEFAULT_MODEL, talk).map_err(|e| match (e, &args.what.reproduce) {
        // Nobody typed it.
        (Error::Model { model, what, .. }, Some(file)) if args.model.model.is_none() => {
            let what = format!("{what}; {} names it", file.display());
            Error::model(model, what, "pass -m with the place where the model is now")
        }
        (e, _) => e,
    })?;
    let by_path = located.source == ModelSource::Path((&located.id).into());
    let found = located.read(options.mmap)?;
    found.expect(ModelKind::Generator)?;
    let weights = fingerprint(&found.files)?;
    let id = found.id.clone();
    let files = &args.files;

    let looked = look(&found, &options)?;
    let mut recipe = match again {
        Some(recipe) => {
            let recipe = Recipe { model: id.clone(), ..recipe };
            recipe.check(looked.info())?;
            recipe
        }
        None => {
            let dtype = options.precision.unwrap_or_default().to_string();
            Recipe::new(&wishes(args, &id, &looked)?, (id.clone(), dtype), looked.info(), looked.labels())?
        }
    };
    if let (Some(then), Some(file)) = (&recipe.weights, &args.what.reproduce)
        && *then != weights
    {
        talk.warn(format_args!(
            "the weights of {id} are not those that {} was drawn with: the images will differ",
            file.display()
        ));
    }
    recipe.weights = Some(weights);
    if by_path {
        recipe.model = hub::as_path(&id);
    }
    recipe.columns = files.columns.or(recipe.columns);
    recipe.zoom = files.zoom.unwrap_or(recipe.zoom);
    let kept = args.what.keep_rows.map(|keep| Recipe::kept_rows(keep, looked.info())).transpose()?;
    let given = kept.map_or(recipe.prime.len(), |rows| rows * looked.info().grid[1]);
    let shown = Shown::new(args, &outputs, (&recipe, given), looked.info(), talk)?;

    let generator = if options.device == Device::Reference {
        looked
    } else {
        Generator::from_files(found.files, &options)?
    };
    open::say_device(generator.device(), talk);
    let mut said = Said { talk, count: 0 };
    said.warnings(&generator);
    if args.how.seed.is_none() && args.what.reproduce.is_none() {
        talk.note(format_args!("seed {} (--seed {} draws the same again)", recipe.seed, recipe.seed));
    }
    if let (Some(primer), Some(path), Some(rows)) = (&primer, &args.what.init_image, kept) {
        recipe.prime = prime(&generator, primer, path, rows, talk)?;
    }
    draw(args, (&generator, &recipe), outputs, shown, &mut said, out)
}

/// By which the weights of a model are known again.
///
/// # Errors
/// As reading the weights.
fn fingerprint(files: &ModelFiles) -> Result<String> {
    let codec = files.codec.as_ref().map(Checkpoint::fingerprint).transpose()?.unwrap_or_default();
    Ok(files.checkpoint.fingerprint()? + &codec)
}

/// What the flags say of the samples.
///
/// # Errors
/// [`Error::Usage`] for a class that the model does not have.
fn wishes(args: &GenerateArgs, id: &str, looked: &Generator) -> Result<Wishes> {
    let (what, how) = (&args.what, &args.how);
    if let (Some(class), None) = (what.class.first(), looked.info().classes) {
        let what = format!("--class {class}: {id} has no classes");
        return Err(Error::usage(what, "leave --class away; -n COUNT draws several images"));
    }
    let find = |text: &String| {
        looked.labels().find(text).map_err(|e| match e {
            Error::Usage { what, help } => Error::usage(format!("--class: {what}"), help),
            other => other,
        })
    };
    Ok(Wishes {
        classes: what.class.iter().map(find).collect::<Result<_>>()?,
        count: what.count.map(|n| n as usize),
        seed: how.seed,
        temperature: how.temperature,
        top_k: how.top_k,
        top_p: how.top_p,
        cfg_scale: how.cfg_scale,
        cfg_schedule: how.cfg_schedule.map(Into::into),
        order: how.order.map(Into::into),
        steps: how.num_steps,
    })
}

/// The model without a device: what it is and what its classes are called.
pub(super) fn look(found: &Found, options: &Options) -> Result<Generator> {
    let options = Options { device: Device::Reference, ..options.clone() };
    Generator::from_files(found.files.clone(), &options)
}

/// What is shown while it grows, and how often.
struct Shown {
    sheet: Option<Sheet>,
    preview: Option<Preview>,
    every: usize,
}

impl Shown {
    /// # Errors
    /// [`Error::Usage`] if a sheet, or all frames together, would be too large.
    fn new(
        args: &GenerateArgs,
        outputs: &Outputs,
        (recipe, given): (&Recipe, usize),
        info: &GeneratorInfo,
        talk: Talk,
    ) -> Result<Self> {
        let preview = Preview::new(args.preview, talk.is_quiet());
        let frames = outputs.has_frames();
        let one = outputs.gallery.as_ref().is_some_and(|g| !g.is_each());
        let count = recipe.samples.len();
        if outputs.gallery.is_some() {
            Sheet::new(1, None, info.image_size, recipe.zoom)?;
        }
        let sheet = if frames || one || preview.is_some() {
            Some(Sheet::new(count, recipe.columns, info.image_size, recipe.zoom)?)
        } else {
            None
        };
        let drawn = info.tokens.saturating_sub(given).max(1);
        let wanted = args.files.every.map(|k| (k as usize).min(info.tokens));
        let every = match wanted {
            Some(every) if frames || preview.is_some() => every,
            None if frames || preview.is_some() => drawn.div_ceil(FRAMES - 2),
            // The count alone, so that nothing is read back.
            _ => 0,
        };
        if let Some(sheet) = sheet.filter(|_| frames) {
            let [width, height] = sheet.size().map(u64::from);
            let count = wanted.map_or(FRAMES, |k| info.tokens.div_ceil(k.max(1)) + 2) as u64;
            if width * height * 3 * count > MAX_FRAME_BYTES {
                let what = format!("{count} frames of {width}x{height} pixels are too many");
                return Err(Error::usage(what, "take a larger --every, or a smaller --zoom or -n"));
            }
        }
        let sheet = sheet.filter(|_| frames || preview.is_some());
        Ok(Self { sheet, preview, every })
    }
}

/// Warnings of the model that were said already.
struct Said {
    talk: Talk,
    count: usize,
}

impl Said {
    fn warnings(&mut self, generator: &Generator) {
        let warnings = generator.warnings();
        for warning in warnings.iter().skip(self.count) {
            self.talk.warn(escaped(warning));
        }
        self.count = warnings.len();
    }
}

/// The tokens of the upper rows of an image.
fn prime(generator: &Generator, primer: &Decoded, path: &Path, rows: usize, talk: Talk) -> Result<Vec<u32>> {
    let Size { height, width } = generator.info().image_size;
    if [primer.height, primer.width] != [height, width] {
        let name = path.display().to_string();
        talk.note(format_args!(
            "{} is {}x{} pixels: it is resized and cropped to {width}x{height}",
            escaped(&name),
            primer.width,
            primer.height
        ));
    }
    let mut tokens = generator.encode(&generator.fit(primer)?)?;
    tokens.truncate(rows * generator.info().grid[1]);
    Ok(tokens)
}

/// Draws, shows and writes.
fn draw(
    args: &GenerateArgs,
    (generator, recipe): (&Generator, &Recipe),
    outputs: Outputs,
    shown: Shown,
    said: &mut Said,
    out: &mut impl Write,
) -> Outcome {
    let talk = said.talk;
    let info = generator.info();
    let request = recipe.request(info, shown.every);
    let samples = request.classes.len();
    let mut bar =
        shown.preview.is_none().then(|| talk.progress("tokens", (samples * info.tokens) as u64, false));
    let begun = (samples, recipe.prime.as_slice());
    let show = shown.preview.map(|mut preview| Box::new(move |image: &_| preview.show(image)) as Show<'_>);
    let mut growth = Growth::new(generator, begun, shown.sheet, show, outputs.has_frames())?;
    let generated = generator.generate(&request, &mut |progress| {
        if let Some(bar) = &mut bar {
            // Batches come one after the other.
            let done = progress.samples.start * progress.total + progress.samples.len() * progress.done;
            bar.at(done as u64);
        }
        growth.report(progress)
    });
    said.warnings(generator);
    let generated = generated?;

    let start = Instant::now();
    let wanted = outputs.gallery.is_some() || outputs.entropy.is_some() || growth.is_drawn();
    let pictures = if wanted { generator.decode(&generated.tokens)? } else { Vec::new() };
    let decoding = start.elapsed();
    drop(bar);
    growth.end(&pictures);
    if outputs.has_frames() {
        let frames = growth.frames(&pictures, args.files.every.is_none())?;
        write_frames(&frames, &outputs.steps, outputs.animation, recipe, talk)?;
    }
    if let Some((file, kind)) = outputs.entropy {
        let map = entropy::draw(info, &pictures, &generated.entropy, recipe.prime.len(), recipe.columns)?;
        let bytes = kind.encode(&map, None, &file.path)?;
        file.finish(&bytes)?;
    }
    if let Some(file) = outputs.tokens {
        file.finish(tokenfile::write(&recipe.model, info, Some(recipe), &generated.tokens).as_bytes())?;
    }
    if let Some(gallery) = outputs.gallery {
        talk.note(escaped(&gallery.write(&pictures, recipe.columns, recipe.zoom, Some(recipe))?));
    }
    if args.stats {
        let drawn = info.tokens - recipe.prime.len();
        let decoding = (!pictures.is_empty()).then_some(decoding);
        out.write_all(stats(&generated.stats, drawn, decoding).as_bytes())?;
    }
    Ok(0)
}

fn write_frames(
    frames: &[::image::RgbImage],
    steps: &Option<outputs::Folder>,
    animation: Option<(Begun, sheet::Kind)>,
    recipe: &Recipe,
    talk: Talk,
) -> Result<()> {
    if let Some(folder) = steps {
        let digits = frames.len().to_string().len().max(3);
        for (i, frame) in frames.iter().enumerate() {
            let name = format!("step-{i:0digits$}.png");
            let bytes = sheet::Kind::Png.encode(frame, None, Path::new(&name))?;
            folder.write(&name, &bytes)?;
        }
    }
    if let Some((file, kind)) = animation {
        let delays = animation::delays(frames.len());
        let wrong = |what: String| Error::Write { path: file.path.display().to_string(), what };
        let bytes = match kind {
            sheet::Kind::Gif => animation::gif(frames, &delays).map_err(|e| wrong(e.to_string()))?,
            _ => animation::apng(frames, &delays, Some(&recipe.text())).map_err(|e| wrong(e.to_string()))?,
        };
        talk.note(format_args!("{} frames in {}", frames.len(), escaped(&file.path.display().to_string())));
        file.finish(&bytes)?;
    }
    Ok(())
}

/// How fast it was. `drawn`: tokens of each sample that were drawn.
fn stats(stats: &Stats, drawn: usize, decoding: Option<Duration>) -> String {
    let millis = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
    let seconds = stats.decode.as_secs_f64().max(1e-9);
    // The first token is the prompt's.
    let tokens = stats.samples * drawn.saturating_sub(1);
    let mut out = format!("samples            {}, {} at a time\n", stats.samples, stats.batch);
    out += &format!("prompt             {}\n", millis(stats.prompt));
    out += &format!("first token        {}\n", millis(stats.first_token));
    out += &format!("decode             {tokens} tokens in {}\n", millis(stats.decode));
    out += &format!("tokens/s           {:.1}\n", tokens as f64 / seconds);
    if let Some(decoding) = decoding {
        out += &format!("images             {}\n", millis(decoding));
    }
    if stats.launches_per_step == 0 {
        // The reference has neither launches nor a memory to speak of.
        return out;
    }
    out += &format!("steps              {}, {} launches each\n", stats.steps, stats.launches_per_step);
    let bytes = stats.bytes_per_step as f64 * stats.steps as f64;
    out += &format!("decode GB/s        {:.2}\n", bytes / seconds / 1e9);
    out
}
