//! What was found, printed or on a sheet.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::Listing;
use super::asked::Query;
use crate::cli::open::Opened;
use crate::cli::output::{Printed, Report, Timing, field};
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::image::{DecodeOptions, decode_file};
use crate::printable::escaped;
use crate::render::contact::{self, Picture};
use crate::search::{Hit, Index};

/// Most images on a sheet.
const MAX_SHEET: usize = 1000;

/// An image that was found.
#[derive(Debug, Clone, Serialize)]
struct Row {
    /// The words, or the image, that were looked for.
    query: String,
    /// From 1.
    rank: usize,
    /// The cosine.
    score: f32,
    /// As it was named, or its absolute path.
    path: String,
}

impl Printed for Row {
    fn text(&self, out: &mut impl Write, _: bool) -> std::io::Result<()> {
        writeln!(out, "{:>7.3}  {}", self.score, escaped(&self.path))
    }

    fn csv(&self, out: &mut impl Write, _: bool) -> std::io::Result<()> {
        let Self { query, rank, score, path } = self;
        write!(out, "{},{rank},{score},{}\r\n", field(query), field(path))
    }
}

/// Refuses a sheet that nobody could look at.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn check_sheet(count: usize) -> Result<()> {
    if count <= MAX_SHEET {
        return Ok(());
    }
    let what = format!("{count} images on one sheet are more than {MAX_SHEET}");
    Err(Error::usage(what, "take a smaller -n, or leave --sheet away"))
}

/// The images that were found, best first.
pub(super) struct Found {
    rows: Vec<Row>,
}

impl Found {
    /// # Errors
    /// [`Error::Input`] if there are none, and for a damaged index.
    pub(super) fn new(
        query: &Query,
        index: &Index,
        hits: Vec<Hit>,
        min_score: Option<f32>,
        files: &BTreeMap<PathBuf, &Path>,
        talk: Talk,
    ) -> Result<Self> {
        let query = match query {
            Query::Words(words) => words.clone(),
            Query::Image(input) => input.name(),
            Query::None => String::new(),
        };
        let Some(best) = hits.first().copied() else {
            let what = "none of the images that are named is in the index";
            return Err(Error::input(query, what, "see above why they could not be read"));
        };
        let mut rows = Vec::new();
        for Hit { row, score } in hits {
            if min_score.is_some_and(|least| score < least) {
                break;
            }
            let path = index.image(row)?.path;
            let named = files.get(Path::new(&path)).map(|named| named.to_string_lossy().into_owned());
            let (query, rank, path) = (query.clone(), rows.len() + 1, named.unwrap_or(path));
            // Rounding must not make a cosine of more than 1.
            rows.push(Row { query, rank, score: score.clamp(-1.0, 1.0), path });
        }
        if rows.is_empty() {
            let what = format!("nothing scores as much: the best is {:.3}", best.score);
            return Err(Error::input(query, what, "pass a smaller --min-score, or leave it away"));
        }
        let gone = rows.iter().filter(|row| !Path::new(&row.path).exists()).count();
        if gone > 0 {
            talk.warn(format_args!(
                "{gone} of the images found are not there any more; name their folder to bring the index up to date"
            ));
        }
        Ok(Self { rows })
    }

    /// Prints them.
    pub(super) fn print(
        self,
        out: &mut Sink<'_, Listing>,
        opened: &Opened,
        timing: Timing,
    ) -> std::io::Result<()> {
        let format = out.format.format();
        let mut report = Report::new(out, format, false);
        report.begin("query,rank,score,path")?;
        self.rows.into_iter().try_for_each(|row| report.row(row))?;
        report.end(&opened.model, &opened.device, timing)
    }

    /// All of them beside each other, with their scores.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn sheet(&self, path: &Path, decoding: &DecodeOptions, talk: Talk) -> Result<Vec<u8>> {
        let pictures = self.rows.iter().map(|row| {
            let name = Path::new(&row.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut picture = Picture::empty([format!("{:.3}", row.score), name]);
            match decode_file(&row.path, decoding) {
                Ok(decoded) => picture.show(decoded.rgb, decoded.width, decoded.height),
                Err(e) => talk.warn(format_args!("left white on the sheet: {}", escaped(&e.message()))),
            }
            picture
        });
        contact::png(&pictures.collect::<Vec<_>>()).map_err(|e| match e {
            Error::Write { what, .. } => Error::Write { path: path.display().to_string(), what },
            other => other,
        })
    }
}
