//! Images with captions: a list with the fields `image` and `text`, or a folder in which a text file of the same name
//! lies beside each image (`a/1.jpg`, `a/1.txt`). A caption is a class of an [`ImageSet`], and equal ones are one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::folder::{self, read_pictures};
use super::lists::{self, both};
use super::{ImageSet, Images};
use crate::error::{Error, Result};
use crate::textfile;

/// Most bytes of a file that is one caption.
const MOST: u64 = 64 << 10;

/// Whether the data is images with captions.
pub fn has_captions(path: &Path) -> bool {
    match path.is_dir() {
        true if lists::has_texts(path) => lists::fields_of(path).is_ok_and(|f| f == lists::Fields::Captions),
        true => folder::first_image(path).is_some_and(|image| image.with_extension("txt").is_file()),
        false => lists::fields_of(path).is_ok_and(|fields| fields == lists::Fields::Captions),
    }
}

/// Images with captions to train on, and to validate on: of a list, or of `train.*` and `validation.*` in a folder,
/// whose images are named from where it lies; else of a folder with a text file beside each image. A share `split`,
/// chosen by `seed`, is kept for validation where nothing else is there for it.
///
/// # Errors
/// [`Error::Input`] for what cannot be read, an image that is not there, and an image without a caption.
pub fn read_captions(path: &Path, split: f64, seed: u64) -> Result<[ImageSet; 2]> {
    let sets = if path.is_dir() && !lists::has_texts(path) {
        let pictures = read_pictures(path, split, seed)?;
        let [training, held_out] = pictures.map(|set| match set.images {
            Images::Files(files) => files.into_iter().map(|(file, _)| beside(file)).collect(),
            Images::Shapes { .. } => Ok(vec![]),
        });
        [training?, held_out?]
    } else {
        both(path, split, seed, &list)?
    };
    Ok(numbered(sets))
}

/// An image and the text that lies beside it.
fn beside(image: PathBuf) -> Result<(PathBuf, String)> {
    let file = image.with_extension("txt");
    let wrong = |what: &str| Error::input(file.display(), what, "put a caption of the image into it");
    let length = fs::metadata(&file).map_err(|e| wrong(&format!("cannot be read: {e}")))?.len();
    if length > MOST {
        return Err(wrong("is too long for a caption"));
    }
    let bytes = fs::read(&file).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let text = textfile::text(&bytes).map_err(|what| wrong(&what))?;
    let caption = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if caption.is_empty() { Err(wrong("is empty")) } else { Ok((image, caption)) }
}

fn list(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let root = path.parent().unwrap_or(Path::new(""));
    let records = lists::records(path, &["image", "caption"], &[])?.into_iter();
    let read = records.map(|record| {
        let mut fields = record.fields.into_iter().map(Option::unwrap_or_default);
        let (image, caption) =
            (root.join(fields.next().unwrap_or_default()), fields.next().unwrap_or_default());
        let wrong =
            |what: String, help| Error::input(path.display(), format!("line {}: {what}", record.line), help);
        if caption.trim().is_empty() {
            return Err(wrong("the caption is empty".to_owned(), "write one, or leave the image out"));
        }
        if !fs::metadata(&image).is_ok_and(|found| found.is_file()) {
            let help = "images are named from the folder of the list";
            return Err(wrong(format!("there is no image {}", image.display()), help));
        }
        Ok((image, caption.trim().to_owned()))
    });
    read.collect()
}

/// Equal captions are one class, in the order in which they come.
fn numbered(sets: [Vec<(PathBuf, String)>; 2]) -> [ImageSet; 2] {
    let (mut captions, mut numbers) = (Vec::new(), BTreeMap::new());
    let sets = sets.map(|set| {
        let number = |(file, caption): (PathBuf, String)| {
            let next = captions.len() as u32;
            let number = *numbers.entry(caption.clone()).or_insert(next);
            if number == next {
                captions.push(caption);
            }
            (file, number)
        };
        set.into_iter().map(number).collect::<Vec<_>>()
    });
    sets.map(|files| ImageSet { classes: captions.clone(), images: Images::Files(files) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn shown([training, held_out]: &[ImageSet; 2]) -> Vec<(String, String)> {
        assert_eq!(training.classes, held_out.classes);
        let mut all = Vec::new();
        for set in [training, held_out] {
            let Images::Files(files) = &set.images else { panic!() };
            for (file, label) in files {
                let name = file.file_name().unwrap().to_str().unwrap().to_owned();
                all.push((name, set.classes[*label as usize].clone()));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn lists_and_files_beside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, caption) in [("1", "a red star"), ("2", " a blue\nring "), ("3", "a red star")] {
            fs::write(at(&format!("{name}.png")), "").unwrap();
            fs::write(at(&format!("{name}.txt")), caption).unwrap();
        }
        let want = [("1.png", "a red star"), ("2.png", "a blue ring"), ("3.png", "a red star")];
        let want: Vec<_> = want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert!(has_captions(folder.path()));
        let sets = read_captions(folder.path(), 0.3, 0).unwrap();
        assert_eq!((shown(&sets), sets[0].classes.len()), (want.clone(), 2));
        fs::write(at("list.jsonl"), "{\"file_name\":\"1.png\",\"caption\":\"a red star\"}\n{\"image\":\"2.png\",\"text\":\"a blue ring\"}\n").unwrap();
        assert!(has_captions(&at("list.jsonl")));
        assert_eq!(shown(&read_captions(&at("list.jsonl"), 0.5, 0).unwrap()), want[..2]);
        let refused = |list: &str| {
            fs::write(at("list.tsv"), list).unwrap();
            read_captions(&at("list.tsv"), 0.5, 0).unwrap_err().message()
        };
        assert!(refused("image\tcaption\n9.png\ta\n").contains("line 2: there is no image"));
        assert!(refused("image\tcaption\n1.png\t \n").contains("line 2"));
        fs::remove_file(at("2.txt")).unwrap();
        assert!(read_captions(folder.path(), 0.3, 0).unwrap_err().message().contains("2.txt"));
    }
}
