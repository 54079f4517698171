//! Where everything that is drawn goes. Every path is tried before any work is done, so that
//! what cannot be written costs nothing; files are there whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::generate::args::FileArgs;
use crate::cli::outfile::{self, OutFile, distinct};
use crate::cli::sink::expect_kind;
use crate::error::{Error, Result};
use crate::generate::GeneratedImage;
use crate::generate::recipe::Recipe;
use crate::render::sheet::{Kind, Sheet};
use crate::tensor::Size;

/// A file that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) path: PathBuf,
    file: OutFile,
}

impl Begun {
    /// Begins a file named by `flag`.
    ///
    /// # Errors
    /// [`Error::Write`] if nothing can be written there.
    pub(crate) fn new(path: &Path, flag: &str) -> Result<Self> {
        let file = OutFile::create(path).map_err(|e| unwritable(e, flag))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes it and puts it in its place.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<()> {
        self.file.finish(bytes)
    }
}

/// An output that cannot be written, with the flag that named it.
fn unwritable(e: Error, flag: &str) -> Error {
    match e {
        Error::Write { path, what } => Error::Write { path, what: format!("{what} ({flag})") },
        other => other,
    }
}

/// A folder for files, made if it was not there, and taken away again if nothing came into it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    made: bool,
}

impl Folder {
    fn new(path: &Path, flag: &str) -> Result<Self> {
        let wrong = |e: std::io::Error| {
            unwritable(Error::Write { path: path.display().to_string(), what: e.to_string() }, flag)
        };
        let made = !path.is_dir();
        if made {
            fs::create_dir(path).map_err(wrong)?;
            outfile::remove_if_empty(path);
        }
        let folder = Self { path: path.to_owned(), made };
        drop(OutFile::create(&path.join("try")).map_err(|e| unwritable(e, flag))?);
        Ok(folder)
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        OutFile::create(&self.path.join(name))?.finish(bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.made {
            // Only succeeds where it is empty.
            _ = fs::remove_dir(&self.path);
        }
    }
}

/// Where images go.
#[derive(Debug)]
pub(crate) enum Gallery {
    /// All on one sheet.
    Sheet(Begun, Kind),
    /// Each in a file of a folder.
    Folder(Folder),
    /// Each in a file of its own beside this one.
    Beside(PathBuf, Kind),
}

impl Gallery {
    /// What `-o` means, with `--files` or without.
    ///
    /// # Errors
    /// [`Error::Usage`] if it means nothing, [`Error::Write`] if it cannot be written.
    pub(crate) fn new(path: &Path, each: bool, flag: &str) -> Result<Self> {
        let text = path.as_os_str().as_encoded_bytes();
        if text.is_empty() {
            return Err(Error::usage(format!("{flag} names no file"), "name a file, or a folder with `/`"));
        }
        let slash = text.ends_with(b"/") || text.ends_with(std::path::MAIN_SEPARATOR_STR.as_bytes());
        if slash || path.is_dir() {
            return Folder::new(path, flag).map(Gallery::Folder);
        }
        let kind = Kind::of(path, flag)?;
        if each {
            drop(Begun::new(path, flag)?);
            return Ok(Gallery::Beside(path.to_owned(), kind));
        }
        Ok(Gallery::Sheet(Begun::new(path, flag)?, kind))
    }

    /// Whether every sample gets its own file.
    pub(crate) fn is_each(&self) -> bool {
        !matches!(self, Gallery::Sheet(..))
    }

    /// Writes the images, and yields what to tell people of it. `recipe` goes into PNG files.
    ///
    /// # Errors
    /// [`Error::Write`], and as [`Sheet::new`].
    pub(crate) fn write(
        self,
        pictures: &[GeneratedImage],
        columns: Option<u32>,
        zoom: u32,
        recipe: Option<&Recipe>,
    ) -> Result<String> {
        let Some(first) = pictures.first() else { return Ok("nothing to write".to_owned()) };
        let size = Size::new(first.height, first.width);
        let each = |path: &dyn Fn(usize) -> PathBuf, kind: Kind| -> Result<()> {
            let sheet = Sheet::new(1, None, size, zoom)?;
            for (i, picture) in pictures.iter().enumerate() {
                let path = path(i);
                let text = recipe.map(|r| r.only(i).text());
                let drawn = sheet.draw(std::slice::from_ref(picture));
                OutFile::create(&path)?.finish(&kind.encode(&drawn, text.as_deref(), &path)?)?;
            }
            Ok(())
        };
        let number = |i: usize| recipe.and_then(|r| r.samples.get(i)).map_or(i, |s| s.sample);
        let digits = number(pictures.len() - 1).to_string().len();
        match self {
            Gallery::Sheet(file, kind) => {
                let sheet = Sheet::new(pictures.len(), columns, size, zoom)?;
                let text = recipe.map(Recipe::text);
                let bytes = kind.encode(&sheet.draw(pictures), text.as_deref(), &file.path)?;
                let path = file.path.clone();
                file.finish(&bytes)?;
                Ok(counted(pictures.len(), &path.display().to_string()))
            }
            Gallery::Folder(folder) => {
                let path = |i: usize| {
                    let name = recipe.and_then(|r| r.samples.get(i)).and_then(|s| s.name.as_deref());
                    let name =
                        name.map(slug).filter(|n| !n.is_empty()).map_or(String::new(), |n| format!("-{n}"));
                    folder.path.join(format!("{:0digits$}{name}.png", number(i)))
                };
                each(&path, Kind::Png)?;
                Ok(counted(pictures.len(), &folder.path.display().to_string()))
            }
            Gallery::Beside(path, kind) => {
                let name = |i: usize| {
                    let mut name = path.file_stem().unwrap_or_default().to_owned();
                    name.push(format!("-{:0digits$}.", number(i)));
                    name.push(path.extension().unwrap_or_default());
                    path.with_file_name(name)
                };
                each(&name, kind)?;
                let last = name(pictures.len() - 1);
                Ok(format!(
                    "{} to {}",
                    counted(pictures.len(), &name(0).display().to_string()),
                    last.display()
                ))
            }
        }
    }
}

fn counted(count: usize, place: &str) -> String {
    format!("{count} image{} in {place}", if count == 1 { "" } else { "s" })
}

/// A class's first name as a part of a file name.
fn slug(name: &str) -> String {
    let first = name.split(',').next().unwrap_or_default().trim();
    let plain = |c: char| if c.is_alphanumeric() { c } else { '-' };
    first.chars().map(plain).take(40).collect::<String>().trim_matches('-').to_owned()
}

/// Everything that `generate` writes.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) gallery: Option<Gallery>,
    pub(super) animation: Option<(Begun, Kind)>,
    pub(super) steps: Option<Folder>,
    pub(super) entropy: Option<(Begun, Kind)>,
    pub(super) tokens: Option<Begun>,
}

impl Outputs {
    /// Begins every file that is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] for what cannot be written, two outputs in one file, or one in place of an input.
    pub(super) fn create(args: &FileArgs) -> Result<Self> {
        let named: Vec<(&str, &Path)> = [
            ("-o", &args.output),
            ("--animate", &args.animate),
            ("--frames-dir", &args.frames_dir),
            ("--entropy", &args.entropy),
            ("--tokens", &args.tokens),
        ]
        .into_iter()
        .filter_map(|(flag, path)| path.as_deref().map(|p| (flag, p)))
        .collect();
        distinct(&named)?;
        args.tokens.as_deref().map_or(Ok(()), |path| expect_kind(path, "--tokens", "json"))?;
        let kind =
            |path: &Option<PathBuf>, flag: &str| path.as_deref().map(|p| Kind::of(p, flag)).transpose();
        let animated = kind(&args.animate, "--animate")?;
        if let (Some(Kind::Other(_)), Some(path)) = (animated, &args.animate) {
            let what = format!("--animate {}: no animation of this kind is written", path.display());
            return Err(Error::usage(what, "name it .gif or .png"));
        }
        let mapped = kind(&args.entropy, "--entropy")?;
        let begin =
            |path: &Option<PathBuf>, flag: &str| path.as_deref().map(|p| Begun::new(p, flag)).transpose();
        Ok(Self {
            gallery: args.output.as_deref().map(|p| Gallery::new(p, args.files, "-o")).transpose()?,
            animation: begin(&args.animate, "--animate")?.zip(animated),
            steps: args.frames_dir.as_deref().map(|p| Folder::new(p, "--frames-dir")).transpose()?,
            entropy: begin(&args.entropy, "--entropy")?.zip(mapped),
            tokens: begin(&args.tokens, "--tokens")?,
        })
    }

    /// Whether nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.gallery.is_none() && self.entropy.is_none() && self.tokens.is_none() && !self.has_frames()
    }

    /// Whether the growth is shown in files.
    pub(super) fn has_frames(&self) -> bool {
        self.animation.is_some() || self.steps.is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_file_names() {
        assert_eq!(slug("tench, Tinca tinca"), "tench");
        assert_eq!(slug("../a b/c"), "a-b-c");
        assert_eq!(slug(" , "), "");
    }

    #[test]
    fn folders_are_made_and_left_only_with_files() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("new");
        let slashed = PathBuf::from(format!("{}/", at.display()));
        drop(Gallery::new(&slashed, false, "-o").unwrap());
        assert!(!at.exists());
        let picture = GeneratedImage { height: 2, width: 2, pixels: vec![7; 12] };
        let pictures = vec![picture; 11];
        let said = Gallery::new(&slashed, false, "-o").unwrap().write(&pictures, None, 2, None).unwrap();
        assert_eq!(said, format!("11 images in {}", slashed.display()));
        assert_eq!(fs::read_dir(&at).unwrap().count(), 11);
        assert_eq!(image::open(at.join("03.png")).unwrap().to_rgb8().dimensions(), (4, 4));
        let path = at.join("a.jpg");
        let beside = Gallery::new(&path, true, "-o").unwrap();
        assert!(beside.is_each());
        beside.write(&pictures[..2], None, 1, None).unwrap();
        assert!(at.join("a-0.jpg").exists() && at.join("a-1.jpg").exists() && !path.exists());
    }

    #[test]
    fn one_place_for_one_thing() {
        let (a, b) = (Path::new("a.png"), Path::new("./a.png"));
        assert!(distinct(&[("-o", a), ("--animate", b)]).is_err());
        assert!(distinct(&[("-o", a), ("--animate", Path::new("b.png"))]).is_ok());
        let e = Gallery::new(Path::new("no/such/a.png"), false, "-o").unwrap_err();
        assert!(matches!(&e, Error::Write { what, .. } if what.contains("there is no folder")), "{e}");
    }
}
